//! The page: its files, as they are in the binary, and what browsers may do with them.

mod joined;

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};

use crate::oci::Digest;

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

/// The page itself, before its style and its scripts are put in: the lines that name them.
const INDEX: &str = include_str!("page/index.html");
const STYLE: &str = "<link rel=\"stylesheet\" href=\"assets/style.css\">";
const FIRST: &str = "<script src=\"assets/first.js\"></script>";
const MODULES: &str = "<script type=\"module\" blocking=\"render\" src=\"assets/app.js\"></script>";

/// All files but the page itself: `/assets/<name>`, for who wants to read them.
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

/// The page as it is sent: one answer, since each that a browser waits for takes it longer than all
/// that is in them.
struct Page {
    text: String,
    policy: String,
    tag: String,
}

static PAGE: LazyLock<Page> = LazyLock::new(|| {
    let of = |name| {
        let file = ASSETS.iter().find(|file| file.name == name);
        file.map_or("", |file| file.text)
    };
    let style = of("style.css");
    let [first, modules] = [
        joined::lean(of("first.js")),
        joined::join(&ASSETS, "app.js"),
    ];
    let text = INDEX
        .replace(STYLE, &format!("<style>{style}</style>"))
        .replace(FIRST, &format!("<script>{first}</script>"))
        .replace(
            MODULES,
            &format!("<script type=\"module\" blocking=\"render\">{modules}</script>"),
        );
    Page {
        tag: tag_of(&text),
        policy: policy(style, &[&first, &modules]),
        text,
    }
});

/// What the page may run and load, and from where: nothing but its own style and scripts, and this
/// server's files and JSON.
///
/// A name made of markup that came through all else would find no script to run.
fn policy(style: &str, scripts: &[&str]) -> String {
    let source = |text: &str| {
        let hash = STANDARD.encode(digest(&SHA256, text.as_bytes()));
        format!(" 'sha256-{hash}'")
    };
    let scripts: String = scripts.iter().map(|text| source(text)).collect();
    let style = source(style);
    format!(
        "default-src 'none'; script-src 'self'{scripts}; style-src 'self'{style}; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// The tags of [`ASSETS`], in their order.
static TAGS: LazyLock<Vec<String>> =
    LazyLock::new(|| ASSETS.iter().map(|file| tag_of(file.text)).collect());

fn tag_of(text: &str) -> String {
    format!("\"{}\"", &Digest::of(text.as_bytes()).hex()[..32])
}

/// The page, and its entity tag with the quotes.
pub fn index() -> (File, &'static str) {
    let page = File {
        name: "index.html",
        media_type: "text/html; charset=utf-8",
        text: &PAGE.text,
    };
    (page, &PAGE.tag)
}

/// One of its files, and its entity tag with the quotes.
pub fn asset(name: &str) -> Option<(File, &'static str)> {
    let at = ASSETS.iter().position(|file| file.name == name)?;
    Some((*ASSETS.get(at)?, TAGS.get(at)?))
}

/// The content security policy of all of them.
pub fn content_security_policy() -> &'static str {
    &PAGE.policy
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use regex::Regex;

    use super::*;

    #[test]
    fn the_page_has_all_of_its_files_in_it() {
        for line in [STYLE, FIRST, MODULES] {
            assert_eq!(INDEX.matches(line).count(), 1, "{line}");
        }
        let (page, _) = index();
        assert!(!page.text.contains("assets/"));
        let there: BTreeSet<&str> = ASSETS.iter().map(|file| file.name).collect();
        let mut used = BTreeSet::from(["first.js", "style.css", "app.js"]);
        for file in ASSETS {
            for import in file.text.split("\"./").skip(1) {
                let (module, _) = import.split_once('"').unwrap();
                used.insert(module);
            }
        }
        assert_eq!(used, there);
    }

    /// Where a style or a script ends is told by its text alone.
    #[test]
    fn nothing_in_the_files_ends_them_early() {
        for file in ASSETS {
            for end in ["</", "<!--"] {
                assert!(!file.text.contains(end), "{}: {end}", file.name);
            }
        }
    }

    #[test]
    fn the_policy_names_what_is_in_the_page() {
        let (page, _) = index();
        let inside = Regex::new(r"(?s)<(style|script)[^>]*>(.*?)</").unwrap();
        let texts: Vec<_> = inside.captures_iter(page.text).collect();
        assert_eq!(texts.len(), 3);
        for text in texts {
            let hash = STANDARD.encode(digest(&SHA256, text[2].as_bytes()));
            assert!(content_security_policy().contains(&hash), "{}", &text[2]);
        }
        assert!(!content_security_policy().contains("unsafe"));
    }

    /// What a browser loads is 150 kB at most, with the JSON that it shows first.
    #[test]
    fn all_of_it_is_small() {
        let size = index().0.text.len();
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
        assert!(page.text.starts_with("<!doctype html>"));
        assert_eq!(of_page.len(), 34);
        let mut tags = BTreeSet::from([of_page]);
        for file in ASSETS {
            let (found, of_file) = asset(file.name).unwrap();
            assert_eq!(found, file);
            assert!(tags.insert(of_file), "{}", file.name);
        }
        assert_eq!(asset("none"), None);
    }
}
