//! What a stored manifest refers to, whatever its type: read broadly, for those who must not throw
//! away what it may need.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::digest::Digest;

/// The content that a manifest names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Everything it describes: config, layers, children, and what other types of manifests have.
    pub named: Vec<Digest>,
    /// The manifest it is attached to. It does not need it.
    pub subject: Option<Digest>,
}

/// Why bytes have no references that could be known.
#[derive(Debug, thiserror::Error)]
#[error("not a JSON object: {0}")]
pub struct ReferencesError(serde_json::Error);

impl References {
    /// Reads them from a manifest's bytes.
    ///
    /// A reference is whatever has a `digest`, or a `blobSum` as in Docker's schema 1, on any level
    /// and under any name, doubles included. Annotations are remarks, and no references.
    pub fn of(bytes: &[u8]) -> Result<Self, ReferencesError> {
        let mut found = Self::default();
        let mut json = serde_json::Deserializer::from_slice(bytes);
        json.deserialize_map(Top(&mut found))
            .and_then(|()| json.end())
            .map_err(ReferencesError)?;
        Ok(found)
    }
}

struct Top<'a>(&'a mut References);

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key.eq_ignore_ascii_case("subject") {
                let mut subject = Vec::new();
                map.next_value_seed(Any::below(&key, &mut subject))?;
                self.0.subject = subject.into_iter().next().or(self.0.subject.take());
            } else {
                field(&key, &mut map, &mut self.0.named)?;
            }
        }
        Ok(())
    }
}

/// Takes in the value of one field.
fn field<'de, A: MapAccess<'de>>(
    key: &str,
    map: &mut A,
    found: &mut Vec<Digest>,
) -> Result<(), A::Error> {
    if key.eq_ignore_ascii_case("annotations") {
        map.next_value::<IgnoredAny>().map(drop)
    } else {
        map.next_value_seed(Any::below(key, found))
    }
}

/// Any value; as text it may be a digest, if it stands where digests do.
struct Any<'a> {
    found: &'a mut Vec<Digest>,
    is_digest: bool,
}

impl<'a> Any<'a> {
    fn below(key: &str, found: &'a mut Vec<Digest>) -> Self {
        let is_digest = ["digest", "blobSum"]
            .iter()
            .any(|name| name.eq_ignore_ascii_case(key));
        Self { found, is_digest }
    }
}

impl<'de> DeserializeSeed<'de> for Any<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            field(&key, &mut map, self.found)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let is_digest = self.is_digest;
        let found = self.found;
        while items
            .next_element_seed(Any {
                found: &mut *found,
                is_digest,
            })?
            .is_some()
        {}
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if self.is_digest {
            // An algorithm that we do not know is nothing that could be stored here.
            self.found.extend(text.parse::<Digest>());
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digest(letter: char) -> String {
        format!("sha256:{}", letter.to_string().repeat(64))
    }

    #[test]
    fn every_descriptor_is_found_and_remarks_are_not() {
        let digests = ['a', 'b', 'c', 'd', 'e'].map(digest);
        let [config, first, second, old, odd] = &digests;
        let remark = digest('f');
        let json = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{config}","size":-1}},"layers":[{{"digest":"{first}"}}],
            "layers":[{{"digest":"{second}","annotations":{{"digest":"{remark}"}}}}],
            "fsLayers":[{{"blobSum":"{old}"}}],"blobs":[null,true,1.5,{{"x":[{{"Digest":"{odd}"}}]}}],
            "annotations":{{"org.opencontainers.image.base.digest":"{remark}","digest":"{remark}"}},
            "other":"{remark}","bad":{{"digest":"md5:1"}},"subject":{{"digest":"{remark}"}}}}"#
        );
        let found = References::of(json.as_bytes()).unwrap();
        let named: Vec<_> = found.named.iter().map(Digest::as_str).collect();
        assert_eq!(named, digests);
        assert_eq!(found.subject, remark.parse().ok());
    }

    #[test]
    fn what_is_no_object_has_no_references() {
        for text in ["", "[]", "\"x\"", "{", "{} {}", "null"] {
            assert!(References::of(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(References::of(b"{}").unwrap(), References::default());
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(9999), "]".repeat(9999));
        assert!(References::of(deep.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(References::of(&bytes));
        }
    }
}
