//! The accounts of all links, in a file.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Account;
use crate::calendar::Day;

const FILE: &str = "quota.json";
const NEW_FILE: &str = "quota.json.new";

/// A file is not written more often, at the least …
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// … and this often if there is anything to write: 24 times a day harm no flash memory.
const SAVE_AFTER: Duration = Duration::from_secs(3600);
/// Before that, once this part of a cap is unsaved: a crash costs half a percent, a full cap 200 writes.
const SAVE_PART: u64 = 200;

/// Largest file that is read: 16 links have 3 kB.
const MAX_LEN: u64 = 64 << 10;

/// The accounts of the links that have a cap, by name.
#[derive(Debug, Default)]
pub struct Ledger {
    file: PathBuf,
    accounts: BTreeMap<String, Account>,
    saved: Duration,
}

#[derive(Default, Serialize, Deserialize)]
struct Page {
    links: BTreeMap<String, Entry>,
}

#[derive(Default, Serialize, Deserialize)]
struct Entry {
    used_bytes: u64,
    since: Option<String>,
    #[serde(default)]
    before: Option<(String, u64)>,
}

impl Ledger {
    /// The ledger of `quota.json` in a directory, which need not exist. What cannot be read is said, and then nothing
    /// was used yet.
    pub fn open(directory: &Path) -> (Self, Option<String>) {
        let file = directory.join(FILE);
        let (page, trouble) = match read(&file) {
            Ok(page) => (page, None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Page::default(), None),
            Err(error) => (Page::default(), Some(format!("cannot read {}: {error}", file.display()))),
        };
        let accounts = page.links.into_iter().map(|(name, entry)| (name, entry.into())).collect();
        (Self { file, accounts, saved: Duration::ZERO }, trouble)
    }

    /// The account of a link.
    pub fn account(&mut self, link: &str) -> &mut Account {
        self.accounts.entry(link.to_owned()).or_default()
    }

    /// Forgets the links that are not among these.
    pub fn retain(&mut self, links: &[&str]) {
        self.accounts.retain(|name, _| links.contains(&name.as_str()));
    }

    /// Whether it is time to [`Ledger::save`]: rarely. `cap` is the cap of the link of that name.
    pub fn wants_save(&self, steady: Duration, cap: impl Fn(&str) -> u64) -> bool {
        let age = steady.saturating_sub(self.saved);
        let much = |(name, account): (&String, &Account)| account.unsaved >= (cap(name) / SAVE_PART).max(1);
        age >= SAVE_EVERY && self.accounts.iter().any(much) || age >= SAVE_AFTER && self.is_unsaved()
    }

    /// Something is not in the file.
    pub fn is_unsaved(&self) -> bool {
        self.accounts.values().any(|account| account.unsaved > 0)
    }

    /// Writes the file, which is whole at any time: the old one or the new one.
    ///
    /// # Errors
    ///
    /// What the system says; then the next time is as if it had been written.
    pub fn save(&mut self, steady: Duration) -> io::Result<()> {
        self.saved = steady;
        let links = self.accounts.iter().map(|(name, account)| (name.clone(), account.into())).collect();
        self.accounts.values_mut().for_each(|account| account.unsaved = 0);
        let mut json = serde_json::to_string_pretty(&Page { links })?;
        json.push('\n');
        let directory = self.file.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
        let new = directory.join(NEW_FILE);
        let mut file = File::create(&new)?;
        file.write_all(json.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.file)?;
        // So that the name is on the disk too.
        File::open(directory)?.sync_all()
    }
}

impl From<Entry> for Account {
    fn from(entry: Entry) -> Self {
        let day = |text: String| text.parse::<Day>().ok();
        Self {
            used: entry.used_bytes,
            since: entry.since.and_then(day),
            before: entry.before.and_then(|(since, used)| Some((day(since)?, used))),
            ..Self::default()
        }
    }
}

impl From<&Account> for Entry {
    fn from(account: &Account) -> Self {
        Self {
            used_bytes: account.used,
            since: account.since.map(|since| since.to_string()),
            before: account.before.map(|(since, used)| (since.to_string(), used)),
        }
    }
}

fn read(file: &Path) -> io::Result<Page> {
    if fs::metadata(file)?.len() > MAX_LEN {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too long"));
    }
    Ok(serde_json::from_slice(&fs::read(file)?)?)
}

#[cfg(test)]
mod tests {
    use super::super::Clock;
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn used(ledger: &mut Ledger, bytes: u64) {
        let clock = Clock { steady: HOUR, today: "2026-11-10".parse().ok() };
        ledger.account("lte").count(clock, 1, bytes);
    }

    #[test]
    fn what_was_used_is_known_after_a_restart() {
        let directory = tempfile::tempdir().expect("a directory");
        let inner = directory.path().join("netcombiner/nc0");
        let (mut ledger, trouble) = Ledger::open(&inner);
        assert_eq!(trouble, None);
        used(&mut ledger, 12_345);
        ledger.account("lte").before = Some(("2026-10-01".parse().expect("a day"), 7));
        ledger.save(HOUR).expect("saved");
        assert!(!ledger.is_unsaved());
        let (mut again, trouble) = Ledger::open(&inner);
        assert_eq!((again.account("lte"), trouble), (ledger.account("lte"), None));
        again.retain(&["dsl"]);
        assert_eq!(again.account("lte").used(), 0);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let directory = tempfile::tempdir().expect("a directory");
        for text in ["{", "[]", &"x".repeat(100_000)] {
            fs::write(directory.path().join(FILE), text).expect("written");
            let (mut ledger, trouble) = Ledger::open(directory.path());
            assert!(trouble.is_some_and(|trouble| trouble.contains("quota.json")), "{text}");
            assert_eq!(ledger.account("lte").used(), 0);
        }
    }

    #[test]
    fn the_file_is_written_rarely() {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut ledger, _) = Ledger::open(directory.path());
        let cap = |_: &str| 200_000;
        used(&mut ledger, 999);
        assert!(!ledger.wants_save(SAVE_EVERY, cap));
        assert!(ledger.wants_save(HOUR, cap));
        used(&mut ledger, 1);
        assert!(ledger.wants_save(SAVE_EVERY, cap));
        ledger.save(HOUR).expect("saved");
        used(&mut ledger, 50_000);
        assert!(!ledger.wants_save(HOUR + SAVE_EVERY / 2, cap));
        assert!(ledger.wants_save(HOUR + SAVE_EVERY, cap));
    }
}
