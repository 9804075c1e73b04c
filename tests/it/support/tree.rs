//! Looking at a data directory from outside: this shares no code with what wrote it.

use std::fs;
use std::path::{Path, PathBuf};

use super::image::sha256;

/// Every file below a directory.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(directory) else {
        return found;
    };
    for entry in entries {
        let path = entry.expect("a readable directory").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Every link names stored content, every stored sha256 content is what its name says, and every
/// mirror's marker is there.
pub(crate) fn assert_sound(tree: &Path) {
    for file in files(&tree.join("blobs/sha256")) {
        if file.ends_with("data") {
            let hex = name_of(file.parent().expect("a directory"));
            let bytes = fs::read(&file).expect("a readable blob");
            assert_eq!(
                sha256(&bytes),
                format!("sha256:{hex}"),
                "{}",
                file.display()
            );
        }
    }
    for file in files(&tree.join("repositories")) {
        if file.ends_with("link") {
            let digest = fs::read_to_string(&file).expect("a readable link");
            let (algorithm, hex) = digest.split_once(':').expect("a digest in a link");
            let data = tree.join(format!("blobs/{algorithm}/{}/{hex}/data", &hex[..2]));
            let is_history = file.components().any(|step| step.as_os_str() == "index");
            assert!(
                data.is_file() || is_history,
                "{} is dangling",
                file.display()
            );
        }
    }
}

/// No upload, no fill and no temporary file is left.
pub(crate) fn assert_nothing_staged(tree: &Path) {
    let staged = |path: &PathBuf| {
        let is_upload = path.components().any(|step| step.as_os_str() == "_uploads");
        let is_fill = path.starts_with(tree.join("blobs")) && name_of(path) == "fill";
        is_upload || is_fill || path.extension().is_some_and(|end| end == "tmp")
    };
    let left: Vec<PathBuf> = files(tree).into_iter().filter(staged).collect();
    assert!(left.is_empty(), "left behind: {left:#?}");
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned()
}
