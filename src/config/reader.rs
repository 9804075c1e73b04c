//! Typed reading of the tree: a [`Section`] hands out each of its keys once, and what is left in the end
//! is unknown.
//!
//! Owns how a value of each type is written and what is said when it is not. Does not know which keys exist.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::notice::{ConfigError, Notes};
use super::secret::{MASK, Secret};
use super::source::{Map, Node, Origin, Value};
use super::{Level, MinFree, units};

/// A map that is being read.
pub(super) struct Section<'n> {
    /// Dotted, empty for the whole file.
    key: String,
    origin: Origin,
    entries: Map,
    asked: Vec<&'static str>,
    notes: &'n Notes,
}

impl<'n> Section<'n> {
    pub(super) fn root(node: Node, notes: &'n Notes) -> Result<Self, ConfigError> {
        Field {
            key: String::new(),
            node,
            notes,
        }
        .section()
    }

    /// Whether the key is written at all, be it with nothing behind it.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(key, _)| key == name)
    }

    /// The value of a key, unless it is absent or blank: to Distribution these are the same.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Field<'n>> {
        self.asked.push(name);
        let index = self.entries.iter().position(|(key, _)| key == name)?;
        let (_, node) = self.entries.remove(index);
        let blank = match &node.value {
            Value::Null => true,
            Value::Scalar(text) => text.is_empty(),
            Value::List(_) | Value::Map(_) => false,
        };
        (!blank).then(|| self.field(name, node))
    }

    /// The value of a key, read as what `read` makes of it.
    pub(super) fn get<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Field<'n>) -> Result<T, ConfigError>,
    ) -> Result<Option<T>, ConfigError> {
        self.take(name).map(read).transpose()
    }

    /// The value of a key that must be there; `example` is one.
    pub(super) fn required<T>(
        &mut self,
        name: &'static str,
        example: &str,
        read: impl FnOnce(Field<'n>) -> Result<T, ConfigError>,
    ) -> Result<T, ConfigError> {
        match self.take(name) {
            Some(field) => read(field),
            None => Err(self.error(format!(
                "has no {name}; write for example `{name}: {example}`"
            ))),
        }
    }

    /// Names all the keys that must be there and are not, so that one message is enough.
    pub(super) fn demand(&self, names: &[&str]) -> Result<(), ConfigError> {
        let has = |name: &str| {
            let mut entries = self.entries.iter();
            entries.any(|(key, node)| key == name && !node.is_blank())
        };
        let missing: Vec<&str> = names.iter().copied().filter(|name| !has(name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let missing = missing.join(" and no ");
        Err(self.error(format!(
            "has no {missing}; write {} below it",
            names.join(", ")
        )))
    }

    /// A duration where zero means the default, as in Distribution.
    pub(super) fn duration_or(
        &mut self,
        name: &'static str,
        default: Duration,
    ) -> Result<Duration, ConfigError> {
        let written = self.get(name, Field::duration)?;
        Ok(written
            .filter(|duration| !duration.is_zero())
            .unwrap_or(default))
    }

    /// Whether there is nothing to read.
    pub(super) fn is_blank(&self) -> bool {
        self.entries.iter().all(|(_, node)| node.is_blank())
    }

    /// A section below this one; an absent one reads as empty.
    pub(super) fn section(&mut self, name: &'static str) -> Result<Self, ConfigError> {
        match self.take(name) {
            Some(field) => field.section(),
            None => Ok(self
                .field(name, Node::new(Value::Null, self.origin.clone()))
                .into_section()),
        }
    }

    /// Like [`Section::section`], for one that may be written as a bare name or a list of names.
    pub(super) fn section_or_names(&mut self, name: &'static str) -> Result<Self, ConfigError> {
        match self.take(name) {
            Some(field) => Ok(field.into_section()),
            None => self.section(name),
        }
    }

    /// All keys, for a section whose keys are names of the user's choice.
    pub(super) fn into_fields(mut self) -> Vec<(String, Field<'n>)> {
        std::mem::take(&mut self.entries)
            .into_iter()
            .map(|(name, node)| {
                let field = self.field(&name, node);
                (name, field)
            })
            .collect()
    }

    /// The keys not read yet, and where they stand.
    pub(super) fn remaining(&self) -> impl Iterator<Item = (&str, &Origin)> {
        self.entries
            .iter()
            .map(|(key, node)| (key.as_str(), &node.origin))
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// A problem with the section itself.
    pub(super) fn error(&self, problem: impl std::fmt::Display) -> ConfigError {
        ConfigError::new(&self.origin, &self.key, problem)
    }

    /// Something in the section that does not happen.
    pub(super) fn note(&self, text: &str) {
        self.notes.add(Level::Warn, &self.origin, text);
    }

    /// Ends reading: what nobody asked for is unknown, and is said to be so.
    pub(super) fn finish(self) {
        for (name, origin) in self.remaining() {
            let key = self.key_of(name);
            let plain = |name: &str| name.replace(['_', '-'], "").to_ascii_lowercase();
            let hint = self
                .asked
                .iter()
                .find(|known| plain(known) == plain(name))
                .map(|known| format!(" (did you mean {known}?)"))
                .unwrap_or_default();
            self.notes.add(
                Level::Warn,
                origin,
                format!("unknown key {key}: ignored{hint}"),
            );
        }
    }

    fn key_of(&self, name: &str) -> String {
        if self.key.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.key)
        }
    }

    fn field(&self, name: &str, node: Node) -> Field<'n> {
        Field {
            key: self.key_of(name),
            node,
            notes: self.notes,
        }
    }
}

