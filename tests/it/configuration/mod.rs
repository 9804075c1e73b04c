//! What people write in `config.yml` and `REGISTRY_*`, and what larder makes of it.

mod access;
mod drop_in;
mod environment;
mod mistakes;
mod sections;

use std::path::{Path, PathBuf};

use larder::config::{Config, Listen};
use proptest::prelude::*;

fn load_with(text: &str, env: &[(&str, &str)]) -> Result<Config, String> {
    let file = Some((Path::new("config.yml"), text.to_owned()));
    load_file(file, env)
}

fn load_file(file: Option<(&Path, String)>, env: &[(&str, &str)]) -> Result<Config, String> {
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(file, env).map_err(|error| error.to_string())
}

fn load(text: &str) -> Result<Config, String> {
    load_with(text, &[])
}

/// What is written out loads again as the same. Warnings belong to the text, not to what it comes to.
fn survives_being_written_out(config: &Config) {
    let yaml = config.to_yaml();
    let mut again = load(&yaml).expect(&yaml);
    again.warnings.clone_from(&config.warnings);
    assert_eq!(again, *config, "{yaml}");
}

/// The names of the upstreams, the default one in brackets.
fn upstreams(config: &Config) -> String {
    let names = config.upstreams.all.keys().map(|name| {
        if config.upstreams.default.as_ref() == Some(name) {
            format!("[{name}]")
        } else {
            name.to_string()
        }
    });
    names.collect::<Vec<_>>().join(" ")
}

fn warnings(config: &Config) -> String {
    let lines: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[test]
fn without_a_file_larder_mirrors_the_well_known_registries() {
    let config = load_file(None, &[]).expect("the built-in configuration");
    assert_eq!(
        upstreams(&config),
        "[docker.io] gcr.io ghcr.io lscr.io mcr.microsoft.com nvcr.io public.ecr.aws quay.io registry.k8s.io"
    );
    assert_eq!(config.storage.root, PathBuf::from("./larder-data"));
    assert!(config.storage.delete && !config.storage.readonly);
    assert_eq!(config.http.listen, Listen::Tcp(":5000".to_owned()));
    assert!(config.storage.collect.is_some() && !config.log.access_log);
    assert_eq!(warnings(&config), "");
    let described: Vec<_> = config
        .upstreams
        .all
        .values()
        .map(|upstream| (upstream.url.as_str(), upstream.token_hosts.join(" ")))
        .filter(|(url, hosts)| !hosts.is_empty() || url.contains("docker"))
        .collect();
    assert_eq!(
        described,
        [
            ("https://registry-1.docker.io/", "auth.docker.io".to_owned()),
            ("https://lscr.io/", "ghcr.io".to_owned())
        ]
    );
}

#[test]
fn every_example_loads_without_a_warning_and_survives_being_written_out() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut seen = 0;
    for entry in std::fs::read_dir(directory).expect("config/") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("text");
        let config = load_file(Some((&path, text)), &[]).expect("an example must load");
        assert_eq!(warnings(&config), "", "{}", path.display());
        assert_eq!(
            load(&config.to_yaml()).as_ref(),
            Ok(&config),
            "{}",
            path.display()
        );
        seen += 1;
    }
    assert!(seen >= 5);
}

#[test]
fn upstreams_can_be_set_from_the_environment() {
    let map = [(
        "REGISTRY_UPSTREAMS",
        "{docker.io: {username: me, password: x}}",
    )];
    let dotted = [
        ("REGISTRY_UPSTREAMS_DOCKER.IO_USERNAME", "me"),
        ("REGISTRY_UPSTREAMS_DOCKER.IO_PASSWORD", "0123"),
    ];
    let config = load_file(None, &map).expect("a map replaces the list");
    assert_eq!(upstreams(&config), "[docker.io]");
    let config = load_file(None, &dotted).expect("a path adds to it");
    assert_eq!(config.upstreams.all.len(), 9);
    let hub = &config.upstreams.all[config.upstreams.default.as_ref().expect("docker.io")];
    let login = hub.credentials.as_ref().expect("a login");
    assert_eq!(login.password.expose(), "0123");
    let names = [("REGISTRY_UPSTREAMS", "[quay.io, ghcr.io]")];
    assert_eq!(
        upstreams(&load_file(None, &names).expect("names")),
        "ghcr.io quay.io"
    );
    let nothing = load_file(None, &[("REGISTRY_UPSTREAMS", "")]).expect("a plain registry");
    assert_eq!(upstreams(&nothing), "");
}

