//! `larder setup`: what clients are told, written into their files, and believed by them.

mod clients;
mod files;

use std::path::Path;

use crate::support::programs::Output;

/// Puts a file below a root.
fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn read(root: &Path, path: &str) -> String {
    std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn assert_failed(output: &Output, words: &[&str]) {
    assert!(!output.success, "{output:?}");
    for word in words {
        assert!(output.stderr.contains(word), "{word}: {output:?}");
    }
}
