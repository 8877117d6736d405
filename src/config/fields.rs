//! The keys of one section, taken out one by one.

use super::diagnostic::Report;
use super::suggest;
use super::text::{Entry, Section};

/// Longest part of a value that is repeated in an error.
const MAX_SHOWN: usize = 60;

/// What became of one key.
pub(super) enum Field<T> {
    /// It is not in the section.
    Absent,
    /// It is, but its value is not allowed; that is reported already.
    Invalid,
    /// Its value and line.
    Given(T, usize),
}

impl<T> Field<T> {
    /// The line, if the key is there and valid.
    pub(super) fn line(&self) -> Option<usize> {
        match self {
            Field::Given(_, line) => Some(*line),
            _ => None,
        }
    }

    pub(super) fn is_invalid(&self) -> bool {
        matches!(self, Field::Invalid)
    }

    pub(super) fn value(self) -> Option<T> {
        match self {
            Field::Given(value, _) => Some(value),
            _ => None,
        }
    }
}

/// A section whose keys are being read, and where to report what is wrong with them.
pub(super) struct Fields<'a> {
    section: &'a Section,
    /// How errors call the section: `Host`, `Peer[2]`.
    place: String,
    pub(super) report: &'a mut Report,
}

impl<'a> Fields<'a> {
    /// Opens a section that may hold the keys `known`; reports the others, those of the other
    /// kind of section (`elsewhere`, under its name) with a hint.
    pub(super) fn new(
        section: &'a Section,
        place: String,
        known: &[&str],
        elsewhere: (&str, &[&str]),
        report: &'a mut Report,
    ) -> Fields<'a> {
        for entry in &section.entries {
            let is_entry = |name: &&&str| name.eq_ignore_ascii_case(&entry.key);
            if known.iter().any(|name| is_entry(&name)) {
                continue;
            }
            let hint = if let Some(name) = elsewhere.1.iter().find(is_entry) {
                format!("{name} belongs to [{}]", elsewhere.0)
            } else if let Some(name) = suggest::nearest(&entry.key, known) {
                format!("did you mean {name}?")
            } else {
                format!("[{}] knows {}", section.name, known.join(", "))
            };
            report.error(entry.line, format!("{place}.{} unknown: {hint}", entry.key));
        }
        Fields { section, place, report }
    }

    /// Line of the section's header.
    pub(super) fn line(&self) -> usize {
        self.section.line
    }

    /// Every entry with this key.
    pub(super) fn all(&self, key: &str) -> impl Iterator<Item = &'a Entry> + use<'a> {
        let key = key.to_owned();
        self.section.entries.iter().filter(move |entry| entry.key.eq_ignore_ascii_case(&key))
    }

    /// The first entry with this key; reports any further ones.
    pub(super) fn one(&mut self, key: &str) -> Option<&'a Entry> {
        let mut entries = self.all(key);
        let first = entries.next()?;
        for again in entries {
            self.error(again.line, key, &format!("repeated: already given on line {}", first.line));
        }
        Some(first)
    }

    /// The value of a key that may be given once. `parse` says in its error what is allowed.
    pub(super) fn parsed<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Field<T> {
        let Some(entry) = self.one(key) else {
            return Field::Absent;
        };
        match parse(&entry.value) {
            Ok(value) => Field::Given(value, entry.line),
            Err(allowed) => {
                self.invalid(entry.line, key, &allowed, &entry.value);
                Field::Invalid
            }
        }
    }

    /// Reports a value: what is allowed, and what was given.
    pub(super) fn invalid(&mut self, line: usize, key: &str, allowed: &str, given: &str) {
        let mut given = given.to_owned();
        if let Some((at, _)) = given.char_indices().nth(MAX_SHOWN) {
            given.truncate(at);
            given.push('…');
        }
        let comment = if given.contains(" ;") { " (a comment after a value starts with #)" } else { "" };
        self.error(line, key, &format!("invalid: {allowed}; given {given}{comment}"));
    }

    /// Reports that a key is not there, at the section's line.
    pub(super) fn missing(&mut self, key: &str, why: &str) {
        self.error(self.section.line, key, &format!("missing: {why}"));
    }

    /// Reports any other fault of a key.
    pub(super) fn error(&mut self, line: usize, key: &str, fault: &str) {
        self.report.error(line, format!("{}.{key} {fault}", self.place));
    }
}
