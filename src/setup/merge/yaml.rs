//! YAML, as k3s reads it. Lines are added, and then it is read again: it must say what it said, and
//! what is wanted, and nothing else. What cannot be added in that way is left to its author.

use std::fmt::Write as _;

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};
use serde_json::{Map, Value};

use super::{MergeError, Yaml, YamlWish, with_block};

/// More levels than any such file has. A parser that recurses needs some bound.
const DEEPEST: usize = 200;

impl Yaml {
    pub(super) fn merged(&self, before: &str, whole: &str) -> Result<String, MergeError> {
        let mut text = before.to_owned();
        for wish in &self.0 {
            text = wish.added(&text, whole)?;
        }
        Ok(text)
    }
}

impl YamlWish {
    fn path(&self) -> &[String] {
        match self {
            Self::First(path, _) | Self::Is(path, _) => path,
        }
    }

    /// What stands below the path's `depth` last keys, indented by `indent` columns.
    fn lines(&self, from: usize, indent: usize) -> String {
        let mut text = String::new();
        let mut indent = indent;
        let path = &self.path()[from..];
        for (at, key) in path.iter().enumerate() {
            // What k3s itself names needs no quotes.
            let is_plain = key
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            let key = if is_plain {
                key.clone()
            } else {
                format!("\"{key}\"")
            };
            let end = match self {
                Self::Is(_, value) if at + 1 == path.len() => format!(" \"{value}\""),
                _ => String::new(),
            };
            // Writing to a String does not fail.
            _ = writeln!(text, "{:indent$}{key}:{end}", "");
            indent += 2;
        }
        if let Self::First(_, value) = self {
            _ = writeln!(text, "{:indent$}- \"{value}\"", "");
        }
        text
    }

    fn added(&self, before: &str, whole: &str) -> Result<String, MergeError> {
        let document = parse(before)?;
        let conflict = |problem: String| MergeError::conflict(problem, whole);
        let mut said = document
            .as_ref()
            .map_or(Ok(Value::Null), |it| plain(it, 0))
            .map_err(conflict)?;
        if !self.wish(&mut said).map_err(conflict)? {
            return Ok(before.to_owned());
        }
        let added = match &document {
            Some(document) => self.insert(before, document),
            None => Some(with_line_end(before) + &self.lines(0, 0)),
        };
        let is_as_wished = |text: &String| {
            let again = parse(text).ok().flatten();
            again.and_then(|it| plain(&it, 0).ok()) == Some(said.clone())
        };
        let key = self.path().join(".");
        added.filter(is_as_wished).ok_or_else(|| {
            conflict(format!(
                "{key} cannot be added to what is there without changing that"
            ))
        })
    }

    /// Does to a value what is to be done to the text. Says whether there was anything to do.
    fn wish(&self, document: &mut Value) -> Result<bool, String> {
        let mut place = document;
        for (depth, key) in self.path().iter().enumerate() {
            if place.is_null() {
                *place = Value::Object(Map::new());
            }
            let Value::Object(map) = place else {
                let above = self.path()[..depth].join(".");
                return Err(format!("{above} is not a mapping"));
            };
            place = map.entry(key.clone()).or_insert(Value::Null);
        }
        let key = self.path().join(".");
        match (self, &mut *place) {
            (Self::Is(_, value), Value::Null) => *place = Value::from(value.as_str()),
            (Self::Is(_, value), there) if *there == value.as_str() => return Ok(false),
            (Self::Is(..), there) => return Err(format!("{key} is {there}")),
            (Self::First(_, value), Value::Null) => *place = Value::from(vec![value.as_str()]),
            (Self::First(_, value), Value::Array(items)) => {
                let is_same = |item: &Value| {
                    let text = item.as_str().unwrap_or_default();
                    text.trim_end_matches('/') == value
                };
                if items.iter().any(is_same) {
                    return Ok(false);
                }
                items.insert(0, Value::from(value.as_str()));
            }
            (Self::First(..), _) => return Err(format!("{key} is not a list")),
        }
        Ok(true)
    }

