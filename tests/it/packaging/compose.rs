//! The compose files: docker-compose reads them, larder accepts what they set, and they fit the image.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{configuration, packaged, source, yaml};
use crate::support::programs::{Htpasswd, Running, Workshop, client_trusting};

const FILES: [&str; 3] = ["classroom", "ci", "private"];

fn file(name: &str) -> PathBuf {
    source("packaging/compose").join(format!("{name}.yml"))
}

/// The one service, as docker-compose understands it.
async fn service(shop: &Workshop, name: &str) -> Value {
    let mut compose = shop.command("docker-compose", &["-f"]);
    compose.arg(file(name)).arg("config");
    let understood = shop.finish(compose).await.expect_success();
    let all = yaml(&understood).remove(0);
    let services = all["services"].as_object().expect("services");
    assert_eq!(services.len(), 1, "{name}");
    assert!(
        all["volumes"]
            .as_object()
            .is_some_and(|it| it.contains_key("data"))
    );
    services["larder"].clone()
}

fn variables(service: &Value) -> Vec<(String, String)> {
    let variables = service["environment"].as_object().expect("variables");
    let pair = |(name, value): (&String, &Value)| {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        (name.clone(), text)
    };
    variables.iter().map(pair).collect()
}

/// Both spellings of what goes where: `443:5000`, or a map.
fn target(entry: &Value, separators: usize) -> String {
    if let Some(text) = entry.as_str() {
        let text = text.trim_end_matches("/tcp");
        let parts: Vec<_> = text.split(':').collect();
        return parts[parts.len() - separators].to_owned();
    }
    let target = &entry["target"];
    target
        .as_str()
        .map_or_else(|| target.to_string(), str::to_owned)
}

#[tokio::test]
async fn every_compose_file_fits_the_image_and_larder_accepts_what_it_sets() {
    let shop = Workshop::new();
    let text = packaged(&shop, "/var/lib/registry").await;
    for name in FILES {
        let service = service(&shop, name).await;
        let image = format!("larder:{}", env!("CARGO_PKG_VERSION"));
        assert_eq!(service["image"], json!(image), "{name}");
        let ports = service["ports"].as_array().expect("ports");
        assert_eq!(ports.len(), 1);
        assert_eq!(target(&ports[0], 1), "5000", "{name}");
        let mounts = service["volumes"].as_array().expect("volumes");
        let mounts: Vec<String> = mounts
            .iter()
            .map(|mount| match mount.as_str() {
                Some(text) => text.split(':').nth(1).expect("a target").to_owned(),
                None => target(mount, 1),
            })
            .collect();
        assert!(mounts.contains(&"/var/lib/registry".to_owned()), "{name}");
        assert_eq!(service["read_only"], json!(true), "{name}");
        assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");

        let variables = variables(&service);
        let config = configuration(&shop, &text, &variables).await;
        let root = &config["storage"]["filesystem"]["rootdirectory"];
        assert_eq!(root, "/var/lib/registry", "{name}");
        assert_eq!(config["http"]["addr"], ":5000", "{name}");
        // What is named must have been mounted.
        for (variable, value) in &variables {
            let is_mounted = mounts.iter().any(|mount| value.starts_with(mount.as_str()));
            assert!(!value.starts_with('/') || is_mounted, "{variable}={value}");
        }
    }
}

#[tokio::test]
async fn the_compose_files_set_what_they_say() {
    let shop = Workshop::new();
    let text = packaged(&shop, "/var/lib/registry").await;
    let mut all = Vec::new();
    for name in FILES {
        let service = service(&shop, name).await;
        all.push(configuration(&shop, &text, &variables(&service)).await);
    }
    let [class, ci, private] = &all[..] else {
        panic!("three files");
    };
    assert_eq!(class["auth"]["anonymous"], json!(["pull"]));
    assert_eq!(class["auth"]["challenge"], json!(["class.lan"]));
    assert_eq!(class["auth"]["rules"].as_array().map(Vec::len), Some(2));
    assert!(class["upstreams"]["docker.io"].is_object());
    assert!(ci["auth"].is_null() || ci["auth"]["htpasswd"].is_null());
    assert!(ci["upstreams"]["docker.io"]["username"].is_null(), "{ci}");
    let upstreams = &private["upstreams"];
    assert!(upstreams.as_object().is_none_or(serde_json::Map::is_empty));
    assert!(private["auth"]["anonymous"].is_null() || private["auth"]["anonymous"] == json!([]));
    assert_eq!(
        private["http"]["tls"]["certificate"],
        "/etc/larder/tls/fullchain.pem"
    );
}

/// As a container of it runs, with the mounted file somewhere else.
#[tokio::test]
async fn a_class_pulls_without_a_password_and_pushes_with_one() {
    let shop = Workshop::new();
    let service = service(&shop, "classroom").await;
    let users = Htpasswd::new(&[("ann", "secret")]);
    let config = shop.path("config.yml");
    std::fs::write(&config, packaged(&shop, "/var/lib/registry").await).expect("a file");
    let mut larder = shop.command(env!("CARGO_BIN_EXE_larder"), &["serve"]);
    larder.arg(&config);
    larder.envs(variables(&service));
    larder
        .env("REGISTRY_AUTH_HTPASSWD_PATH", users.path())
        .env(
            "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY",
            shop.path("data"),
        )
        .env("REGISTRY_HTTP_ADDR", "127.0.0.1:0");
    let running = Running::start("class", larder);
    let address = running.address().await;
    let client = client_trusting(None).build().expect("a client");
    let push = |name: &str| client.post(format!("http://{address}/v2/{name}/blobs/uploads/"));
    let status = async |request: reqwest::RequestBuilder| {
        let answer = request.send().await.expect("an answer");
        answer.status().as_u16()
    };
    let tags = client.get(format!("http://{address}/v2/ann/app/tags/list"));
    // No upstream is reached, but no password is asked for either.
    assert_ne!(status(tags).await, 401);
    assert_eq!(status(push("ann/app")).await, 401);
    let ann = |name: &str| push(name).basic_auth("ann", Some("secret"));
    assert_eq!(status(ann("ann/app")).await, 202);
    assert_eq!(status(ann("ben/app")).await, 403);
    assert!(running.stop().await.success());
}
