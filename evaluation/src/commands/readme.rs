//! Tables in the README: each between two lines that mark its place.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::output;

/// Puts the table into the file, in place of what stands between `<!-- NAME -->` and `<!-- /NAME -->`.
pub(super) fn write(file: &Path, name: &str, table: &str) -> Result<()> {
    let text = fs::read_to_string(file)?;
    output::write(file, &with_table(&text, name, table)?)
}

fn with_table(text: &str, name: &str, table: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->\n"));
    let (before, rest) = text.split_once(&begin).with_context(|| format!("no line {}", begin.trim()))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("no line {}", end.trim()))?;
    Ok(format!("{before}{begin}\n{}\n\n{end}{after}", table.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_takes_the_place_of_the_one_before() {
        let text = "a\n<!-- race -->\n<!-- /race -->\nb\n";
        let once = with_table(text, "race", "| 1 |\n").unwrap();
        assert_eq!(once, "a\n<!-- race -->\n\n| 1 |\n\n<!-- /race -->\nb\n");
        let twice = with_table(&once, "race", "| 2 |\n").unwrap();
        assert_eq!(twice, once.replace('1', "2"));
        assert!(with_table(text, "figures", "").is_err());
    }
}
