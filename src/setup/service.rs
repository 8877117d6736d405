//! Who starts the portal: systemd where it runs, else this program.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{Place, SetupError};
use crate::process::lock;

/// The unit that this program carries with it.
const UNIT: &str = include_str!("../../scripts/systemd/netcombiner@.service");

/// Where the unit is written.
pub(super) const UNIT_FILE: &str = "/etc/systemd/system/netcombiner@.service";

/// Where a package has put it.
const PACKAGED: [&str; 2] =
    ["/usr/lib/systemd/system/netcombiner@.service", "/lib/systemd/system/netcombiner@.service"];

/// Whether systemd runs this system (sd_booted(3)) and would find the configuration.
pub(super) fn has_systemd(place: &Place) -> bool {
    place.is_default && Path::new("/run/systemd/system").is_dir()
}

/// The name of the portal's unit.
pub(super) fn unit_name(place: &Place) -> String {
    format!("netcombiner@{}.service", place.interface)
}

/// The unit to write, with this program in it; `None` if a package has brought one.
pub(super) fn unit(place: &Place) -> Option<String> {
    if PACKAGED.iter().any(|path| Path::new(path).exists()) {
        return None;
    }
    Some(UNIT.replace("/usr/bin/netcombiner", &place.program.to_string_lossy()))
}

/// Whether the unit can run this program: it sees neither homes nor the system's temporary directory.
pub(super) fn must_be_installed(place: &Place) -> Result<(), SetupError> {
    let hidden = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];
    if hidden.iter().any(|directory| place.program.starts_with(directory)) {
        let program = place.program.display();
        return Err(SetupError::new(format!(
            "systemd cannot run {program}; copy it to /usr/local/bin and call that"
        )));
    }
    Ok(())
}

pub(super) fn is_running(place: &Place) -> Result<bool, SetupError> {
    let path = place.run_dir.pid_file(&place.interface);
    lock::is_held(&path).map_err(|error| SetupError::file("read", &path, &error))
}

/// The command that starts the portal in the background.
pub(super) fn start_command(place: &Place) -> Command {
    let mut command = Command::new(&place.program);
    command.arg(place.interface.as_str()).arg("--config").arg(place.config());
    command.arg("--run-dir").arg(place.run_dir.path());
    command
}

/// Starts the portal in the background, and waits until it is ready.
pub(super) fn start(place: &Place) -> Result<(), SetupError> {
    run(&mut start_command(place)).map(drop)
}

/// Stops the portal, and waits until its interface is gone.
pub(super) fn stop(place: &Place) -> Result<(), SetupError> {
    let mut command = Command::new(&place.program);
    command.arg("down").arg(place.interface.as_str()).arg("--run-dir").arg(place.run_dir.path());
    run(&mut command).map(drop)
}

pub(super) fn systemctl(arguments: &[&str]) -> Result<String, SetupError> {
    run(Command::new("systemctl").args(arguments))
}

/// Runs a command to its end and returns what it printed.
///
/// # Errors
///
/// The last line that it said.
pub(super) fn run(command: &mut Command) -> Result<String, SetupError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| SetupError::new(format!("cannot run {program}: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().rfind(|line| !line.is_empty()).unwrap_or("it failed without a word");
    Err(SetupError::new(line.trim_start_matches("netcombiner: ").to_owned()))
}
