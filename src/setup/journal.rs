//! What a set-up has made, noted before it is made, and how that is undone.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use blake2::{Blake2s256, Digest};
use serde::{Deserialize, Serialize};

use super::{Place, SetupError, service};
use crate::process::routes::{self, Role};

/// The journal's name in the interface's own directory.
const NAME: &str = "setup.json";

/// One thing that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Done {
    /// A directory.
    Directory(PathBuf),
    /// A file.
    File {
        /// Where.
        path: PathBuf,
        /// Digest of what was written, to tell whether somebody has edited it since.
        digest: String,
        /// Where the file that was there before is kept.
        backup: Option<PathBuf>,
        /// Other interfaces may use it as well.
        shared: bool,
    },
    /// A unit of systemd was enabled.
    Enabled(String),
    /// The portal was started without a service manager.
    Started,
}

impl Done {
    fn is_shared(&self) -> bool {
        matches!(self, Done::Directory(_) | Done::File { shared: true, .. })
    }
}

/// All that was made for one interface.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Journal {
    /// `remote` or `local`.
    pub(super) side: String,
    /// The line of a remote portal, so that a second set-up prints the same.
    pub(super) pairing: Option<String>,
    done: Vec<Done>,
}

impl Journal {
    pub(super) fn new(side: &str) -> Journal {
        Journal { side: side.to_owned(), pairing: None, done: Vec::new() }
    }

    /// The journal of the interface; `None` if nothing is set up.
    pub(super) fn load(place: &Place) -> Result<Option<Journal>, SetupError> {
        load(&directory(place).join(NAME))
    }

    /// Writes it to the disk.
    pub(super) fn save(&self, place: &Place) -> Result<(), SetupError> {
        let directory = directory(place);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(|error| SetupError::file("make", &directory, &error))?;
        save(self, &directory.join(NAME))
    }

    /// Notes what is about to be made.
    fn note(&mut self, place: &Place, done: Done) -> Result<(), SetupError> {
        if !self.done.contains(&done) {
            self.done.push(done);
            self.save(place)?;
        }
        Ok(())
    }

    /// Makes a directory and those above it which are not there, open for all to look.
    pub(super) fn make_directory(&mut self, place: &Place, path: &Path) -> Result<(), SetupError> {
        let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
        for path in missing.into_iter().rev() {
            self.note(place, Done::Directory(path.to_owned()))?;
            match DirBuilder::new().mode(0o755).create(path) {
                // The journal, which was just written, is in it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made.map_err(|error| SetupError::file("make", path, &error))?,
            }
        }
        Ok(())
    }

    /// Notes a directory that the portal will make at its start.
    pub(super) fn expect_directory(&mut self, place: &Place, path: &Path) -> Result<(), SetupError> {
        if path.exists() { Ok(()) } else { self.note(place, Done::Directory(path.to_owned())) }
    }

    /// Writes a file, after a copy of the one that is there; whether that changed anything.
    pub(super) fn write_file(
        &mut self,
        place: &Place,
        (path, text, mode): (&Path, &str, u32),
        shared: bool,
    ) -> Result<bool, SetupError> {
        let there = read(path)?;
        if there.as_deref() == Some(text.as_bytes()) {
            return Ok(false);
        }
        let noted = self.done.iter().find_map(|done| match done {
            Done::File { path: noted, digest, backup, .. } if noted == path => {
                Some((digest.clone(), backup.clone()))
            }
            _ => None,
        });
        let backup = match (&noted, &there) {
            (Some((was, _)), Some(there)) if *was != digest(there) => {
                let path = path.display();
                return Err(SetupError::new(format!(
                    "{path} was edited since it was set up; edit it again, or begin anew with `netcombiner setup undo`"
                )));
            }
            (Some((_, backup)), _) => backup.clone(),
            (None, Some(_)) => Some(self.back_up(place, path)?),
            (None, None) => None,
        };
        self.done.retain(|done| !matches!(done, Done::File { path: noted, .. } if noted == path));
        let done = Done::File { path: path.to_owned(), digest: digest(text.as_bytes()), backup, shared };
        self.note(place, done)?;
        write(path, text.as_bytes(), mode).map_err(|error| SetupError::file("write", path, &error))?;
        Ok(true)
    }

    fn back_up(&self, place: &Place, path: &Path) -> Result<PathBuf, SetupError> {
        let name = path.file_name().unwrap_or(path.as_os_str());
        let backup = directory(place).join(name).with_added_extension("before");
        self.save(place)?;
        copy(path, &backup).map_err(|error| SetupError::file("keep a copy of", path, &error))?;
        Ok(backup)
    }

    pub(super) fn note_enabled(&mut self, place: &Place, unit: &str) -> Result<(), SetupError> {
        self.note(place, Done::Enabled(unit.to_owned()))
    }

    pub(super) fn note_started(&mut self, place: &Place) -> Result<(), SetupError> {
        self.note(place, Done::Started)
    }

