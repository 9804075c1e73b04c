//! One image, as far as it is here.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use crate::oci::{Digest, Platform, Reference};
use crate::registry::{Error, Inspected};
use crate::store::Repository;

use super::super::{Address, Console};

impl Console {
    /// One image. Of an index, the one for a platform.
    pub async fn image(
        &self,
        repository: &Repository,
        reference: &Reference,
        platform: Option<&Platform>,
        at: &Address,
    ) -> Result<Value, Error> {
        let registry = &self.0.registry;
        let image = registry.inspect(repository, reference, platform).await?;
        let tag = match reference {
            Reference::Tag(tag) => Some(tag.as_str()),
            Reference::Digest(_) => None,
        };
        let mut json = json(&image);
        let name = repository.name();
        let separator = if tag.is_some() { ':' } else { '@' };
        let host = &at.host;
        json["repository"] = name.as_str().into();
        json["tag"] = tag.into();
        json["pull"] = format!("docker pull {host}/{name}{separator}{reference}").into();
        Ok(json)
    }
}

/// What an image is made of. Read leniently: what somebody pushed may be anything.
fn json(image: &Inspected) -> Value {
    let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    let top = parse(&image.top);
    let manifest = image.manifest.as_deref().map(parse).unwrap_or_default();
    let config = image.config.as_deref().map(parse);
    let history = config.as_ref().map(history).unwrap_or_default();
    let platforms = image.platforms.iter().map(|platform| {
        json!({
            "name": platform.name.to_string(),
            "digest": platform.digest.as_str(),
            "size": platform.size,
            "here": platform.here,
        })
    });
    json!({
        "digest": image.digest.as_str(),
        "media_type": image.media_type.as_str(),
        "size": image.size,
        "annotations": object(&top["annotations"]),
        "platforms": platforms.collect::<Vec<_>>(),
        "config": config.as_ref().map(config_json),
        "layers": layers(&manifest, &history, &image.layers),
        "history": history,
        "referrers": referrers(&parse(image.referrers.as_bytes())),
    })
}

/// What a configuration says that people want to see. Of the environment only the names: passwords
/// are found in it.
fn config_json(config: &Value) -> Value {
    let run = &config["config"];
    let env = run["Env"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names = env.iter().filter_map(Value::as_str);
    let names = names.map(|line| line.split('=').next().unwrap_or_default());
    json!({
        "created": text(&config["created"]),
        "architecture": text(&config["architecture"]),
        "os": text(&config["os"]),
        "author": text(&config["author"]),
        "entrypoint": texts(&run["Entrypoint"]),
        "cmd": texts(&run["Cmd"]),
        "env_names": names.collect::<Vec<_>>(),
        "labels": object(&run["Labels"]),
        "user": text(&run["User"]),
        "workdir": text(&run["WorkingDir"]),
    })
}

fn history(config: &Value) -> Vec<Value> {
    let steps = config["history"].as_array();
    let steps = steps.map(Vec::as_slice).unwrap_or_default().iter();
    let step = |step: &Value| {
        json!({
            "created": text(&step["created"]),
            "created_by": text(&step["created_by"]),
            "comment": text(&step["comment"]),
            "empty": step["empty_layer"].as_bool().unwrap_or(false),
        })
    };
    steps.map(step).collect()
}

/// The layers, each with the step that made it where the history tells.
fn layers(manifest: &Value, history: &[Value], here: &HashSet<Digest>) -> Vec<Value> {
    let steps = history.iter().filter(|step| step["empty"] == false);
    let mut steps = steps.map(|step| step["created_by"].clone());
    let layers = manifest["layers"].as_array();
    let layers = layers.map(Vec::as_slice).unwrap_or_default().iter();
    let layer = |layer: &Value| {
        let digest = text(&layer["digest"]);
        let parsed = digest.as_str().and_then(|text| text.parse::<Digest>().ok());
        json!({
            "digest": digest,
            "size": layer["size"].as_u64(),
            "media_type": text(&layer["mediaType"]),
            "here": parsed.is_some_and(|digest| here.contains(&digest)),
            "created_by": steps.next(),
        })
    };
    layers.map(layer).collect()
}

fn referrers(index: &Value) -> Vec<Value> {
    let all = index["manifests"].as_array();
    let all = all.map(Vec::as_slice).unwrap_or_default().iter();
    let referrer = |entry: &Value| {
        json!({
            "digest": text(&entry["digest"]),
            "artifact_type": text(&entry["artifactType"]),
            "size": entry["size"].as_u64(),
            "annotations": object(&entry["annotations"]),
        })
    };
    all.map(referrer).collect()
}

/// A text, or nothing.
fn text(value: &Value) -> Value {
    value.as_str().map_or(Value::Null, Value::from)
}

/// The texts of a list.
fn texts(value: &Value) -> Vec<&str> {
    let all = value.as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(Value::as_str).collect()
}

/// An object's texts.
fn object(value: &Value) -> Value {
    let all = value.as_object().into_iter().flatten();
    let texts = all.filter(|(_, value)| value.is_string());
    let texts: Map<_, _> = texts
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    Value::Object(texts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn inspected(top: &[u8], config: &[u8]) -> Inspected {
        Inspected {
            digest: Digest::of(top),
            media_type: crate::oci::MediaType::known(crate::oci::media::OCI_INDEX),
            top: top.to_vec().into(),
            platforms: Vec::new(),
            manifest: Some(top.to_vec().into()),
            config: Some(config.to_vec().into()),
            layers: HashSet::new(),
            size: 0,
            referrers: String::new(),
        }
    }

    #[test]
    fn what_somebody_wrote_comes_out_as_it_was_but_for_secrets() {
        let hostile = "<img src=x onerror=alert(1)>\u{202e}\u{0}\n";
        let config = json!({
            "author": hostile,
            "os": 7,
            "config": { "Labels": { hostile: hostile, "n": 1 }, "Env": ["A=secret", "B"] },
            "history": [{ "created_by": hostile }, { "empty_layer": true }, {}],
        });
        let layer = json!({ "digest": Digest::of(b"x").as_str(), "size": 3 });
        let manifest = json!({ "annotations": { hostile: hostile }, "layers": [layer, {}] });
        let image = inspected(
            manifest.to_string().as_bytes(),
            config.to_string().as_bytes(),
        );
        let json = json(&image);
        assert_eq!(json["annotations"], json!({ hostile: hostile }));
        assert_eq!(json["config"]["labels"], json!({ hostile: hostile }));
        assert_eq!(json["config"]["author"], hostile);
        assert_eq!(json["config"]["os"], Value::Null);
        assert_eq!(json["config"]["env_names"], json!(["A", "B"]));
        assert!(!json.to_string().contains("secret"));
        assert_eq!(json["layers"][0]["created_by"], hostile);
        assert_eq!(json["layers"][1]["digest"], Value::Null);
        assert_eq!(json["history"].as_array().unwrap().len(), 3);
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_are_there_is_an_answer(
            top in proptest::collection::vec(any::<u8>(), 0..64),
            keys in proptest::collection::vec("(layers|config|history|annotations|Env|Labels)", 1..4),
        ) {
            drop(json(&inspected(&top, &top)));
            // Well formed, and of the wrong kind at every depth.
            for leaf in [json!(1), json!([1]), json!({"x": []}), json!([{"digest": 1}])] {
                let nested = keys.iter().rev().fold(leaf, |inner, key| json!({ key.as_str(): inner }));
                let bytes = nested.to_string().into_bytes();
                drop(json(&inspected(&bytes, &bytes)));
            }
        }
    }
}