/// One value that is being read.
#[derive(Clone)]
pub(super) struct Field<'n> {
    key: String,
    node: Node,
    notes: &'n Notes,
}

impl<'n> Field<'n> {
    pub(super) fn origin(&self) -> &Origin {
        &self.node.origin
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    /// A problem with this value.
    pub(super) fn error(&self, problem: impl std::fmt::Display) -> ConfigError {
        ConfigError::new(&self.node.origin, &self.key, problem)
    }

    /// A remark about this value.
    pub(super) fn note(&self, level: Level, text: impl std::fmt::Display) {
        let key = &self.key;
        self.notes
            .add(level, &self.node.origin, format!("{key}: {text}"));
    }

    /// Text. From the environment, what the variable holds: only there can text be taken for YAML.
    /// Errors never repeat the value, which may be a password.
    pub(super) fn text(self) -> Result<String, ConfigError> {
        match (&self.node.value, &self.node.verbatim) {
            (Value::Scalar(text), Some(raw)) if raw.trim_start().starts_with(['"', '\'']) => {
                Ok(text.clone())
            }
            (_, Some(raw)) => Ok(raw.trim().to_owned()),
            (Value::Scalar(text), None) => Ok(text.clone()),
            (Value::Null, None) => Ok(String::new()),
            (Value::List(_) | Value::Map(_), None) => {
                Err(self.error("must be text; if it is, write it in quotes"))
            }
        }
    }

    /// Text that must not be shown.
    pub(super) fn secret(self) -> Result<Secret, ConfigError> {
        let masked = self.error(
            "this is the mask that stands for a secret in the output of `larder config`; write the secret itself",
        );
        match self.text()? {
            text if text == MASK => Err(masked),
            text => Ok(Secret::new(text)),
        }
    }

    /// Text for a header or a log line: nothing in it ends the line.
    pub(super) fn line(self) -> Result<String, ConfigError> {
        let wrong = self.error("must be text on one line");
        let text = self.text()?;
        if text.contains(char::is_control) {
            Err(wrong)
        } else {
            Ok(text)
        }
    }

    /// One of a few words, in any case.
    pub(super) fn choice<T: Copy>(self, choices: &[(&str, T)]) -> Result<T, ConfigError> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let find = |text: &str| {
            let mut choices = choices.iter();
            choices
                .find(|(word, _)| word.eq_ignore_ascii_case(text))
                .map(|(_, value)| *value)
        };
        self.parsed(find, "not possible here", &words.join(" or "))
    }

