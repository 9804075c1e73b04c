//! What `packaging/` makes: built from the program under test, looked at, and run.

mod compose;
mod debian;
mod image;
mod kubernetes;
mod manual;
mod systemd;

use std::path::{Path, PathBuf};

use saphyr::{LoadableYamlNode as _, Scalar, Yaml};
use serde_json::{Map, Value, json};

use crate::support::programs::Workshop;

/// A file of the sources.
pub(crate) fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    let path = source(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Each document of a YAML text.
fn yaml(text: &str) -> Vec<Value> {
    let documents = Yaml::load_from_str(text).expect("YAML");
    documents.iter().map(value).collect()
}

fn value(node: &Yaml<'_>) -> Value {
    match node {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(is)) => json!(is),
        Yaml::Value(Scalar::Integer(number)) => json!(number),
        Yaml::Value(Scalar::FloatingPoint(number)) => json!(number.into_inner()),
        Yaml::Value(Scalar::String(text)) => json!(text),
        Yaml::Sequence(items) => items.iter().map(value).collect(),
        Yaml::Mapping(pairs) => {
            let pairs = pairs.iter().map(|(key, item)| {
                let key = key.as_str().expect("a key that is text").to_owned();
                (key, value(item))
            });
            Value::Object(pairs.collect::<Map<_, _>>())
        }
        other => panic!("this needs no {other:?}"),
    }
}

/// What `larder config` makes of a file and variables; a panic where it complains.
async fn configuration(shop: &Workshop, text: &str, variables: &[(String, String)]) -> Value {
    let file = shop.path("config.yml");
    std::fs::write(&file, text).expect("a file");
    let file = file.to_str().expect("a plain name");
    let mut command = shop.command(env!("CARGO_BIN_EXE_larder"), &["config", file]);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let output = shop.finish(command).await;
    assert_eq!(output.stderr, "", "{text}\n{variables:?}");
    yaml(&output.expect_success()).remove(0)
}

/// The configuration of a package.
async fn packaged(shop: &Workshop, root: &str) -> String {
    let printed = shop.run(source("packaging/config"), &[root]).await;
    printed.expect_success()
}

#[tokio::test]
async fn a_packages_configuration_is_the_built_in_one_with_its_own_directory() {
    let shop = Workshop::new();
    let text = packaged(&shop, "/var/lib/larder").await;
    let mut ours = configuration(&shop, &text, &[]).await;
    let root = ours["storage"]["filesystem"]["rootdirectory"].take();
    assert_eq!(root, "/var/lib/larder");
    let mut built_in = configuration(&shop, &read("config/default.yml"), &[]).await;
    built_in["storage"]["filesystem"]["rootdirectory"].take();
    assert_eq!(ours, built_in);
}
