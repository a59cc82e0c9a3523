//! What the fuzzer knows, replayed with the ordinary tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    reason = "a test fails by panicking, and the checks are a library elsewhere"
)]

#[path = "../fuzz/src/lib.rs"]
mod checks;

use std::path::Path;

#[test]
fn what_was_found_once_is_not_found_again() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, _) in checks::CHECKS {
        let folder = corpus.join(name);
        let mut seeds = 0;
        for entry in folder.read_dir().expect(name) {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            println!("{}", path.display());
            checks::run(name, &bytes);
            seeds += 1;
        }
        assert!(seeds > 0, "{name} has no seed");
    }
}