    /// `true` or `false`, and YAML 1.1's other words for them.
    pub(super) fn bool(self) -> Result<bool, ConfigError> {
        let parse = |text: &str| match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => Some(true),
            "false" | "no" | "off" | "n" => Some(false),
            _ => None,
        };
        self.parsed(parse, "neither true nor false", "true or false")
    }

    /// A whole number, 0 or more.
    pub(super) fn integer(self) -> Result<usize, ConfigError> {
        self.parsed(
            |text| text.parse().ok(),
            "not a whole number",
            "for example 1000",
        )
    }

    /// How many times in a row.
    pub(super) fn count(self) -> Result<u32, ConfigError> {
        self.parsed(
            |text| text.parse().ok(),
            "not a whole number",
            "for example 3",
        )
    }

    /// A duration, see [`units::duration`].
    pub(super) fn duration(self) -> Result<Duration, ConfigError> {
        if let Value::Scalar(text) = &self.node.value
            && let Ok(count @ 1..1_000_000) = text.parse::<u32>()
        {
            let text =
                format!("{count} means {count} nanoseconds; write {count}s if seconds are meant");
            self.note(Level::Warn, text);
        }
        self.parsed(units::duration, "not a duration", "for example 5m or 720h")
    }

    /// The same of a key that Distribution does not have: there nobody means nanoseconds.
    pub(super) fn time(self) -> Result<Duration, ConfigError> {
        if let Value::Scalar(text) = &self.node.value
            && text.trim().parse::<u64>().is_ok_and(|count| count > 0)
        {
            let count = text.trim();
            return Err(self.error(format!("{count} has no unit; write for example 5m or 720h")));
        }
        self.duration()
    }

    /// A number of bytes, see [`units::size`].
    pub(super) fn size(self) -> Result<u64, ConfigError> {
        self.warn_of_few_bytes("GB");
        self.parsed(units::size, "not a size", "for example 100GB or 20GiB")
    }

    /// A share of the disk or a number of bytes, see [`units::min_free`].
    pub(super) fn min_free(self) -> Result<MinFree, ConfigError> {
        self.warn_of_few_bytes("%");
        self.parsed(
            units::min_free,
            "neither a percentage nor a size",
            "for example 10% or 20GB",
        )
    }

    /// A small number without a unit is seldom meant as bytes.
    fn warn_of_few_bytes(&self, unit: &str) {
        if let Value::Scalar(text) = &self.node.value
            && let Ok(count @ 1..1_000_000) = text.trim().parse::<u32>()
        {
            let text = format!("{count} means {count} bytes; write {count}{unit} if that is meant");
            self.note(Level::Warn, text);
        }
    }

    /// A path, relative to the directory the program is started in.
    pub(super) fn path(self) -> Result<PathBuf, ConfigError> {
        self.text().map(PathBuf::from)
    }

    /// An http or https URL that holds nothing but scheme, host, port and path.
    pub(super) fn url(self) -> Result<Url, ConfigError> {
        const EXAMPLE: &str = "write for example https://registry.example.com";
        let text = match &self.node.value {
            Value::Scalar(text) => text.trim(),
            _ => return Err(self.error(format!("must be a URL; {EXAMPLE}"))),
        };
        if text.contains('@') {
            // Not repeated in the message: there may be a password in it.
            return Err(self.error(
                "a URL must not contain a user name or password; they have keys of their own",
            ));
        }
        let wrong = |problem| self.error(format!("{} {problem}; {EXAMPLE}", quoted(text)));
        let url = Url::parse(text).map_err(|error| match error {
            url::ParseError::RelativeUrlWithoutBase => wrong("lacks http:// or https://".into()),
            other => wrong(format!("is not a URL ({other})")),
        })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("must begin with http:// or https://".into()));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("must end before the ? or #".into()));
        }
        Ok(url)
    }

    /// A list of texts; a single one may do without the brackets.
    pub(super) fn texts(self) -> Result<Vec<String>, ConfigError> {
        if let Value::Map(_) = self.node.value {
            return Err(self.error("must be a list; write for example [one, two]"));
        }
        self.items().into_iter().map(Self::text).collect()
    }

    /// The items of a list, without blank ones; what is not a list is its only item.
    pub(super) fn items(self) -> Vec<Self> {
        let Self { key, node, notes } = self;
        match node.value {
            Value::Null => Vec::new(),
            Value::Scalar(_) | Value::Map(_) => vec![Self { key, node, notes }],
            Value::List(items) => items
                .into_iter()
                .enumerate()
                .filter(|(_, item)| !item.is_blank())
                .map(|(index, node)| {
                    let key = format!("{key}[{index}]");
                    Self { key, node, notes }
                })
                .collect(),
        }
    }

    /// A section: a map, or nothing.
    pub(super) fn section(self) -> Result<Section<'n>, ConfigError> {
        match &self.node.value {
            Value::Map(_) | Value::Null => Ok(self.into_section()),
            Value::List(_) => Err(self.error("must hold keys, not a list")),
            Value::Scalar(text) => {
                let text = quoted(text);
                Err(self.error(format!(
                    "must hold keys, not the value {text}; write `key: value` lines, indented, below it"
                )))
            }
        }
    }

    fn into_section(self) -> Section<'n> {
        Section {
            entries: self.node.value.into_map(&self.node.origin),
            key: self.key,
            origin: self.node.origin,
            asked: Vec::new(),
            notes: self.notes,
        }
    }

    fn parsed<T>(
        self,
        parse: impl FnOnce(&str) -> Option<T>,
        problem: &str,
        example: &str,
    ) -> Result<T, ConfigError> {
        let Value::Scalar(text) = &self.node.value else {
            return Err(self.error(format!("{problem}; write {example}")));
        };
        parse(text.trim()).ok_or_else(|| {
            let text = quoted(text);
            self.error(format!("{text} is {problem}; write {example}"))
        })
    }
}

/// The beginning of a value, on one line, for a message.
pub(super) fn quoted(text: &str) -> String {
    const ENOUGH: usize = 60;
    let mut shown: String = text.chars().take(ENOUGH).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}
