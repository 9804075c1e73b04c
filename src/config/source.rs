//! Where settings come from: a YAML file, read into a tree. `environment` puts variables into the same.
//!
//! Owns the tree and the origin of each of its nodes. Knows no key by name and no type: a scalar stays
//! the text that was written, because what YAML would make of `0123` or `off` depends on what the key is for.

use std::fmt;
use std::rc::Rc;

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};

use super::notice::ConfigError;

/// The place a value was written at. Sorts as a person reads: by line, then the environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// A line of the configuration file, counted from 1.
    File { name: Rc<str>, line: usize },
    /// An environment variable.
    Env(Rc<str>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line } => write!(f, "{name}:{line}"),
            Self::Env(name) => f.write_str(name),
        }
    }
}

/// Keys in the order they were written.
pub(super) type Map = Vec<(String, Node)>;

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    /// The text as written, without quotes.
    Scalar(String),
    List(Vec<Node>),
    Map(Map),
}

/// A value and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) value: Value,
    /// The line of the key, for a value in a map.
    pub(super) origin: Origin,
    /// The whole text of an environment variable, for keys that want text and not what YAML makes of
    /// it: `REGISTRY_PROXY_PASSWORD='{x} #y'`.
    pub(super) verbatim: Option<Rc<str>>,
}

impl Node {
    pub(super) fn new(value: Value, origin: Origin) -> Self {
        Self {
            value,
            origin,
            verbatim: None,
        }
    }

    /// Says nothing: null, an empty text, or a container of such. Distribution treats them as absent.
    pub(super) fn is_blank(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::Scalar(text) => text.is_empty(),
            Value::List(items) => items.iter().all(Self::is_blank),
            Value::Map(map) => map.iter().all(|(_, node)| node.is_blank()),
        }
    }

    /// Blank, or switches something off: there is nothing to warn about.
    pub(super) fn is_off(&self) -> bool {
        match &self.value {
            Value::Scalar(text) => text == "false" || self.is_blank(),
            Value::Map(map) => map.iter().all(|(_, node)| node.is_off()),
            Value::Null | Value::List(_) => self.is_blank(),
        }
    }

    /// The value of a key.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        let Value::Map(map) = &self.value else {
            return None;
        };
        map.iter()
            .find(|(key, _)| key == name)
            .map(|(_, node)| node)
    }

    /// Cuts out the node at a dotted path.
    pub(super) fn remove(&mut self, path: &str) -> Option<Self> {
        let Value::Map(map) = &mut self.value else {
            return None;
        };
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        let index = map.iter().position(|(key, _)| key == first)?;
        if rest.is_empty() {
            Some(map.remove(index).1)
        } else {
            map[index].1.remove(rest)
        }
    }
}

impl Value {
    /// The map this value is, or stands for: null is empty, and the short forms `storage: filesystem` and
    /// `upstreams: [docker.io]` are `{filesystem: null}` and `{docker.io: null}`.
    pub(super) fn into_map(self, origin: &Origin) -> Map {
        match self {
            Self::Map(map) => map,
            Self::Null => Map::new(),
            Self::Scalar(text) if text.is_empty() => Map::new(),
            Self::Scalar(text) => vec![(text, Node::new(Self::Null, origin.clone()))],
            Self::List(items) => items
                .into_iter()
                .flat_map(|item| item.value.into_map(&item.origin))
                .collect(),
        }
    }
}

/// Reads the text of a file. `name` is how messages call it.
pub(super) fn from_yaml(name: &str, text: &str) -> Result<Node, ConfigError> {
    let name: Rc<str> = name.into();
    let origin = |line| Origin::File {
        name: Rc::clone(&name),
        line,
    };
    parse(text, &origin).map_err(|fault| {
        ConfigError::new(
            &origin(fault.line),
            "",
            format!("not valid YAML: {}", fault.problem),
        )
    })
}

/// What is wrong with a text that is not YAML, or not the subset that makes sense here.
pub(super) struct Fault {
    line: usize,
    problem: String,
}

/// Parses one YAML document. `origin` says what a line of it is called.
pub(super) fn parse(text: &str, origin: &dyn Fn(usize) -> Origin) -> Result<Node, Fault> {
    if let Some(line) = text.lines().position(nests_too_deeply) {
        return Err(Fault {
            line: line + 1,
            problem: "nested too deeply".to_owned(),
        });
    }
    let documents = MarkedYaml::load_from_str(text).map_err(|error| Fault {
        line: error.marker().line().max(1),
        problem: error.info().to_owned(),
    })?;
    match documents.as_slice() {
        [] => Ok(Node::new(Value::Null, origin(1))),
        [document] => Document { text, origin }.node(document, None),
        [_, second, ..] => Err(Fault {
            line: second.span.start.line(),
            problem: "a second document begins here, and only one is read: remove the `---`"
                .to_owned(),
        }),
    }
}

/// saphyr limits the nesting of `[` and `{` but recurses over indentation, which costs at least a column per level.
fn nests_too_deeply(line: &str) -> bool {
    const COLUMNS: usize = 400;
    line.char_indices()
        .find(|(_, c)| !matches!(c, ' ' | '\t' | '-' | '?' | ':'))
        .map_or(line.len(), |(index, _)| index)
        > COLUMNS
}

/// A parsed document on its way into the tree.
struct Document<'a> {
    text: &'a str,
    origin: &'a dyn Fn(usize) -> Origin,
}

