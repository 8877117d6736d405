//! Any text is a configuration or a list of errors.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use netcombiner::config::Config;

fuzz_target!(|text: &str| {
    // `KeyFile` could name any file of the machine.
    if !text.to_ascii_lowercase().contains("keyfile") {
        let _ = Config::parse("nc0", text, Path::new("/nonexistent"));
    }
});
