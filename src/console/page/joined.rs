//! The modules of the page as one script.
//!
//! A browser asks for each module by itself, and each question costs it and the server more than
//! what is in the answer. So they are sent as one: each as the body of a function that gives what
//! it exports, in an order in which none comes before what it imports. What is for readers, comments
//! and indentation, stays behind.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::File;

/// A module, and before it those that it imports.
pub(super) fn join(modules: &[File], first: &str) -> String {
    let mut joining = Joining {
        modules,
        added: HashSet::new(),
        script: String::new(),
    };
    joining.add(first);
    joining.script
}

/// The same of a script that is none of the modules.
pub(super) fn lean(script: &str) -> String {
    let lines = script.lines().map(str::trim_start);
    let lines = lines.filter(|line| !is_comment(line));
    lines.flat_map(|line| [line, "\n"]).collect()
}

struct Joining<'a> {
    modules: &'a [File],
    added: HashSet<String>,
    script: String,
}

impl Joining<'_> {
    fn add(&mut self, name: &str) {
        let module = self.modules.iter().find(|file| file.name == name);
        let Some(module) = module.filter(|_| self.added.insert(name.to_owned())) else {
            return;
        };
        let (mut body, mut exports) = (String::new(), Vec::new());
        for line in module.text.lines().map(str::trim_start) {
            if let Some((names, from)) = import(line) {
                self.add(from);
                // Writing to a string does not fail.
                _ = writeln!(body, "const {names} = {};", variable(from));
            } else if let Some(rest) = line.strip_prefix("export ") {
                exports.extend(declared(rest));
                body.push_str(rest);
                body.push('\n');
            } else if !is_comment(line) {
                body.push_str(line);
                body.push('\n');
            }
        }
        let (variable, exports) = (variable(name), exports.join(", "));
        _ = writeln!(
            self.script,
            "const {variable} = (() => {{\n{body}return {{ {exports} }};\n}})();"
        );
    }
}

/// What a line imports, in its braces, and from which module.
fn import(line: &str) -> Option<(&str, &str)> {
    let (names, from) = line.strip_prefix("import ")?.split_once(" from \"./")?;
    Some((names, from.strip_suffix("\";")?))
}

/// The name that a line declares.
fn declared(line: &str) -> Option<&str> {
    let mut words = line.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
    words.find(|word| !matches!(*word, "async" | "class" | "const" | "function"))
}

fn is_comment(line: &str) -> bool {
    line.is_empty()
        || ["//", "/**", "* ", "*/"]
            .iter()
            .any(|it| line.starts_with(it))
}

/// What a module is called in the script: like nothing in it.
fn variable(module: &str) -> String {
    format!("${}", module.trim_end_matches(".js"))
}

#[cfg(test)]
mod tests {
    use super::super::ASSETS;
    use super::*;

    #[test]
    fn a_module_comes_after_what_it_imports() {
        let file = |name, text| File {
            name,
            media_type: "text/javascript",
            text,
        };
        let modules = [
            file(
                "app.js",
                "import { a, b } from \"./lib.js\";\n\n// Why.\n  a(b);\n",
            ),
            file(
                "lib.js",
                "/** What. */\nexport async function a(x) {}\nexport const b = 1;\n",
            ),
            file("other.js", "no();\n"),
        ];
        let expected = "const $lib = (() => {\nasync function a(x) {}\nconst b = 1;\nreturn { a, b };\n})();\n\
                        const $app = (() => {\nconst { a, b } = $lib;\na(b);\nreturn {  };\n})();\n";
        assert_eq!(join(&modules, "app.js"), expected);
        assert_eq!(join(&modules, "none.js"), "");
    }

    /// The lines are taken for what they begin with: nothing may go over several of them that is
    /// not code, and no two modules may need each other.
    #[test]
    fn the_modules_of_the_page_can_be_joined() {
        let script = join(&ASSETS, "app.js");
        for line in script.lines() {
            assert!(
                !["import ", "export "].iter().any(|it| line.starts_with(it)),
                "{line}"
            );
        }
        let mut above = HashSet::new();
        for file in ASSETS.iter().filter(|it| it.media_type.contains("script")) {
            for line in file.text.lines() {
                assert!(line.matches('`').count().is_multiple_of(2), "{line}");
            }
        }
        for line in script.lines() {
            if let Some((name, "(() => {")) = line.split_once(" = ") {
                above.insert(name.trim_start_matches("const ").to_owned());
            } else if let Some((_, from)) = line.split_once(" } = $") {
                let from = format!("${}", from.trim_end_matches(';'));
                assert!(above.contains(&from), "{line}");
            }
        }
        assert_eq!(above.len(), 15, "{above:?}");
    }
}