impl Document<'_> {
    /// `key_line` is the line of the key that this is the value of.
    fn node(&self, yaml: &MarkedYaml<'_>, key_line: Option<usize>) -> Result<Node, Fault> {
        let line = key_line.unwrap_or_else(|| yaml.span.start.line());
        let value = match &yaml.data {
            YamlData::Value(Scalar::Null) => Value::Null,
            YamlData::Value(scalar) => Value::Scalar(self.scalar(scalar, yaml)),
            YamlData::Sequence(items) => Value::List(
                items
                    .iter()
                    .map(|item| self.node(item, None))
                    .collect::<Result<_, _>>()?,
            ),
            YamlData::Mapping(entries) => Value::Map(self.map(entries.iter())?),
            YamlData::Tagged(_, inner) => return self.node(inner, Some(line)),
            YamlData::Representation(..) | YamlData::Alias(_) | YamlData::BadValue => {
                return Err(Fault {
                    line,
                    problem: "the value does not fit its tag".to_owned(),
                });
            }
        };
        Ok(Node::new(value, (self.origin)(line)))
    }

    fn map<'y>(
        &self,
        entries: impl Iterator<Item = (&'y MarkedYaml<'y>, &'y MarkedYaml<'y>)>,
    ) -> Result<Map, Fault> {
        let mut map = Map::new();
        let mut merged = Map::new();
        for (key, value) in entries {
            let line = key.span.start.line();
            let node = self.node(value, Some(line))?;
            match self.node(key, None)?.value {
                Value::Scalar(name) if name == "<<" => merge(&mut merged, node),
                Value::Scalar(name) => map.push((name, node)),
                Value::Null | Value::List(_) | Value::Map(_) => {
                    return Err(Fault {
                        line,
                        problem: "a key must be text".to_owned(),
                    });
                }
            }
        }
        for (name, node) in merged {
            if !map.iter().any(|(key, _)| *key == name) {
                map.push((name, node));
            }
        }
        Ok(map)
    }

    /// The text of a scalar. saphyr has already turned what looks like a number into one, and `0123` or
    /// `1e3` may well be a password: take it from the source, if that is where it stands.
    fn scalar(&self, scalar: &Scalar<'_>, yaml: &MarkedYaml<'_>) -> String {
        if let Scalar::String(text) = scalar {
            return text.to_string();
        }
        let (start, end) = (yaml.span.start.index(), yaml.span.end.index());
        let span = self
            .text
            .chars()
            .skip(start)
            .take(end.saturating_sub(start));
        let written: String = span.collect();
        // An anchor or a tag stands before it; a number, true or false has no space in it.
        let written = written.split_whitespace().next_back().unwrap_or_default();
        if Scalar::parse_from_cow(written.into()) == *scalar {
            return written.to_owned();
        }
        // An alias: the span is where it is used, so this is the number and not its spelling.
        match scalar {
            Scalar::String(text) => text.to_string(),
            Scalar::Boolean(value) => value.to_string(),
            Scalar::Integer(value) => value.to_string(),
            Scalar::FloatingPoint(value) => value.to_string(),
            Scalar::Null => String::new(),
        }
    }
}

/// YAML's merge key: `<<: *common` or `<<: [*a, *b]`; what came first wins.
fn merge(into: &mut Map, node: Node) {
    match node.value {
        Value::Map(map) => {
            for (key, node) in map {
                if !into.iter().any(|(known, _)| *known == key) {
                    into.push((key, node));
                }
            }
        }
        Value::List(items) => items.into_iter().for_each(|item| merge(into, item)),
        Value::Null | Value::Scalar(_) => {}
    }
}

/// The tree as one line: `{a: {b: 1}}`.
#[cfg(test)]
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Value::Null => f.write_str("~"),
            Value::Scalar(text) => f.write_str(text),
            Value::List(items) => {
                let items: Vec<_> = items.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Value::Map(map) => {
                let pairs: Vec<_> = map
                    .iter()
                    .map(|(key, node)| format!("{key}: {node}"))
                    .collect();
                write!(f, "{{{}}}", pairs.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Result<String, String> {
        from_yaml("c.yml", text)
            .map(|root| root.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn yaml_keeps_the_text_that_was_written() {
        let table = [
            (
                "a: 0123\nb: 1e3 # c\nc: &x 007\nd: off",
                "{a: 0123, b: 1e3, c: 007, d: off}",
            ),
            (
                "a: ''\nb:\nc: ~\nd: !!str 5\n5: x",
                "{a: , b: ~, c: ~, d: 5, 5: x}",
            ),
            ("\u{feff}é: é\r\na: 010\r\n", "{é: é, a: 010}"),
            (
                "x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}",
                "{x: {a: 1, b: 2}, y: {b: 3, a: 1}}",
            ),
            ("# nothing", "~"),
        ];
        for (text, expected) in table {
            assert_eq!(tree(text).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn what_is_not_yaml_is_named_with_its_line() {
        let deep = "- ".repeat(100_000);
        let table = [
            ("a: 1\na: 2", "c.yml:2: not valid YAML: duplicated key"),
            ("a: b: c", "c.yml:1: "),
            (
                "a: 1\n---\nb: 2",
                "c.yml:3: not valid YAML: a second document",
            ),
            ("? [a]\n: 1", "c.yml:1: not valid YAML: a key must be text"),
            ("a: !!int b", "c.yml:1: "),
            (&deep, "c.yml:1: not valid YAML: nested too deeply"),
        ];
        for (text, expected) in table {
            let error = tree(text).expect_err("refused");
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