    /// Undoes everything in reverse; what other interfaces use is left to their journals. One line for each step.
    pub(super) fn undo(mut self, place: &Place, dry_run: bool) -> Result<Vec<String>, SetupError> {
        let mut told = Vec::new();
        self.stop(place, dry_run, &mut told)?;
        leave_routes(place, dry_run, &mut told)?;
        leave_run_files(place, dry_run, &mut told)?;
        let heir = other_journal(place);
        let (directories, others): (Vec<Done>, Vec<Done>) =
            std::mem::take(&mut self.done).into_iter().partition(|done| matches!(done, Done::Directory(_)));
        let mut inherited = Vec::new();
        for done in others.into_iter().rev() {
            if done.is_shared() && heir.is_some() {
                inherited.insert(0, done);
            } else {
                undo_file(&done, dry_run, &mut told)?;
            }
        }
        let own = directory(place);
        told.push(format!("remove {}", own.display()));
        if let Some(heir) = heir {
            inherited.splice(0..0, directories);
            return if dry_run {
                Ok(told)
            } else {
                hand_over(inherited, &heir).and_then(|()| remove_own(&own, told))
            };
        }
        if !dry_run {
            told = remove_own(&own, told)?;
        }
        for done in directories.iter().rev() {
            let Done::Directory(path) = done else { continue };
            told.push(format!("remove {} if it is empty", path.display()));
            if !dry_run {
                // Not while it holds files of others.
                let _ = fs::remove_dir(path);
            }
        }
        Ok(told)
    }

    /// Ends the portal, and its unit.
    fn stop(&self, place: &Place, dry_run: bool, told: &mut Vec<String>) -> Result<(), SetupError> {
        for done in self.done.iter().rev() {
            match done {
                Done::Enabled(unit) => {
                    told.push(format!("systemctl disable --now {unit}"));
                    if !dry_run {
                        service::systemctl(&["disable", "--now", unit])?;
                    }
                }
                Done::Started if service::is_running(place)? => {
                    told.push(format!("stop {}", place.interface));
                    if !dry_run {
                        service::stop(place)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn directory(place: &Place) -> PathBuf {
    place.state_dir.join(place.interface.as_str())
}

fn remove_own(path: &Path, told: Vec<String>) -> Result<Vec<String>, SetupError> {
    fs::remove_dir_all(path).map_err(|error| SetupError::file("remove", path, &error))?;
    Ok(told)
}

/// Puts back, or removes, a file.
fn undo_file(done: &Done, dry_run: bool, told: &mut Vec<String>) -> Result<(), SetupError> {
    let Done::File { path, digest: written, backup, .. } = done else { return Ok(()) };
    let failed = |what: &'static str| move |error: io::Error| SetupError::file(what, path, &error);
    let there = read(path)?;
    let before = backup.as_deref().map(read).transpose()?.flatten();
    let is_edited =
        there.as_ref().is_some_and(|there| digest(there) != *written && before.as_ref() != Some(there));
    if is_edited {
        let kept = path.with_added_extension("edited");
        told.push(format!("keep {}, which was edited, as {}", path.display(), kept.display()));
        if !dry_run {
            fs::rename(path, &kept).map_err(failed("rename"))?;
        }
    }
    match backup {
        Some(backup) => {
            told.push(format!("put back {}", path.display()));
            if !dry_run && before.is_some() {
                copy(backup, path).map_err(failed("put back"))?;
            }
        }
        None => {
            told.push(format!("remove {}", path.display()));
            if !dry_run && there.is_some() && !is_edited {
                fs::remove_file(path).map_err(failed("remove"))?;
            }
        }
    }
    if path.extension().is_some_and(|extension| extension == "service") {
        told.push("systemctl daemon-reload".to_owned());
        if !dry_run {
            service::systemctl(&["daemon-reload"])?;
        }
    }
    Ok(())
}

/// Undoes what a portal that died could not.
fn leave_routes(place: &Place, dry_run: bool, told: &mut Vec<String>) -> Result<(), SetupError> {
    for part in [None, Some(Role::Table.name())] {
        let ledger = place.run_dir.routes_file(&place.interface, part);
        let Ok(text) = fs::read_to_string(&ledger) else { continue };
        let name = text.lines().next().and_then(|line| line.strip_prefix("role "));
        let Some(role) = Role::ALL.into_iter().find(|role| Some(role.name()) == name) else { continue };
        let mut command = routes::command(role, ["down", place.interface.as_str()]);
        command.arg("--run-dir").arg(place.run_dir.path());
        if dry_run {
            command.arg("--dry-run");
        }
        told.extend(service::run(&mut command)?.lines().map(str::to_owned));
    }
    Ok(())
}

/// Removes what a portal that died left in the run directory.
fn leave_run_files(place: &Place, dry_run: bool, told: &mut Vec<String>) -> Result<(), SetupError> {
    if service::is_running(place)? {
        return Ok(());
    }
    for path in [place.run_dir.socket(&place.interface), place.run_dir.pid_file(&place.interface)] {
        if !path.exists() {
            continue;
        }
        told.push(format!("remove {}", path.display()));
        if !dry_run {
            fs::remove_file(&path).map_err(|error| SetupError::file("remove", &path, &error))?;
        }
    }
    Ok(())
}

/// A journal of another interface, which may use the same unit and directories.
fn other_journal(place: &Place) -> Option<PathBuf> {
    let entries = fs::read_dir(&place.state_dir).ok()?;
    let others =
        entries.flatten().filter(|entry| entry.file_name().to_str() != Some(place.interface.as_str()));
    others.map(|entry| entry.path().join(NAME)).find(|path| path.is_file())
}

/// Gives what is shared to another interface's journal, to be undone with that.
fn hand_over(done: Vec<Done>, heir: &Path) -> Result<(), SetupError> {
    if let Some(mut journal) = load(heir)? {
        journal.done.splice(0..0, done);
        save(&journal, heir)?;
    }
    Ok(())
}

fn load(path: &Path) -> Result<Option<Journal>, SetupError> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    let journal = serde_json::from_slice(&bytes);
    journal
        .map(Some)
        .map_err(|error| SetupError::new(format!("cannot understand {}: {error}", path.display())))
}

fn save(journal: &Journal, path: &Path) -> Result<(), SetupError> {
    let json = serde_json::to_vec_pretty(journal).map_err(io::Error::from);
    json.and_then(|json| write(path, &json, 0o600)).map_err(|error| SetupError::file("write", path, &error))
}

/// What is in a file; `None` if it is not there.
fn read(path: &Path) -> Result<Option<Vec<u8>>, SetupError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SetupError::file("read", path, &error)),
    }
}

/// Replaces a file as a whole; a crash leaves the old one or the new one.
fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let draft = path.with_added_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(&draft)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

/// Copies a file with its mode and owner.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = fs::metadata(from)?;
    let bytes = fs::read(from)?;
    write(to, &bytes, metadata.mode() & 0o7777)?;
    chown(to, Some(metadata.uid()), Some(metadata.gid()))
}

fn digest(bytes: &[u8]) -> String {
    Blake2s256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::place;
    use super::*;

    #[test]
    fn what_was_made_is_undone_to_the_byte() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = place(dir.path());
        let config = place.config();
        let mut journal = Journal::new("remote");
        journal.make_directory(&place, &place.etc_dir).expect("made");
        assert!(journal.write_file(&place, (&config, "one", 0o600), false).expect("written"));
        assert!(!journal.write_file(&place, (&config, "one", 0o600), false).expect("the same"));
        assert!(journal.write_file(&place, (&config, "two", 0o600), false).expect("written"));
        let journal = Journal::load(&place).expect("read").expect("there");
        let told = journal.undo(&place, true).expect("told");
        assert!(told.iter().any(|line| line.ends_with("etc/netcombiner/nc0")), "{told:?}");
        assert_eq!(fs::read(&config).expect("still there"), b"two");
        let journal = Journal::load(&place).expect("read").expect("there");
        journal.undo(&place, false).expect("undone");
        assert!(!dir.path().join("etc").exists() && Journal::load(&place).expect("read").is_none());
    }

