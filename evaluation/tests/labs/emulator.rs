//! The emulator, measured from outside, and what a lab leaves behind: nothing.
//!
//! ```text
//! client -- local == wires == internet -- server
//! ```
//!
//! The same checks as in `evaluation emulator-check`, each with a second chance: other programs
//! on the machine can spoil a measurement, an emulator that is wrong is wrong twice.

use evaluation::check::{ALL, Finding};
use evaluation::may_build_labs;

fn holds(name: &str) {
    if !may_build_labs(name) {
        return;
    }
    let _alone = crate::alone();
    let check = ALL.iter().find(|check| check.name == name).unwrap();
    let mut found = Vec::new();
    for _ in 0..2 {
        match (check.run)() {
            Ok(Finding { holds: true, measured }) => {
                println!("{name}: {measured}");
                return;
            }
            Ok(Finding { measured, .. }) => found.push(measured),
            Err(error) => found.push(format!("{error:#}")),
        }
    }
    panic!("{}: twice not so:\n{}", check.promise, found.join("\n"));
}

macro_rules! checks {
    ($($test:ident $name:literal)*) => {
        $(#[test] fn $test() { holds($name); })*

        #[test]
        fn every_check_is_a_test() {
            assert_eq!(ALL.map(|check| check.name), [$($name),*]);
        }
    };
}

checks! {
    delay "delay"
    goodput "goodput"
    queue "queue"
    loss "loss"
    bursts "bursts"
    cut "cut"
    rate_change "rate-change"
    carrier "carrier"
    total "total"
}