    /// The text with the lines where they belong; `None` where there is no place for lines.
    fn insert(&self, text: &str, document: &MarkedYaml<'_>) -> Option<String> {
        let mut node = document;
        let mut key_line = 0;
        for (depth, key) in self.path().iter().enumerate() {
            let entries: Vec<_> = match &node.data {
                YamlData::Mapping(entries) => entries.iter().collect(),
                // Nothing behind a key: the lines go below it.
                YamlData::Value(Scalar::Null) if depth > 0 => {
                    let indent = indent_of(text, key_line)? + 2;
                    return Some(with_lines(text, key_line, &self.lines(depth, indent)));
                }
                _ => return None,
            };
            let column = entries.first().map(|(key, _)| key.span.start.col())?;
            let found = entries.iter().find(|(name, _)| {
                matches!(&name.data, YamlData::Value(it) if scalar(it).as_str() == Some(key))
            });
            let Some((name, below)) = found else {
                return Some(if depth == 0 {
                    with_block(text, &self.lines(0, 0))
                } else {
                    with_lines(text, key_line, &self.lines(depth, column))
                });
            };
            key_line = name.span.start.line();
            node = below;
        }
        let YamlWish::First(_, value) = self else {
            return None;
        };
        match &node.data {
            YamlData::Value(Scalar::Null) => {
                let indent = indent_of(text, key_line)? + 2;
                let line = format!("{:indent$}- \"{value}\"\n", "");
                Some(with_lines(text, key_line, &line))
            }
            YamlData::Sequence(items) => {
                let start = byte_at(text, node.span.start.index());
                if let Some(inside) = text.get(start..).and_then(|it| it.strip_prefix('[')) {
                    let rest = if items.is_empty() { "" } else { ", " };
                    let before = &text[..=start];
                    return Some(format!("{before}\"{value}\"{rest}{inside}"));
                }
                let indent = indent_of(text, items.first()?.span.start.line())?;
                let line = format!("{:indent$}- \"{value}\"\n", "");
                Some(with_lines(text, key_line, &line))
            }
            _ => None,
        }
    }
}

fn with_line_end(text: &str) -> String {
    let end = if text.ends_with('\n') || text.is_empty() {
        ""
    } else {
        "\n"
    };
    format!("{text}{end}")
}

/// The text with lines behind one of its lines, counted from 1.
fn with_lines(text: &str, line: usize, lines: &str) -> String {
    let text = with_line_end(text);
    let ends = text.match_indices('\n').map(|(at, _)| at + 1);
    let at = ends.take(line).last().unwrap_or(0);
    format!("{}{lines}{}", &text[..at], &text[at..])
}

/// How far a line, counted from 1, is indented with spaces.
fn indent_of(text: &str, line: usize) -> Option<usize> {
    let line = text.lines().nth(line.checked_sub(1)?)?;
    Some(line.len() - line.trim_start_matches(' ').len())
}

/// The byte at which a character begins.
fn byte_at(text: &str, character: usize) -> usize {
    let place = text.char_indices().nth(character);
    place.map_or(text.len(), |(at, _)| at)
}

/// The one document; `None` where there is only space and comments.
fn parse(text: &str) -> Result<Option<MarkedYaml<'_>>, MergeError> {
    let unreadable = |line: usize, column: usize, problem: &str| MergeError::Unreadable {
        line: line.max(1),
        column: column + 1,
        problem: format!("not valid YAML: {problem}"),
    };
    // A level costs a column at least.
    let too_deep = |line: &str| {
        let is_structure = |c: char| matches!(c, ' ' | '\t' | '-' | '?' | ':');
        line.len() - line.trim_start_matches(is_structure).len() > 2 * DEEPEST
    };
    if let Some(line) = text.lines().position(too_deep) {
        return Err(unreadable(line + 1, 0, "nested too deeply"));
    }
    let documents = MarkedYaml::load_from_str(text);
    let mut documents = documents.map_err(|error| {
        let marker = error.marker();
        unreadable(marker.line(), marker.col(), error.info())
    })?;
    if let Some(second) = documents.get(1) {
        let start = second.span.start;
        return Err(unreadable(
            start.line(),
            start.col(),
            "a second document begins here",
        ));
    }
    let document = documents.pop();
    Ok(document.filter(|it| !matches!(it.data, YamlData::Value(Scalar::Null))))
}

fn scalar(scalar: &Scalar<'_>) -> Value {
    match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(value) => Value::from(*value),
        Scalar::Integer(value) => Value::from(*value),
        // As text: what a number is matters to nobody here, only whether it is still the same.
        Scalar::FloatingPoint(value) => Value::from(value.to_string()),
        Scalar::String(text) => Value::from(text.as_ref()),
    }
}

/// What a document says.
fn plain(yaml: &MarkedYaml<'_>, depth: usize) -> Result<Value, String> {
    if depth > DEEPEST {
        return Err("it is nested too deeply".to_owned());
    }
    Ok(match &yaml.data {
        YamlData::Value(value) => scalar(value),
        YamlData::Sequence(items) => {
            let items = items.iter().map(|item| plain(item, depth + 1));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        YamlData::Mapping(entries) => {
            let mut map = Map::new();
            for (key, below) in entries {
                let key = match plain(key, depth + 1)? {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                if map.insert(key, plain(below, depth + 1)?).is_some() {
                    return Err("two of its keys are the same text".to_owned());
                }
            }
            Value::Object(map)
        }
        YamlData::Tagged(tag, inner) => {
            let mut map = Map::new();
            map.insert(format!("!{tag:?}"), plain(inner, depth + 1)?);
            Value::Object(map)
        }
        YamlData::Representation(..) | YamlData::Alias(_) | YamlData::BadValue => {
            return Err("a value does not fit its tag".to_owned());
        }
    })
}
