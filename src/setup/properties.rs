//! What holds for any file: what was there is still there, and twice is once.

use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::Value;

use super::tests::{about, file, secure};
use super::*;

/// A JSON value that a daemon.json may have.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-z.\\-]{1,9}", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        "[a-z\\-]{1,9}",
        Just("registry-mirrors".to_owned()),
        Just("insecure-registries".to_owned()),
    ];
    let list = prop::collection::vec("[a-z:/.]{0,12}", 0..3).prop_map(Value::from);
    let member = (key, value(), list).prop_map(|(key, value, list)| {
        let is_list = key.starts_with("registry-m") || key.starts_with("insecure-r");
        (key, if is_list { list } else { value })
    });
    prop::collection::vec(member, 0..5)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

/// Whether all that one value says the other says too, lists having gained at most what is new.
fn keeps(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => before
            .iter()
            .all(|(key, value)| after.get(key).is_some_and(|it| keeps(value, it))),
        (Value::Array(before), Value::Array(after)) => after.ends_with(before),
        _ => before == after,
    }
}

/// The tables of TOML that hold strings and lists of strings.
fn toml(before: &Value) -> String {
    let mut text = String::new();
    if let Value::Object(map) = before {
        for (key, value) in map {
            let (key, value) = (Value::from(key.as_str()), Value::from(value.to_string()));
            _ = writeln!(text, "# {key}\n{key} = {value}");
        }
    }
    text
}

fn twice_is_once(file: &FileText, before: &str) -> Result<String, TestCaseError> {
    let after = file.merged(before);
    prop_assert!(after.is_ok(), "{before:?}: {after:?}");
    let after = after.unwrap();
    prop_assert_eq!(file.merged(&after), Ok(after.clone()));
    Ok(after)
}

proptest! {
    #[test]
    fn daemon_json_keeps_everything(object in object(), is_pretty in any::<bool>()) {
        let before = if is_pretty { format!("{object:#}\n") } else { object.to_string() };
        let after = twice_is_once(&file(Client::Docker, &about(), "daemon.json"), &before)?;
        let after: Value = serde_json::from_str(&after).unwrap();
        prop_assert!(keeps(&object, &after), "{after}");
        let first = |key: &str| after[key].as_array().unwrap().iter().any(|it| {
            it.as_str().unwrap().contains("larder.lan:5000")
        });
        prop_assert!(first("registry-mirrors") && first("insecure-registries"));
    }

    #[test]
    fn toml_keeps_every_line(keys in object(), tail in prop_oneof![
        Just(""), Just("[X]\na = 1\n"), Just("[[Y]]\nb = [1, 2] # c"), Just("# end"),
    ]) {
        let before = toml(&keys) + tail;
        for (client, end) in [
            (Client::Containerd, "ghcr.io/hosts.toml"),
            (Client::Podman, "registries.conf"),
            (Client::Buildkit, "buildkitd.toml"),
        ] {
            let after = twice_is_once(&file(client, &about(), end), &before)?;
            for line in before.lines() {
                prop_assert!(after.lines().any(|it| it == line), "{line:?}: {after}");
            }
        }
        let own = &text(Client::Containerd, &about()).additions[0].file;
        let after = twice_is_once(own, &before)?;
        prop_assert!(before.lines().all(|line| after.lines().any(|it| it == line)), "{after}");
    }

    #[test]
    fn yaml_keeps_every_line(object in object()) {
        // JSON in one line is YAML; below keys of its own it is a block.
        let mut before = String::new();
        for (key, value) in object.as_object().unwrap() {
            _ = writeln!(before, "# {key}\nx{key}: {value}");
        }
        let file = file(Client::K3s, &about(), "registries.yaml");
        match file.merged(&before) {
            Ok(after) => {
                prop_assert_eq!(file.merged(&after), Ok(after.clone()));
                for line in before.lines() {
                    prop_assert!(after.lines().any(|it| it == line), "{line:?}: {after}");
                }
            }
            // A text that YAML writes otherwise than JSON does.
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn foreign_files_are_merged_or_not(before in "[\\[\\]{}\":,=#a-z \n-]{0,80}") {
        for about in [about(), secure()] {
            for client in texts(&about) {
                let additions = client.additions.into_iter().map(|it| it.file);
                for file in client.files.into_iter().chain(additions) {
                    if let Ok(after) = file.merged(&before) {
                        prop_assert_eq!(file.merged(&after), Ok(after.clone()), "{}", file.path);
                    }
                }
            }
        }
    }
}