#[test]
fn which_upstream_is_the_default() {
    let table = [
        (
            "upstreams: {ghcr.io: {}, index.docker.io: {}}",
            "[docker.io] ghcr.io",
        ),
        ("upstreams: {ghcr.io: }", "ghcr.io"),
        (
            "proxy: {remoteurl: https://registry-1.docker.io}",
            "[docker.io]",
        ),
        (
            "proxy: {remoteurl: 'http://10.0.0.7:5000/'}",
            "[10.0.0.7:5000]",
        ),
        (
            "proxy: {remoteurl: https://ghcr.io}\nupstreams: [docker.io]",
            "docker.io [ghcr.io]",
        ),
        (
            "proxy: {remoteurl: http://10.0.0.7:5000}\nupstreams: {lab: {url: http://10.0.0.7:5000}}",
            "[lab]",
        ),
        (
            "proxy: {remoteurl: https://index.docker.io}\nupstreams: {docker.io: {ca: /x}}",
            "[docker.io]",
        ),
        ("proxy: {username: ''}", ""),
    ];
    for (text, expected) in table {
        let config = load(&format!("version: 0.1\n{text}")).expect(text);
        assert_eq!(upstreams(&config), expected, "{text}");
        assert_eq!(load(&config.to_yaml()).as_ref(), Ok(&config), "{text}");
    }
}

#[test]
fn token_hosts_belong_to_the_host_that_is_asked() {
    let text = "version: 0.1
upstreams:
  docker.io: {url: https://mirror.example.com, tokenhosts: [Auth.example.com]}
  gl: {url: https://registry.gitlab.com}";
    let config = load(text).expect("loads");
    let hosts: Vec<_> = config
        .upstreams
        .all
        .values()
        .map(|upstream| &upstream.token_hosts)
        .collect();
    assert_eq!(
        hosts,
        [&["auth.example.com".to_owned()], &["gitlab.com".to_owned()]]
    );
}

proptest! {
    #[test]
    fn no_text_panics(text in "([a-z]{1,3}|[\\[\\]{}:,*&!|>'\"%@`#?~ \n\t<-]){0,40}", value in any::<String>()) {
        let _ = load_with(&text, &[]);
        let known = format!("version: 0.1\nstorage: {text}\nhttp: {text}\nupstreams: {text}\n\
             auth: {text}\nnotifications: {text}\nhealth: {text}\nvalidation: {text}\nlog: {text}\n");
        let _ = load_with(&known, &[]);
        for name in ["REGISTRY_UPSTREAMS", "REGISTRY_HTTP_ADDR", "REGISTRY_PROXY_REMOTEURL", "REGISTRY_CACHE_MAXSIZE",
            "REGISTRY_AUTH", "REGISTRY_AUTH_RULES", "REGISTRY_NOTIFICATIONS_ENDPOINTS", "REGISTRY_HTTP_PREFIX", "REGISTRY_HTTP_TLS",
            "REGISTRY_VALIDATION_MANIFESTS_URLS_ALLOW", "REGISTRY_HEALTH_HTTPCHECKERS", "REGISTRY_AUTH_CHALLENGE"] {
            let _ = load_file(None, &[(name, &value), (&format!("{name}_{text}"), &text)]);
        }
    }
}
