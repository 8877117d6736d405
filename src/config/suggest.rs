//! "Did you mean …?"

/// Most edits between a name and what it may have been meant to be. Two catch a swapped pair, a
/// forgotten or a doubled letter; three begin to join names that have nothing to do with each
/// other.
const MAX_EDITS: usize = 2;

/// The one of `known` that `given` is most likely a slip of, if any is close.
pub fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|name| (edits(given, name), *name))
        .filter(|(edits, name)| *edits <= MAX_EDITS && *edits < name.len())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, name)| name)
}

/// Levenshtein distance, letter case ignored.
fn edits(a: &str, b: &str) -> usize {
    let b = b.as_bytes();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(!x.eq_ignore_ascii_case(y));
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::{edits, nearest};

    #[test]
    fn distance_counts_edits() {
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("METRIC", "metric"), 0);
    }

    #[test]
    fn only_close_names_are_suggested() {
        let known = ["LocalPort", "LocalAddress", "MTU"];
        assert_eq!(nearest("LocalProt", &known), Some("LocalPort"));
        assert_eq!(nearest("Localport", &known), Some("LocalPort"));
        assert_eq!(nearest("Endpoint", &known), None);
        assert_eq!(nearest("x", &known), None);
    }
}
