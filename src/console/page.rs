//! The page: its files, as they are in the binary, and what browsers may do with them.

mod joined;

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

/// All files but the page itself: `/assets/<name>`. The page names the style, what comes first, and
/// [`SCRIPT`], in which the rest is.
const ASSETS: [File; 17] = [
    File {
        name: "style.css",
        media_type: "text/css; charset=utf-8",
        text: include_str!("page/style.css"),
    },
    script("actions.js", include_str!("page/actions.js")),
    script("api.js", include_str!("page/api.js")),
    script("app.js", include_str!("page/app.js")),
    script("chart.js", include_str!("page/chart.js")),
    script("dom.js", include_str!("page/dom.js")),
    script("fills.js", include_str!("page/fills.js")),
    script("first.js", include_str!("page/first.js")),
    script("format.js", include_str!("page/format.js")),
    script("image.js", include_str!("page/image.js")),
    script("images.js", include_str!("page/images.js")),
    script("live.js", include_str!("page/live.js")),
    script("now.js", include_str!("page/now.js")),
    script("pages.js", include_str!("page/pages.js")),
    script("parts.js", include_str!("page/parts.js")),
    script("search.js", include_str!("page/search.js")),
    script("state.js", include_str!("page/state.js")),
];

const fn script(name: &'static str, text: &'static str) -> File {
    File {
        name,
        media_type: "text/javascript; charset=utf-8",
        text,
    }
}

/// The module with which the page begins.
const BEGIN: &str = "app.js";

/// All modules in one: `/assets/page.js`.
static SCRIPT: LazyLock<String> = LazyLock::new(|| joined::join(&ASSETS, BEGIN));

/// The tags of all files: the page's first, then those of [`ASSETS`] in their order, then the script's.
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let tag = |file: &File| format!("\"{}\"", &Digest::of(file.text.as_bytes()).hex()[..32]);
    let all = [INDEX].into_iter().chain(ASSETS).chain([joined()]);
    all.map(|file| tag(&file)).collect()
});

fn joined() -> File {
    script("page.js", &SCRIPT)
}

/// The page, and its entity tag with the quotes.
pub fn index() -> (File, &'static str) {
    (INDEX, tag(0))
}

/// One of its files, and its entity tag with the quotes.
pub fn asset(name: &str) -> Option<(File, &'static str)> {
    if name == joined().name {
        return Some((joined(), tag(ASSETS.len() + 1)));
    }
    let at = ASSETS.iter().position(|file| file.name == name)?;
    Some((*ASSETS.get(at)?, tag(at + 1)))
}

fn tag(at: usize) -> &'static str {
    TAGS.get(at).map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_page_names_all_of_its_files_and_no_others() {
        let named = |text: &str| -> BTreeSet<String> {
            let after = text.split("assets/").skip(1);
            after
                .filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()))
                .collect()
        };
        let used = named(INDEX.text);
        let expected = ["first.js", "page.js", "style.css"].map(str::to_owned);
        assert_eq!(used, BTreeSet::from(expected));
        for name in used {
            assert!(asset(&name).is_some(), "{name}");
        }
        let there: BTreeSet<&str> = ASSETS.iter().map(|file| file.name).collect();
        let mut used = BTreeSet::from(["first.js", "style.css", BEGIN]);
        for file in ASSETS {
            for import in file.text.split("\"./").skip(1) {
                let (module, _) = import.split_once('"').unwrap();
                used.insert(module);
            }
        }
        assert_eq!(used, there);
    }

    /// What a browser loads is 150 kB at most, with the JSON that it shows first.
    #[test]
    fn all_of_it_is_small() {
        let loaded = ["style.css", "first.js", "page.js"].map(|name| asset(name).unwrap().0);
        let files = [INDEX].into_iter().chain(loaded);
        let size: usize = files.map(|file| file.text.len()).sum();
        assert!(size < 125_000, "{size}");
    }

    /// The rule that keeps names from becoming markup, whatever is in them.
    #[test]
    fn nothing_in_it_reads_markup_or_code_from_text() {
        let readers = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "DOMParser",
            "createContextualFragment",
            "setHTMLUnsafe",
            "srcdoc",
            "eval(",
            "new Function",
        ];
        for file in ASSETS {
            for reader in readers {
                assert!(!file.text.contains(reader), "{}: {reader}", file.name);
            }
            for import in file.text.split("import(").skip(1) {
                assert!(import.starts_with("\"./"), "{}: {import}", file.name);
            }
        }
    }

    /// The first use of one takes a browser longer than all else that the page does: `format.js`.
    #[test]
    fn nothing_in_it_uses_the_formats_of_the_browser() {
        for file in ASSETS {
            for format in ["toLocale", "Intl."] {
                assert!(!file.text.contains(format), "{}: {format}", file.name);
            }
        }
    }

    #[test]
    fn each_file_has_a_tag_of_its_own() {
        let (page, of_page) = index();
        assert!(page.text.starts_with("<!doctype html>"), "{}", page.text);
        assert_eq!(of_page.len(), 34);
        let mut tags = BTreeSet::from([of_page]);
        for file in ASSETS.into_iter().chain([joined()]) {
            let (found, of_file) = asset(file.name).unwrap();
            assert_eq!(found, file);
            assert!(tags.insert(of_file), "{}", file.name);
        }
        assert_eq!(asset("none"), None);
    }
}
