//! What people write in `config.yml` and `REGISTRY_*`, and what larder makes of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use larder::config::{Config, Level, LogFormat, MinFree};
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
    assert_eq!(config.http.addr, ":5000");
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
    assert!(seen >= 2);
}

/// What the images of Distribution 2 and 3 come with, in our words.
const STOCK_V2: &str = "
version: 0.1
log: {fields: {service: registry}}
storage: {cache: {blobdescriptor: inmemory}, filesystem: {rootdirectory: /var/lib/registry}}
http: {addr: ':5000', headers: {X-Content-Type-Options: [nosniff]}}
health: {storagedriver: {enabled: true, interval: 10s, threshold: 3}}
";
const STOCK_V3: &str = "
version: 0.1
log: {level: debug, fields: {service: registry, environment: development}}
storage:
  delete: {enabled: true}
  cache: {blobdescriptor: inmemory}
  filesystem: {rootdirectory: /var/lib/registry}
  tag: {concurrencylimit: 5}
http: {addr: ':5000', debug: {addr: ':5001', prometheus: {enabled: true, path: /metrics}}}
health: {storagedriver: {enabled: true, interval: 10s, threshold: 3}}
";

#[test]
fn the_files_of_registry_2_and_3_are_plain_registries() {
    let v2 = load(STOCK_V2).expect("loads");
    assert_eq!(v2.storage.root, PathBuf::from("/var/lib/registry"));
    assert!(!v2.storage.delete);
    let purging = v2.storage.upload_purging.as_ref().expect("on by default");
    assert_eq!(purging.age, Duration::from_hours(168));
    let nosniff = ("X-Content-Type-Options".to_owned(), "nosniff".to_owned());
    assert_eq!(v2.http.headers, [nosniff]);
    assert_eq!(
        (v2.log.level, v2.log.format),
        (Level::Info, LogFormat::Text)
    );
    assert_eq!((v2.catalog_max_entries, v2.tags_max), (1000, 1000));
    assert!(
        v2.warnings
            .iter()
            .all(|warning| warning.level == Level::Info)
    );
    let v3 = load(STOCK_V3).expect("loads");
    assert!(v3.storage.delete);
    assert_eq!(v3.log.level, Level::Debug);
    assert!(warnings(&v3).contains("config.yml:9: http.debug has no effect"));
    for config in [v2, v3] {
        assert_eq!(upstreams(&config), "");
    }
}

