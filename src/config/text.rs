//! From text to sections of keys and values, each with its line number.
//!
//! `rust-ini` splits names from values, but it is lenient where a configuration should be strict:
//! it keeps a comment in the value that it follows, joins a line without `=` to the next key and
//! one that ends in a backslash to the next line, takes `:` for `=`, and forgets line numbers. So
//! every line is checked first, comments and faulty lines are left out, and only what is plain is
//! handed on.

use ini::{Ini, ParseOption};

use super::diagnostic::Report;

/// Longest name of a key or section that is repeated in an error. Longer than any real name, and
/// shorter than a key in base64 that stands on a line of its own.
const MAX_NAME_LEN: usize = 24;

/// One section of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Section {
    /// Name as written.
    pub(super) name: String,
    /// Line of the header, from 1.
    pub(super) line: usize,
    /// Keys and values, in the order of the file.
    pub(super) entries: Vec<Entry>,
}

/// One `Key = Value` line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Key as written.
    pub(super) key: String,
    /// Value without surrounding white space and comment; never empty.
    pub(super) value: String,
    /// Line number, from 1.
    pub(super) line: usize,
}

/// Splits `text` into its sections; lines that are neither header, entry, comment nor blank are
/// reported and left out.
pub(super) fn sections(text: &str, report: &mut Report) -> Vec<Section> {
    let plain = Plain::from_text(text, report);
    let options = ParseOption { enabled_quote: false, enabled_escape: false, ..ParseOption::default() };
    match Ini::load_from_str_opt(&plain.text, options) {
        Ok(ini) => plain.number(&ini, report),
        Err(error) => {
            report.error(None, format!("cannot be read as INI: {error}"));
            Vec::new()
        }
    }
}

/// What `rust-ini` gets to see, and where it came from.
#[derive(Default)]
struct Plain {
    text: String,
    /// For each section the line of its header and those of its entries.
    lines: Vec<(usize, Vec<usize>)>,
}

impl Plain {
    fn from_text(text: &str, report: &mut Report) -> Plain {
        let mut plain = Plain::default();
        // The entries of a faulty header belong to no section; reporting each would be noise.
        let mut header_is_faulty = false;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (index, raw) in text.lines().enumerate() {
            let number = index + 1;
            let line = without_comment(raw).trim();
            if line.is_empty() {
                continue;
            }
            if line.starts_with('[') {
                let header = header(line);
                header_is_faulty = header.is_err();
                match header {
                    Ok(name) => plain.push_header(name, number),
                    Err(why) => report.error(number, why),
                }
            } else {
                match entry(line) {
                    Ok((key, value)) => {
                        if !plain.push_entry(key, value, number, header_is_faulty) {
                            report.error(number, format!("{key} stands before any [Section]"));
                        }
                    }
                    Err(why) => report.error(number, why),
                }
            }
        }
        plain
    }

    fn push_header(&mut self, name: &str, number: usize) {
        self.text.extend(["[", name, "]\n"]);
        self.lines.push((number, Vec::new()));
    }

    /// `false` if there is no section to hold the entry.
    fn push_entry(&mut self, key: &str, value: &str, number: usize, skip: bool) -> bool {
        if skip {
            return true;
        }
        let Some((_, entries)) = self.lines.last_mut() else {
            return false;
        };
        // The space keeps a backslash at the end of the value from joining the next line.
        self.text.extend([key, "=", value, " \n"]);
        entries.push(number);
        true
    }

    /// Gives back to each name and value the line that it stood on.
    fn number(&self, ini: &Ini, report: &mut Report) -> Vec<Section> {
        let named = ini.iter().filter_map(|(name, keys)| Some((name?, keys)));
        let sections: Vec<Section> = named
            .zip(&self.lines)
            .map(|((name, keys), (line, lines))| Section {
                name: name.to_owned(),
                line: *line,
                entries: keys
                    .iter()
                    .zip(lines)
                    .map(|((key, value), line)| Entry {
                        key: key.to_owned(),
                        value: value.to_owned(),
                        line: *line,
                    })
                    .collect(),
            })
            .collect();
        let complete = sections.len() == self.lines.len()
            && sections
                .iter()
                .zip(&self.lines)
                .all(|(section, (_, lines))| section.entries.len() == lines.len());
        if !complete {
            report.error(None, "cannot be read as INI: lines were lost");
        }
        sections
    }
}

/// The line up to its comment. A comment starts with `#` or `;` at the start of the line, or with
/// `#` after white space; elsewhere `;` belongs to the value, as in a shell command.
fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with(['#', ';']) {
        return "";
    }
    let mut after_space = false;
    for (at, c) in line.char_indices() {
        if c == '#' && after_space {
            return &line[..at];
        }
        after_space = c.is_whitespace();
    }
    line
}

fn header(line: &str) -> Result<&str, String> {
    let name = line.strip_prefix('[').and_then(|l| l.strip_suffix(']'));
    match name.map(str::trim) {
        Some(name) if is_name(name) => Ok(name),
        _ => Err("not a section header; write [Host] or [Peer]".to_owned()),
    }
}

fn entry(line: &str) -> Result<(&str, &str), String> {
    let (key, value) = line
        .split_once('=')
        .map(|(key, value)| (key.trim(), value.trim()))
        .filter(|(key, _)| is_name(key))
        .ok_or("neither [Section] nor Key = value")?;
    if value.is_empty() {
        return Err(format!("{key} has no value"));
    }
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return Err(format!("{key} has a control character in its value"));
    }
    Ok((key, value))
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_LEN).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}
