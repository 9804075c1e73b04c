//! daemon.json. Only the text where something is added changes: order, indentation, and how numbers
//! are written stay.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Daemon, MergeError};

/// Docker reads a file that begins so.
const MARK: char = '\u{feff}';

impl Daemon {
    pub(super) fn merged(&self, before: &str, whole: &str) -> Result<String, MergeError> {
        let (mark, mut text) = match before.strip_prefix(MARK) {
            Some(rest) => (MARK.to_string(), rest.to_owned()),
            None => (String::new(), before.to_owned()),
        };
        let lists = [
            ("registry-mirrors", &self.mirror),
            ("insecure-registries", &self.insecure),
        ];
        for (key, value) in lists {
            if let Some(value) = value {
                text = with_first(&text, key, value, whole)?;
            }
        }
        Ok(mark + &text)
    }
}

/// The members of an object, in the order of the text, as they are written.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// The text with `value` as the first of the list `key` of its object.
fn with_first(text: &str, key: &str, value: &str, whole: &str) -> Result<String, MergeError> {
    let members: Members<'_> = serde_json::from_str(text).map_err(|error| unreadable(&error))?;
    let conflict = |problem: String| MergeError::conflict(problem, whole);
    let mut named = members.0.iter().filter(|(name, _)| name == key);
    let list = named.next().map(|(_, list)| *list);
    if named.next().is_some() {
        return Err(conflict(format!("{key} is there twice")));
    }
    let new = serde_json::Value::from(value).to_string();
    let Some(list) = list else {
        return Ok(with_member(text, &members, key, &new));
    };
    let place = span(text, list);
    if list.get() == "null" {
        return Ok(replaced(text, place, &format!("[{new}]")));
    }
    let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(list.get()) else {
        return Err(conflict(format!("{key} is not a list")));
    };
    let is_same = |item: &&RawValue| {
        let item: Option<String> = serde_json::from_str(item.get()).ok();
        item.is_some_and(|item| item.trim_end_matches('/') == value)
    };
    if items.iter().any(is_same) {
        return Ok(text.to_owned());
    }
    let Some(first) = items.first() else {
        return Ok(replaced(text, place, &format!("[{new}]")));
    };
    // The first item's place is known in the list's text, which is part of the whole.
    let inner = place.0 + span(list.get(), first).0;
    let gap = &text[place.0 + 1..inner];
    let gap = if gap.is_empty() { " " } else { gap };
    Ok(replaced(text, (inner, inner), &format!("{new},{gap}")))
}

/// The text with one more member at its object's end, laid out like the first.
fn with_member(text: &str, members: &Members<'_>, key: &str, value: &str) -> String {
    let open = text.find('{').unwrap_or(0);
    let Some((_, last)) = members.0.last() else {
        let close = text.rfind('}').map_or(text.len(), |at| at + 1);
        let object = format!("{{\n  \"{key}\": [{value}]\n}}");
        return replaced(text, (open, close), &object);
    };
    let rest = &text[open + 1..];
    let gap = &rest[..rest.len() - rest.trim_start().len()];
    let gap = if gap.is_empty() { " " } else { gap };
    let end = span(text, last).1;
    replaced(text, (end, end), &format!(",{gap}\"{key}\": [{value}]"))
}

/// Where a value stands in the text that it was read from.
fn span(text: &str, value: &RawValue) -> (usize, usize) {
    let start = (value.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    (start, start + value.get().len())
}

fn replaced(text: &str, (start, end): (usize, usize), by: &str) -> String {
    format!("{}{by}{}", &text[..start], &text[end..])
}

fn unreadable(error: &serde_json::Error) -> MergeError {
    let said = error.to_string();
    let problem = said.split(" at line ").next().unwrap_or(&said);
    MergeError::Unreadable {
        line: error.line(),
        column: error.column(),
        problem: format!("not valid JSON: {problem}"),
    }
}
