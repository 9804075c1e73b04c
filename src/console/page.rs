//! The page: its files, as they are in the binary, and what browsers may do with them.

use std::sync::LazyLock;

use crate::oci::Digest;

/// What the page may load, and from where: nothing but its own files and this server's JSON.
///
/// A name made of markup that came through all else would find no script to run.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// One file of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name under `/assets/`, or `index.html`, which is the page itself.
    pub name: &'static str,
    /// What it is, with the character set.
    pub media_type: &'static str,
    /// The file.
    pub text: &'static str,
}

/// The page itself.
const INDEX: File = File {
    name: "index.html",
    media_type: "text/html; charset=utf-8",
    text: include_str!("page/index.html"),
};

/// All files but the page itself: `/assets/<name>`.
const ASSETS: [File; 0] = [];

/// The tags of all files: the page's first, then those of [`ASSETS`] in their order.
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let tag = |file: &File| format!("\"{}\"", &Digest::of(file.text.as_bytes()).hex()[..32]);
    [INDEX].iter().chain(&ASSETS).map(tag).collect()
});

/// The page, and its entity tag with the quotes.
pub fn index() -> (File, &'static str) {
    (INDEX, tag(0))
}

/// One of its files, and its entity tag with the quotes.
pub fn asset(name: &str) -> Option<(File, &'static str)> {
    let at = ASSETS.iter().position(|file| file.name == name)?;
    Some((*ASSETS.get(at)?, tag(at + 1)))
}

fn tag(at: usize) -> &'static str {
    TAGS.get(at).map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_has_a_tag_of_its_own() {
        let (page, of_page) = index();
        assert!(page.text.starts_with("<!doctype html>"), "{}", page.text);
        assert_eq!(of_page.len(), 34);
        for file in ASSETS {
            let (found, of_file) = asset(file.name).unwrap();
            assert_eq!(found, file);
            assert_ne!(of_file, of_page);
        }
        assert_eq!(asset("none"), None);
    }
}
