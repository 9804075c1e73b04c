//! JSON without double meanings.
//!
//! Of two members with one name some parsers take the first and some the last. In a token that is two
//! tokens under one signature, so such a text is none.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Reads a value, in which no object has two members of one name at any depth.
pub(super) fn strict<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    serde_json::from_slice::<Unambiguous>(text).ok()?;
    serde_json::from_slice(text).ok()
}

/// Any value; nothing is kept of it.
struct Unambiguous;

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Look)
    }
}

struct Look;

impl<'de> Visitor<'de> for Look {
    type Value = Unambiguous;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without repeated names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unambiguous, A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name) {
                return Err(serde::de::Error::custom("a name twice"));
            }
            map.next_value::<Unambiguous>()?;
        }
        Ok(Unambiguous)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Unambiguous, A::Error> {
        while items.next_element::<Unambiguous>()?.is_some() {}
        Ok(Unambiguous)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_str<E>(self, _: &str) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_unit<E>(self) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn names_occur_once() {
        for good in [r#"{"a":1,"b":{"a":[null,true,-1,1.5,"x",{}]}}"#, "[]", "1"] {
            assert!(strict::<Value>(good.as_bytes()).is_some(), "{good}");
        }
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"[{"x":[{"b":1,"b":2}]}]"#,
            r#"{"a":1} "#.trim_end_matches("} "),
            r#"{"a":1}x"#,
            "1e400",
            "",
        ] {
            assert!(strict::<Value>(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(strict::<Value>("[".repeat(100_000).as_bytes()).is_none());
    }
}
