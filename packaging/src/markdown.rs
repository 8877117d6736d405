//! As much of Markdown as the README uses, as the language of manual pages.

use roff::{Inline, Roff, bold, roman};

/// A part of a section.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Block {
    Paragraph(String),
    /// Two columns: the head of the first one, and the rows.
    Table(String, Vec<(String, String)>),
}

/// The blocks under the heading `title` of the second level, up to the next one; empty if there is none.
pub(crate) fn section(text: &str, title: &str) -> Vec<Block> {
    let heading = format!("## {title}");
    let lines = text.lines().skip_while(|line| *line != heading).skip(1);
    let lines: Vec<&str> = lines.take_while(|line| !line.starts_with("## ")).collect();
    let parts = lines.split(|line| line.is_empty()).filter(|part| !part.is_empty());
    parts.map(block).collect()
}

fn block(lines: &[&str]) -> Block {
    match lines {
        [head, _rule, rows @ ..] if head.starts_with('|') => {
            Block::Table(cells(head).0, rows.iter().map(|row| cells(row)).collect())
        }
        _ => Block::Paragraph(lines.join(" ")),
    }
}

fn cells(row: &str) -> (String, String) {
    let row = row.trim().trim_start_matches('|').trim_end_matches('|');
    let (left, right) = row.split_once('|').unwrap_or((row, ""));
    (left.trim().to_owned(), right.trim().to_owned())
}

/// Adds a paragraph.
pub(crate) fn paragraph(page: &mut Roff, text: &str) {
    page.control("PP", []).text(inline(text));
}

/// Adds a term and what is said of it.
pub(crate) fn term(page: &mut Roff, term: &str, text: &str) {
    page.control("TP", []).text(inline(term)).text(inline(text));
}

/// Adds lines as they stand.
pub(crate) fn verbatim<'a>(page: &mut Roff, lines: impl IntoIterator<Item = &'a str>) {
    page.control("PP", []).control("RS", ["4"]).control("nf", []);
    for line in lines {
        page.text([roman(line)]);
    }
    page.control("fi", []).control("RE", []);
}

/// Code and strong words are bold; of a link only its text is kept.
fn inline(text: &str) -> Vec<Inline> {
    let mut inlines = Vec::new();
    for (index, part) in without_links(text).replace("**", "`").split('`').enumerate() {
        if !part.is_empty() {
            inlines.push(if index % 2 == 0 { roman(part) } else { bold(part) });
        }
    }
    inlines
}

fn without_links(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, label, after)) = next_link(rest) {
        plain.extend([before, label]);
        rest = after;
    }
    plain + rest
}

/// What stands before the first link, its text, and what follows.
fn next_link(text: &str) -> Option<(&str, &str, &str)> {
    let (head, tail) = text.split_once("](")?;
    let (before, label) = head.rsplit_once('[')?;
    let (_, after) = tail.split_once(')')?;
    Some((before, label, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# One

## Two

A line
and another.

| `[Host]` | |
|---|---|
| `Key` | the key |

## Three

Not this.";

    #[test]
    fn a_section_ends_at_the_next_heading() {
        let table = Block::Table("`[Host]`".into(), vec![("`Key`".into(), "the key".into())]);
        assert_eq!(section(TEXT, "Two"), [Block::Paragraph("A line and another.".into()), table]);
        assert_eq!(section(TEXT, "Four"), []);
    }

    #[test]
    fn code_is_bold_and_links_are_text() {
        let text = "a `b` [c](d/e) [Host] f";
        assert_eq!(inline(text), [roman("a "), bold("b"), roman(" c [Host] f")]);
    }
}
