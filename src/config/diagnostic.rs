//! What is wrong with a configuration file, and where.

use std::error::Error;
use std::fmt;

/// One remark on a configuration file; prints as `nc0:14: Peer[1].LocalPort invalid: …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    file: String,
    line: Option<usize>,
    message: String,
}

/// Something that is worth a look but does not keep the portal from starting.
pub type Warning = Diagnostic;

impl Diagnostic {
    /// The line that the remark is about, from 1; `None` if it is about the file as a whole.
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// The remark without the place.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Every error of one file, in the order of its lines; at least one. Prints one error a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    errors: Vec<Diagnostic>,
    warnings: Vec<Warning>,
}

impl Errors {
    /// The errors, in the order of the lines.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.errors.iter()
    }

    /// What was worth a warning besides.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl Error for Errors {}

/// Collects the remarks while a file is read.
pub(super) struct Report {
    file: String,
    errors: Vec<Diagnostic>,
    warnings: Vec<Warning>,
}

impl Report {
    pub(super) fn new(file: &str) -> Report {
        Report { file: file.to_owned(), errors: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn error(&mut self, line: impl Into<Option<usize>>, message: impl Into<String>) {
        let error = self.diagnostic(line.into(), message.into());
        self.errors.push(error);
    }

    pub(super) fn warning(&mut self, line: impl Into<Option<usize>>, message: impl Into<String>) {
        let warning = self.diagnostic(line.into(), message.into());
        self.warnings.push(warning);
    }

    /// `value` with the warnings if no error was reported, else all errors.
    pub(super) fn conclude<T>(mut self, value: Option<T>) -> Result<(T, Vec<Warning>), Errors> {
        match value {
            Some(value) if self.errors.is_empty() => Ok((value, self.warnings)),
            _ => {
                debug_assert!(!self.errors.is_empty(), "no value and no error");
                self.errors.sort_by_key(|e| e.line.unwrap_or(usize::MAX));
                Err(Errors { errors: self.errors, warnings: self.warnings })
            }
        }
    }

    fn diagnostic(&self, line: Option<usize>, message: String) -> Diagnostic {
        Diagnostic { file: self.file.clone(), line, message }
    }
}