    #[test]
    fn a_file_that_was_there_comes_back_and_an_edited_one_is_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = place(dir.path());
        let config = place.config();
        fs::create_dir_all(&place.etc_dir).expect("made");
        fs::write(&config, "mine").expect("written");
        fs::set_permissions(&config, fs::Permissions::from_mode(0o640)).expect("set");
        let mut journal = Journal::new("local");
        journal.write_file(&place, (&config, "one", 0o600), false).expect("written");
        fs::write(&config, "edited").expect("written");
        let refused = journal.write_file(&place, (&config, "two", 0o600), false).expect_err("edited");
        assert!(refused.to_string().contains("was edited since"), "{refused}");
        journal.undo(&place, false).expect("undone");
        assert_eq!(fs::read(&config).expect("back"), b"mine");
        assert_eq!(fs::metadata(&config).expect("there").mode() & 0o777, 0o640);
        assert_eq!(fs::read(config.with_added_extension("edited")).expect("kept"), b"edited");
    }

    #[test]
    fn what_is_shared_goes_with_the_last_interface() {
        let dir = tempfile::tempdir().expect("a directory");
        let (first, mut second) = (place(dir.path()), place(dir.path()));
        second.interface = "nc1".parse().expect("a name");
        let unit = dir.path().join("unit");
        let journals = [&first, &second].map(|place| {
            let mut journal = Journal::new("remote");
            journal.make_directory(place, &place.etc_dir).expect("made");
            journal.write_file(place, (&unit, "unit", 0o644), true).expect("written");
            journal.write_file(place, (&place.config(), "config", 0o600), false).expect("written");
            journal
        });
        assert_eq!(journals[1].done.len(), 1);
        journals[0].save(&first).expect("saved");
        Journal::load(&first).expect("read").expect("there").undo(&first, false).expect("undone");
        assert!(unit.exists() && !first.config().exists() && second.config().exists());
        Journal::load(&second).expect("read").expect("there").undo(&second, false).expect("undone");
        assert!(!unit.exists() && !dir.path().join("etc").exists());
    }
}