#[test]
fn the_environment_that_compose_files_set_works() {
    let env = [
        ("REGISTRY_HTTP_ADDR", "0.0.0.0:5001"),
        ("REGISTRY_HTTP_SECRET", "@abc"),
        (
            "REGISTRY_HTTP_HEADERS_Access-Control-Allow-Origin",
            "[\"*\"]",
        ),
        ("REGISTRY_STORAGE", "filesystem"),
        ("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/data"),
        ("REGISTRY_STORAGE_DELETE_ENABLED", "true"),
        ("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "yes"),
        (
            "REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_ENABLED",
            "false",
        ),
        ("REGISTRY_AUTH", "none"),
        ("REGISTRY_PROXY_REMOTEURL", "https://registry-1.docker.io"),
        ("REGISTRY_PROXY_USERNAME", "me"),
        ("REGISTRY_PROXY_PASSWORD", "{x} #y: z"),
        ("REGISTRY_CACHE_FRESHFOR", "1h30m"),
        ("REGISTRY_CONFIGURATION_PATH", "/etc/x.yml"),
        ("REGISTRY_PORT", "tcp://10.0.0.1:5000"),
        ("REGISTRY_PORT_5000_TCP_ADDR", "10.0.0.1"),
        ("PATH", "/bin"),
    ];
    let config = load_with(STOCK_V2, &env).expect("loads");
    assert_eq!(config.http.addr, "0.0.0.0:5001");
    assert_eq!(config.storage.root, PathBuf::from("/data"));
    assert!(config.storage.delete && config.storage.readonly);
    assert_eq!(config.storage.upload_purging, None);
    assert_eq!(config.http.headers[1].1, "*");
    assert_eq!(config.cache.fresh_for, Duration::from_mins(90));
    assert_eq!(upstreams(&config), "[docker.io]");
    let hub = config.upstreams.all.values().next().expect("one");
    let login = hub.credentials.as_ref().expect("a login");
    assert_eq!(
        (login.username.as_str(), login.password.expose()),
        ("me", "{x} #y: z")
    );
    assert!(warnings(&config).contains("REGISTRY_PORT: unknown key port: ignored"));
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

/// A file, and how the message about it begins.
const MISTAKES: &[(&str, &str)] = &[
    (
        "",
        "config.yml:1: the file has no version; write `version: 0.1`",
    ),
    (
        "version: 0.2",
        "config.yml:1: version: \"0.2\" is not supported",
    ),
    (
        "version: 0.1\nauth: {htpasswd: {realm: r, path: /p}}",
        "config.yml:2: auth.htpasswd: larder cannot check",
    ),
    (
        "version: 0.1\nhttp:\n  tls: {certificate: /c, key: /k}",
        "config.yml:3: http.tls: larder does not serve HTTPS",
    ),
    (
        "version: 0.1\nhttp: {prefix: /p/}",
        "config.yml:2: http.prefix: ",
    ),
    (
        "version: 0.1\nhttp: {net: unix}",
        "config.yml:2: http.net: \"unix\" is not possible here; write tcp",
    ),
    (
        "version: 0.1\nhttp: {addr: '5000'}",
        "config.yml:2: http.addr: \"5000\" is not an address",
    ),
    (
        "version: 0.1\nhttp: {headers: {'X Y': [a]}}",
        "config.yml:2: http.headers.X Y: is not the name",
    ),
    (
        "version: 0.1\nhttp: {headers: {X: [\"a\\nb\"]}}",
        "config.yml:2: http.headers.X: must be printable",
    ),
    (
        "version: 0.1\nhttp: {headers: {Content-Length: [5]}}",
        "config.yml:2: http.headers.Content-Length: is set by",
    ),
    (
        "version: 0.1\nstorage: s3",
        "config.yml:2: storage.s3: larder keeps its data in files only",
    ),
    (
        "version: 0.1\nstorage: {filesytem: {}}",
        "config.yml:2: storage.filesytem: larder keeps",
    ),
    (
        "version: 0.1\nstorage: {filesystem: , s3: {}}",
        "config.yml:2: storage.s3: this is a second storage driver",
    ),
    (
        "version: 0.1\nstorage: {delete: true}",
        "config.yml:2: storage.delete: must hold keys, not the value \"true\"",
    ),
    (
        "version: 0.1\nlog: {level: trace}",
        "config.yml:2: log.level: \"trace\" is not possible here; write info or",
    ),
    (
        "version: 0.1\ncache: {freshfor: 5 apples}",
        "config.yml:2: cache.freshfor: \"5 apples\" is not a duration; write for example 5m or 720h",
    ),
    (
        "version: 0.1\ncache: {maxsize: much}",
        "config.yml:2: cache.maxsize: \"much\" is not a size",
    ),
    (
        "version: 0.1\nproxy: {remoteurl: registry-1.docker.io}",
        "config.yml:2: proxy.remoteurl: \"registry-1.docker.io\" lacks http",
    ),
    (
        "version: 0.1\nproxy: {remoteurl: 'https://me:hunter2@x'}",
        "config.yml:2: proxy.remoteurl: a URL must not contain",
    ),
    (
        "version: 0.1\nhttp: {\"a\\nb\": 1, addr: x}",
        "config.yml:2: http.addr: ",
    ),
    (
        "version: 0.1\nupstreams: {\"a\\nb\": 1}",
        "config.yml:2: upstreams.a b: \"a\\nb\" is not the name",
    ),
    (
        "version: 0.1\nproxy: {exec: {command: x}}",
        "config.yml:2: proxy.exec: ",
    ),
    (
        "version: 0.1\nupstreams: {ghcr.io: {username: me}}",
        "config.yml:2: upstreams.ghcr.io: has a username but no password",
    ),
    (
        "version: 0.1\nupstreams: {ghcr.io: {password: hunter2}}",
        "config.yml:2: upstreams.ghcr.io.password: is a password without",
    ),
    (
        "version: 0.1\nupstreams: {ghcr.io: {password: [hunter2]}}",
        "config.yml:2: upstreams.ghcr.io.password: must be text",
    ),
    (
        "version: 0.1\nupstreams: {default: ghcr.io}",
        "config.yml:2: upstreams.default: not an upstream",
    ),
    (
        "version: 0.1\nupstreams: {a_b: {}}",
        "config.yml:2: upstreams.a_b: \"a_b\" is not the name of a registry",
    ),
    (
        "version: 0.1\nupstreams: {docker.io: {}, index.docker.io: {}}",
        "config.yml:2: upstreams.index.docker.io: docker.io is listed twice",
    ),
    (
        "version: 0.1\nupstreams: {lab: {url: http://lab/v2/}}",
        "config.yml:2: upstreams.lab.url: must end before /v2/",
    ),
    (
        "version: 0.1\nupstreams: {999.1.1.1: {}}",
        "config.yml:2: upstreams.999.1.1.1: no host can be called so",
    ),
    (
        "version: 0.1\nupstreams: {ghcr.io: {dockerconfig: /none}}",
        "config.yml:2: upstreams.ghcr.io.dockerconfig: cannot read /none",
    ),
    (
        "version: 0.1\nproxy: {remoteurl: http://lab}\nupstreams: {lab: {url: https://lab}}",
        "config.yml:2: proxy.remoteurl: disagrees with the url",
    ),
    (
        "version: 0.1\nstorage: {maintenance: {uploadpurging: {interval: 0}}}",
        "config.yml:2: storage.maintenance.uploadpurging.interval: must not be zero",
    ),
];

#[test]
fn mistakes_are_named_with_their_place_and_what_to_write() {
    for (text, expected) in MISTAKES {
        let error = load_with(text, &[]).expect_err(text);
        assert!(error.starts_with(expected), "{error}");
        assert!(
            !error.contains('\n') && !error.contains("hunter2"),
            "{error}"
        );
    }
    let error = load_file(None, &[("REGISTRY_AUTH_TOKEN_REALM", "x")]).expect_err("auth");
    assert!(
        error.starts_with("REGISTRY_AUTH_TOKEN_REALM: auth.token: "),
        "{error}"
    );
}

#[test]
fn what_has_no_effect_is_said_in_the_order_of_the_file() {
    let text = "version: 0.1
loglevel: warn
foo: {bar: 1}
storage: {filesystem: {rootDirectory: /x}, redirect: {disable: false}}
http: {secret: s, h2c: {enabled: false}, draintimeout: 60, drain_timeout: 5s}
notifications: {endpoints: [{name: x}]}
cache: {keepfor: 720h, maxsize: 100GB, minfree: 10%}
";
    let config = load(text).expect("loads");
    assert_eq!(config.log.level, Level::Warn);
    assert_eq!(config.cache.max_size, Some(100_000_000_000));
    assert_eq!(config.cache.min_free, Some(MinFree::Percent(10)));
    let starts: Vec<_> = config
        .warnings
        .iter()
        .map(|warning| {
            warning
                .to_string()
                .split_inclusive(": ")
                .take(2)
                .collect::<String>()
        })
        .collect();
    assert_eq!(
        starts,
        [
            "config.yml:2: loglevel: ",
            "config.yml:3: unknown key foo: ",
            "config.yml:4: unknown key storage.filesystem.rootDirectory: ",
            "config.yml:5: http.secret is not needed: ",
            "config.yml:5: http.draintimeout: ",
            "config.yml:5: unknown key http.drain_timeout: ",
            "config.yml:6: notifications has no effect: ",
            "config.yml:7: cache.keepfor: ",
            "config.yml:7: cache.maxsize: ",
            "config.yml:7: cache.minfree: ",
        ]
    );
    assert!(warnings(&config).contains("ignored (did you mean rootdirectory?)"));
    assert!(warnings(&config).contains("60 means 60 nanoseconds; write 60s"));
}

proptest! {
    #[test]
    fn no_text_panics(text in "([a-z]{1,3}|[\\[\\]{}:,*&!|>'\"%@`#?~ \n\t<-]){0,40}", value in any::<String>()) {
        let _ = load_with(&text, &[]);
        let known = format!("version: 0.1\nstorage: {text}\nhttp: {text}\nupstreams: {text}\n");
        let _ = load_with(&known, &[]);
        for name in ["REGISTRY_UPSTREAMS", "REGISTRY_HTTP_ADDR", "REGISTRY_PROXY_REMOTEURL", "REGISTRY_CACHE_MAXSIZE"] {
            let _ = load_file(None, &[(name, &value), (&format!("{name}_{text}"), &text)]);
        }
    }
}
