//! YAML, written line by line.

use std::path::{Path, PathBuf};

/// YAML, line by line.
#[derive(Default)]
pub(super) struct Lines(pub(super) String);

impl Lines {
    pub(super) fn pair(&mut self, depth: usize, key: &str, value: &str) {
        let indent = "  ".repeat(depth);
        self.0.extend([&indent, key, ": ", value, "\n"]);
    }

    pub(super) fn open(&mut self, depth: usize, key: &str) {
        let indent = "  ".repeat(depth);
        self.0.extend([&indent, key, ":\n"]);
    }

    pub(super) fn path(&mut self, depth: usize, key: &str, path: &Path) {
        self.pair(depth, key, &quote(&path.to_string_lossy()));
    }

    /// An entry of a list of maps: keys with values that are written already.
    pub(super) fn item(&mut self, depth: usize, pairs: &[(&str, String)]) {
        let indent = "  ".repeat(depth);
        for (index, (key, value)) in pairs.iter().enumerate() {
            let mark = if index == 0 { "- " } else { "  " };
            self.0.extend([&indent, mark, key, ": ", value, "\n"]);
        }
    }
}

/// `[a, b]`, of texts that need quotes.
pub(super) fn list<T: AsRef<str>>(texts: &[T]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quote(text.as_ref())).collect();
    format!("[{}]", quoted.join(", "))
}

/// `[a, b]`, of paths.
pub(super) fn paths(paths: &[PathBuf]) -> String {
    let texts: Vec<_> = paths.iter().map(|path| path.to_string_lossy()).collect();
    list(&texts)
}

/// `{name: [values]}`. A name may occur twice, but a key may not: its values go together, where the name is first.
pub(super) fn headers<V: ToString>(headers: &[(String, V)]) -> String {
    let mut merged: Vec<(&str, Vec<String>)> = Vec::new();
    for (name, value) in headers {
        let value = value.to_string();
        match merged.iter_mut().find(|(other, _)| other == name) {
            Some((_, values)) => values.push(value),
            None => merged.push((name, vec![value])),
        }
    }
    let pairs = merged.iter();
    let pairs: Vec<String> = pairs
        .map(|(name, values)| format!("{}: {}", quote(name), list(values)))
        .collect();
    format!("{{{}}}", pairs.join(", "))
}

/// The word for a value, in a table that is read the other way too.
pub(super) fn word<T: Copy + PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    let mut words = words.iter();
    words
        .find(|(_, other)| *other == value)
        .map_or("", |(word, _)| word)
}

pub(super) fn bool(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

/// A double-quoted scalar. What YAML may not contain, or would take for a line break, is escaped.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            _ if c.is_alphanumeric() => quoted.push(c),
            _ => quoted.extend(["\\U", &format!("{:08X}", u32::from(c))]),
        }
    }
    quoted.push('"');
    quoted
}
