//! What is told of a request, in the words of Distribution's notifications.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::ser::PrettyFormatter;
use uuid::Uuid;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Content was stored.
    Push,
    /// Content was handed out.
    Pull,
    /// A blob was taken over from another repository.
    Mount,
    /// A tag, a manifest or a blob was removed.
    Delete,
}

impl Action {
    /// The word, as `ignore.actions` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Pull => "pull",
            Self::Mount => "mount",
            Self::Delete => "delete",
        }
    }
}

/// What it happened to. The fields and their order are Distribution's.
///
/// Of what was deleted, type and size are not known: they are there, and empty, as in registry:3.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// The type of a manifest; `application/octet-stream` for blobs.
    pub media_type: String,
    /// Empty where only a tag is named.
    pub digest: String,
    /// In bytes.
    pub size: u64,
    /// The same again, for old receivers.
    #[serde(skip_serializing_if = "is_zero")]
    pub length: u64,
    /// The full name: `docker.io/library/nginx` for what is mirrored.
    pub repository: String,
    /// Where a mounted blob came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_repository: Option<String>,
    /// Where the content can be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The tag it was asked for or stored by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// What a manifest refers to, if that is wanted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<Descriptor>,
}

/// One thing a manifest refers to, as the manifest says it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Descriptor {
    /// Its type.
    pub media_type: String,
    /// Its digest.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
    /// Where else it can be had.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Notes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What it runs on, for the children of an index.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub platform: serde_json::Value,
}

/// Who asked, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Request {
    /// Names the request: several events of one request have the same.
    pub id: String,
    /// The client's address and port.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub addr: String,
    /// The `Host` it asked.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// The method.
    pub method: String,
    /// The `User-Agent`.
    pub useragent: String,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub timestamp: SystemTime,
    /// What.
    pub action: Action,
    /// To what.
    pub target: Target,
    /// By which request.
    pub request: Request,
    /// Who, where access control knows.
    pub actor: Option<String>,
}

/// Which larder tells of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Source {
    #[serde(skip_serializing_if = "String::is_empty")]
    addr: String,
    #[serde(rename = "instanceID")]
    instance: String,
}

impl Source {
    /// This process on this machine, listening on `port`.
    pub fn here(port: u16) -> Self {
        let system = rustix::system::uname();
        let host = system.nodename().to_string_lossy();
        Self {
            addr: format!("{host}:{port}"),
            instance: Uuid::now_v7().to_string(),
        }
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    events: [Told<'a>; 1],
}

/// The fields and their order are Distribution's.
#[derive(Serialize)]
struct Told<'a> {
    id: String,
    timestamp: String,
    action: Action,
    target: &'a Target,
    request: &'a Request,
    actor: Actor<'a>,
    source: &'a Source,
}

#[derive(Serialize)]
struct Actor<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

/// The body that tells of one event: indented by three spaces, as Distribution does.
pub(super) fn envelope(event: &Event, source: &Source) -> Result<Bytes, serde_json::Error> {
    let told = Told {
        id: Uuid::now_v7().to_string(),
        timestamp: humantime::format_rfc3339_nanos(event.timestamp).to_string(),
        action: event.action,
        target: &event.target,
        request: &event.request,
        actor: Actor {
            name: event.actor.as_deref(),
        },
        source,
    };
    let mut body = Vec::with_capacity(1024);
    let formatter = PrettyFormatter::with_indent(b"   ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut body, formatter);
    Envelope { events: [told] }.serialize(&mut serializer)?;
    Ok(body.into())
}

/// What a manifest refers to, in its own order: config and layers, or the children of an index.
/// Nothing where the bytes are no manifest.
pub fn references(manifest: &[u8]) -> Vec<Descriptor> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Manifest {
        config: Option<Descriptor>,
        layers: Vec<Descriptor>,
        manifests: Vec<Descriptor>,
    }
    let read = serde_json::from_slice(manifest);
    let Manifest {
        config,
        layers,
        manifests,
    } = read.unwrap_or_default();
    config.into_iter().chain(layers).chain(manifests).collect()
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands out references"
)]
fn is_zero(length: &u64) -> bool {
    *length == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn event(target: Target) -> Event {
        Event {
            timestamp: SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789),
            action: Action::Push,
            target,
            request: Request {
                id: "r".into(),
                addr: "10.0.0.1:5".into(),
                host: "h".into(),
                method: "PUT".into(),
                useragent: "docker".into(),
            },
            actor: None,
        }
    }

    #[test]
    fn the_envelope_is_distributions_to_the_space() {
        let source = Source {
            addr: "m:5000".into(),
            instance: "i".into(),
        };
        let target = Target {
            media_type: "application/octet-stream".into(),
            digest: "sha256:aa".into(),
            size: 3,
            length: 3,
            repository: "team/app".into(),
            ..Target::default()
        };
        let body = envelope(&event(target), &source).unwrap();
        let text = str::from_utf8(&body).unwrap();
        let id: serde_json::Value = serde_json::from_str(text).unwrap();
        let id = id["events"][0]["id"].as_str().unwrap();
        let expected = format!(
            r#"{{
   "events": [
      {{
         "id": "{id}",
         "timestamp": "2023-11-14T22:13:20.123456789Z",
         "action": "push",
         "target": {{
            "mediaType": "application/octet-stream",
            "digest": "sha256:aa",
            "size": 3,
            "length": 3,
            "repository": "team/app"
         }},
         "request": {{
            "id": "r",
            "addr": "10.0.0.1:5",
            "host": "h",
            "method": "PUT",
            "useragent": "docker"
         }},
         "actor": {{}},
         "source": {{
            "addr": "m:5000",
            "instanceID": "i"
         }}
      }}
   ]
}}"#
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn what_was_deleted_has_empty_fields_as_in_registry_3() {
        let target = Target {
            repository: "team/app".into(),
            tag: Some("1".into()),
            ..Target::default()
        };
        let target = serde_json::to_value(target).unwrap();
        let expected = serde_json::json!({
            "mediaType": "", "digest": "", "size": 0, "repository": "team/app", "tag": "1",
        });
        assert_eq!(target, expected);
    }

    #[test]
    fn references_are_the_config_and_the_layers_or_the_children() {
        let image = br#"{"config":{"digest":"sha256:c","size":1,"mediaType":"t"},
            "layers":[{"digest":"sha256:l","size":2,"mediaType":"u","urls":["x"]}]}"#;
        let digests: Vec<_> = references(image).into_iter().map(|it| it.digest).collect();
        assert_eq!(digests, ["sha256:c", "sha256:l"]);
        let index = br#"{"manifests":[{"digest":"sha256:m","platform":{"os":"linux"}}]}"#;
        let found = serde_json::to_value(references(index)).unwrap();
        let expected = serde_json::json!([{
            "mediaType": "", "digest": "sha256:m", "size": 0, "platform": {"os": "linux"},
        }]);
        assert_eq!(found, expected);
        assert_eq!(references(b"[]"), []);
    }

    proptest! {
        #[test]
        fn no_bytes_make_references_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            references(&bytes);
        }
    }
}
