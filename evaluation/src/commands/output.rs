//! Where results go.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The directory that was asked for, or a new one of this command's under `target/evaluation`, which git
/// ignores.
pub(super) fn directory(asked: Option<&Path>, command: &str) -> Result<PathBuf> {
    let directory = match asked {
        Some(directory) => directory.to_owned(),
        None => Path::new("target/evaluation").join(format!("{command}-{}", now()?)),
    };
    fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    Ok(directory)
}

/// Writes a file whole: whoever reads it, or whatever ends this program, finds the old one or the new one.
pub(super) fn write(file: &Path, text: &str) -> Result<()> {
    let part = file.with_added_extension("part");
    fs::write(&part, text)
        .and_then(|()| fs::rename(&part, file))
        .with_context(|| format!("writing {}", file.display()))
}

/// The local time as `20261121-054500`.
fn now() -> Result<String> {
    let output = Command::new("date").arg("+%Y%m%d-%H%M%S").output().context("date")?;
    ensure!(output.status.success(), "date failed");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
