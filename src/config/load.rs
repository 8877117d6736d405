//! The way from a file to a [`Config`].

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::str::FromStr;

use zeroize::Zeroizing;

use super::diagnostic::Report;
use super::fields::Fields;
use super::text::{self, Entry, Section};
use super::{Config, Errors, InterfaceName, Key, MAX_PEERS, Password, Warning, check, host, peer};

/// Most bytes of a configuration file: 16 links with every key need four thousand.
const MAX_CONFIG_LEN: u64 = 1 << 18;

/// Most bytes of the file of a key, which needs 45, or of a password, which needs at most 129.
const MAX_KEY_FILE_LEN: u64 = 1 << 10;

impl Config {
    /// Reads the configuration of the interface that `path` is named after.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the file, the file being unreadable included.
    pub fn load(path: &Path) -> Result<(Config, Vec<Warning>), Errors> {
        let name = file_name(path);
        load(path, name.parse().ok().as_ref())
    }

    /// Reads the configuration of `interface`, whatever the file is called.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn load_for(interface: &InterfaceName, path: &Path) -> Result<(Config, Vec<Warning>), Errors> {
        load(path, Some(interface))
    }

    /// Reads the text of a configuration. `file_name` stands at the head of each error and is the
    /// name of the interface; a relative `KeyFile` is looked for in `base_dir`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the text and its key file.
    pub fn parse(file_name: &str, text: &str, base_dir: &Path) -> Result<(Config, Vec<Warning>), Errors> {
        let mut report = Report::new(file_name);
        let config = read(text, base_dir, file_name.parse().ok().as_ref(), &mut report);
        report.conclude(config)
    }
}

fn load(path: &Path, own: Option<&InterfaceName>) -> Result<(Config, Vec<Warning>), Errors> {
    let mut report = Report::new(&file_name(path));
    let config = match read_private(path, MAX_CONFIG_LEN, None, &mut report) {
        Ok(text) => {
            let base_dir = path.parent().unwrap_or(Path::new(""));
            read(&text, base_dir, own, &mut report)
        }
        Err(fault) => {
            report.error(None, fault);
            None
        }
    };
    report.conclude(config)
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

fn read(text: &str, base_dir: &Path, own: Option<&InterfaceName>, report: &mut Report) -> Option<Config> {
    let sections = text::sections(text, report);
    let mut hosts: Vec<&Section> = Vec::new();
    let mut peers: Vec<&Section> = Vec::new();
    for section in &sections {
        match section.name.to_ascii_lowercase().as_str() {
            "host" => hosts.push(section),
            "peer" => peers.push(section),
            _ => unknown_section(section, report),
        }
    }
    let host = match hosts.split_first() {
        Some((first, others)) => {
            for again in others {
                let first = first.line;
                report.error(again.line, format!("[Host] repeated: first on line {first}"));
            }
            let elsewhere = ("Peer", peer::KEYS);
            let mut fields = Fields::new(first, "Host".into(), host::KEYS, elsewhere, report);
            host::read(&mut fields, base_dir)
        }
        None => {
            report.error(None, "[Host] missing: it holds the Key and the Address");
            None
        }
    };
    if peers.is_empty() {
        report.error(None, "[Peer] missing: each link to the other portal needs one");
    }
    if let Some(first_too_many) = peers.get(MAX_PEERS) {
        let fault = format!("[Peer] refused: max {MAX_PEERS} links; given {}", peers.len());
        report.error(first_too_many.line, fault);
    }
    let mut drafts = Vec::new();
    for (section, number) in peers.into_iter().zip(1..) {
        let (place, elsewhere) = (format!("Peer[{number}]"), ("Host", host::KEYS));
        let mut fields = Fields::new(section, place, peer::KEYS, elsewhere, report);
        drafts.push(peer::read(&mut fields, number));
    }
    check::links(&drafts, own, report);
    let peers = drafts.into_iter().map(|draft| draft.peer).collect();
    host.map(|host| Config { host, peers })
}

fn unknown_section(section: &Section, report: &mut Report) {
    let hint = match super::suggest::nearest(&section.name, &["Host", "Peer"]) {
        Some(name) => format!("did you mean [{name}]?"),
        None => "there are [Host] and [Peer]".to_owned(),
    };
    report.error(section.line, format!("[{}] unknown: {hint}", section.name));
}

/// The key in the file that `entry` names, or what is wrong with it.
pub(super) fn key_file(base_dir: &Path, entry: &Entry, report: &mut Report) -> Result<Key, String> {
    if entry.value.parse::<Key>().is_ok() {
        return Err("the path of a file; given a key, which belongs to Key".to_owned());
    }
    secret_file(base_dir, entry, report)
}

/// The password in the file that `entry` names, or what is wrong with it.
pub(super) fn password_file(base_dir: &Path, entry: &Entry, report: &mut Report) -> Result<Password, String> {
    secret_file(base_dir, entry, report)
}

fn secret_file<T: FromStr<Err = String>>(
    base_dir: &Path,
    entry: &Entry,
    report: &mut Report,
) -> Result<T, String> {
    let path = base_dir.join(&entry.value);
    let text = read_private(&path, MAX_KEY_FILE_LEN, Some(entry.line), report)?;
    text.trim().parse::<T>().map_err(|fault| format!("{} must hold {fault}", path.display()))
}

/// The text of a file that should be its owner's alone; if it is not, that is worth a warning.
fn read_private(
    path: &Path,
    max_len: u64,
    line: Option<usize>,
    report: &mut Report,
) -> Result<Zeroizing<String>, String> {
    let shown = path.display();
    let unreadable = |error: io::Error| format!("cannot read {shown}: {error}");
    // Asked before opening, since opening a FIFO would wait for its writer.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(format!("cannot read {shown}: not a regular file"));
    }
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    if mode & 0o077 != 0 {
        let fault = format!("{shown} is open to others than its owner: chmod 600 {shown}");
        report.warning(line, fault);
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(max_len + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > max_len {
        return Err(format!("cannot read {shown}: more than {max_len} bytes"));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(error) => {
            let lines = bytes[..error.valid_up_to()].iter().filter(|b| **b == b'\n').count();
            Err(format!("cannot read {shown}: not UTF-8 on line {}", lines + 1))
        }
    }
}
