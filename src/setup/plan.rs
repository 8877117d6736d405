//! What a set-up is to make, to be shown or to be done.

use std::path::{Path, PathBuf};
use std::process::Command;

use zeroize::Zeroizing;

use super::journal::Journal;
use super::{Place, SetupError, service};
use crate::process::routes::{self, Role};

/// Everything that one side needs.
pub(super) struct Plan<'a> {
    pub(super) place: &'a Place,
    /// `remote` or `local`.
    pub(super) side: &'static str,
    /// The text of the configuration, with the key.
    pub(super) config: Zeroizing<String>,
    /// What the portal calls at its start, to be shown: roles and their options.
    pub(super) roles: Vec<(Role, Vec<String>)>,
}

/// What happened.
pub(super) struct Applied {
    pub(super) changed: bool,
    pub(super) notes: Vec<String>,
}

impl Plan<'_> {
    /// The journal to go on with; a new one if nothing is set up.
    pub(super) fn journal(&self) -> Result<Journal, SetupError> {
        let place = self.place;
        match Journal::load(place)? {
            Some(journal) if journal.side == self.side => Ok(journal),
            Some(journal) => Err(SetupError::new(format!(
                "it is set up as the {} portal; `netcombiner setup undo {}` takes that back",
                journal.side, place.interface
            ))),
            None if service::is_running(place)? => {
                Err(SetupError::new("it runs already, and not by `netcombiner setup`; stop it first"))
            }
            None => Ok(Journal::new(self.side)),
        }
    }

    /// Makes everything that is not there yet. If a first set-up fails, what it made is undone.
    pub(super) fn apply(&self, mut journal: Journal) -> Result<Applied, SetupError> {
        let is_first = Journal::load(self.place)?.is_none();
        let applied = self.make(&mut journal);
        if applied.is_err() && is_first {
            // The reason for the failure is worth more than that of a second one.
            let _ = journal.undo(self.place, false);
        }
        applied
    }

    fn make(&self, journal: &mut Journal) -> Result<Applied, SetupError> {
        let place = self.place;
        let mut notes = Vec::new();
        if service::has_systemd(place) {
            service::must_be_installed(place)?;
        }
        journal.make_directory(place, &place.state_dir)?;
        journal.save(place)?;
        journal.make_directory(place, &place.etc_dir)?;
        let had_config = place.config().exists();
        let changed = journal.write_file(place, (&place.config(), &self.config, 0o600), false)?;
        if changed && had_config {
            notes.push(format!(
                "{} is replaced; `setup undo` puts the old one back",
                place.config().display()
            ));
        }
        journal.expect_directory(place, place.run_dir.path())?;
        let started = if service::has_systemd(place) {
            self.make_unit(journal, changed)?
        } else {
            let started = self.make_process(journal, changed)?;
            if started {
                notes.push(
                    "systemd does not run here: the portal was started, but not for the next boot".to_owned(),
                );
            }
            started
        };
        let changed = changed || started;
        Ok(Applied { changed, notes })
    }

    fn make_unit(&self, journal: &mut Journal, changed: bool) -> Result<bool, SetupError> {
        let (place, name) = (self.place, service::unit_name(self.place));
        if let Some(unit) = service::unit(place)
            && !Path::new(service::UNIT_FILE).exists()
        {
            journal.write_file(place, (Path::new(service::UNIT_FILE), &unit, 0o644), true)?;
            service::systemctl(&["daemon-reload"])?;
        }
        // It fails where the unit is not enabled.
        let enabled = service::systemctl(&["is-enabled", &name]).is_ok();
        if !enabled {
            journal.note_enabled(place, &name)?;
            service::systemctl(&["enable", &name])?;
        }
        let running = service::is_running(place)?;
        if changed || !running {
            service::systemctl(&["restart", &name])
                .map_err(|error| SetupError::new(format!("{error} (journalctl -u {name} tells more)")))?;
        }
        Ok(!running || !enabled)
    }

    fn make_process(&self, journal: &mut Journal, changed: bool) -> Result<bool, SetupError> {
        let place = self.place;
        let running = service::is_running(place)?;
        if running && !changed {
            return Ok(false);
        }
        if running {
            service::stop(place)?;
        }
        journal.note_started(place)?;
        service::start(place)?;
        Ok(true)
    }

    /// Every file and command, without the secret.
    pub(super) fn show(&self) -> Result<String, SetupError> {
        let place = self.place;
        let mut text = file(&place.config(), 0o600, &without_key(&self.config));
        if service::has_systemd(place) {
            if let Some(unit) = service::unit(place).filter(|_| !Path::new(service::UNIT_FILE).exists()) {
                text += &file(&PathBuf::from(service::UNIT_FILE), 0o644, &unit);
                text += "systemctl daemon-reload\n";
            }
            text += &format!("systemctl enable --now {}\n", service::unit_name(place));
        } else {
            text += &format!("{}\n", line(&service::start_command(place)));
        }
        for (role, options) in &self.roles {
            let words = options.iter().flat_map(|option| option.split(' '));
            let arguments = ["up", place.interface.as_str(), "--dry-run"].into_iter().chain(words);
            let mut command = routes::command(*role, arguments);
            command.arg("--run-dir").arg(place.run_dir.path());
            text += &format!("\n# The portal does at its start, and undoes at its end ({}):\n", role.name());
            text += &service::run(&mut command)?;
        }
        Ok(text)
    }
}

fn file(path: &Path, mode: u32, text: &str) -> String {
    format!("install -m {mode:o} /dev/stdin {} <<'EOF'\n{text}EOF\n", path.display())
}

/// The configuration with the key taken out.
fn without_key(config: &str) -> String {
    let hide = |line: &str| {
        if line.starts_with("Key = ") { "Key = (the key)\n".to_owned() } else { format!("{line}\n") }
    };
    config.lines().map(hide).collect()
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| super::quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}
