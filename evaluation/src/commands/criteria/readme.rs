//! The table in the README: between two lines that mark its place.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

const BEGIN: &str = "<!-- figures -->\n";
const END: &str = "<!-- /figures -->\n";

/// Puts the table into the file, in place of what stands between the marks.
pub(super) fn write(file: &Path, table: &str) -> Result<()> {
    let text = fs::read_to_string(file)?;
    fs::write(file, with_table(&text, table)?)?;
    Ok(())
}

fn with_table(text: &str, table: &str) -> Result<String> {
    let (before, rest) = text.split_once(BEGIN).with_context(|| format!("no line {}", BEGIN.trim()))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("no line {}", END.trim()))?;
    Ok(format!("{before}{BEGIN}\n{}\n\n{END}{after}", table.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_takes_the_place_of_the_one_before() {
        let text = format!("a\n{BEGIN}{END}b\n");
        let once = with_table(&text, "| 1 |\n").unwrap();
        assert_eq!(once, format!("a\n{BEGIN}\n| 1 |\n\n{END}b\n"));
        let twice = with_table(&once, "| 2 |\n").unwrap();
        assert_eq!(twice, once.replace('1', "2"));
        assert!(with_table("a\n", "").is_err());
    }
}
