//! Every field of what programs read is described in `docs/json.md`, and nothing else is.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use netcombiner::core::snapshot::{Link, Quota, SCHEMA, Snapshot};
use netcombiner::journal::Event;
use serde_json::Value;

/// A snapshot in which nothing hides: lists have an entry, and what is an object is there.
fn full_snapshot() -> Snapshot {
    let link = Link { quota: Some(Quota::default()), ..Link::default() };
    Snapshot { schema: SCHEMA, links: vec![link], ..Snapshot::default() }
}

/// The path of each field: `queue.bytes`, `links[].name`.
fn paths(prefix: &str, value: &Value, into: &mut BTreeSet<String>) {
    let Value::Object(fields) = value else { return };
    for (name, value) in fields {
        let path = format!("{prefix}{name}");
        match value {
            Value::Array(items) if items.iter().any(Value::is_object) => {
                into.insert(format!("{path}[]"));
                items.iter().for_each(|item| paths(&format!("{path}[]."), item, into));
            }
            _ => {
                paths(&format!("{path}."), value, into);
                into.insert(path);
            }
        }
    }
}

/// The first column of the table under a heading.
fn documented(heading: &str) -> BTreeSet<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json.md");
    let text = fs::read_to_string(file).expect("the description");
    let section = text.split("\n## ").find(|section| section.starts_with(heading)).expect(heading);
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    cells.map(|(path, _)| path.to_owned()).collect()
}

fn fields(value: &impl serde::Serialize) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    paths("", &serde_json::to_value(value).expect("JSON"), &mut found);
    found
}

#[test]
fn every_field_of_show_is_described() {
    assert_eq!(fields(&full_snapshot()), documented("`show --json`"));
}

#[test]
fn every_field_of_an_event_is_described() {
    assert_eq!(fields(&Event::default()), documented("`events --json`"));
}

/// A field that goes or changes its type is a new version of the schema. What an old program wrote is still read.
#[test]
fn what_the_first_version_wrote_is_read() {
    assert_eq!(SCHEMA, 1);
    let json = serde_json::to_string(&full_snapshot()).expect("JSON");
    let read: Snapshot = serde_json::from_str(&json).expect("read");
    assert_eq!(read, full_snapshot());
}
