//! The files that Distribution comes with load as they are, and everything that its manual knows is known.

use std::path::{Path, PathBuf};
use std::time::Duration;

use larder::config::{AuthScheme, Check, Level, LogFormat};

use super::{load, load_with, survives_being_written_out, upstreams, warnings};

/// What the images of Distribution 2 and 3 come with, in our words.
pub(super) const STOCK_V2: &str = "
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
    assert_eq!(v3.http.debug.addr.as_deref(), Some(":5001"));
    assert!(v3.http.debug.prometheus.enabled);
    assert_eq!(
        v3.log.fields[1],
        ("environment".to_owned(), "development".to_owned())
    );
    for config in [v2, v3] {
        assert_eq!(upstreams(&config), "");
        assert_eq!(config.auth.scheme, AuthScheme::Open);
        assert!(config.log.access_log && config.storage.collect.is_none());
        assert_eq!(
            config.log.fields[0],
            ("service".to_owned(), "registry".to_owned())
        );
        let storage = Some(Check {
            interval: Duration::from_secs(10),
            threshold: 3,
        });
        assert_eq!(config.health.storage, storage);
        survives_being_written_out(&config);
    }
}

/// What Debian's package comes with, in our words: the path of the passwords is a directory.
const STOCK_DEBIAN: &str = "
version: 0.1
log: {fields: {service: registry}}
storage:
  cache: {blobdescriptor: inmemory}
  filesystem: {rootdirectory: /var/lib/docker-registry}
  delete: {enabled: true}
http: {addr: ':5000', headers: {X-Content-Type-Options: [nosniff]}}
auth: {htpasswd: {realm: basic-realm, path: /etc/docker/registry}}
health: {storagedriver: {enabled: true, interval: 10s, threshold: 3}}
";

#[test]
fn debians_file_asks_for_passwords() {
    let shipped = Path::new("/etc/docker/registry/config.yml");
    let shipped = std::fs::read_to_string(shipped).expect("docker-registry is installed");
    let ours = load(STOCK_DEBIAN).expect("loads");
    let theirs = load(&shipped).expect("loads");
    for config in [&ours, &theirs] {
        let scheme = AuthScheme::Htpasswd {
            realm: "basic-realm".to_owned(),
            path: PathBuf::from("/etc/docker/registry"),
        };
        assert_eq!(config.auth.scheme, scheme);
        assert!(config.auth.anonymous.is_empty() && config.auth.rules.is_empty());
        assert_eq!(
            config.storage.root,
            PathBuf::from("/var/lib/docker-registry")
        );
        let notes = config.warnings.iter();
        assert!(
            notes
                .into_iter()
                .all(|warning| warning.level == Level::Info)
        );
        survives_being_written_out(config);
    }
}

/// Every key of the manuals of Distribution 2 and 3 that is not refused, with values unlike the default.
const EVERYTHING: &str = "
version: 0.1
log:
  accesslog: {disabled: true}
  level: debug
  formatter: logstash
  fields: {service: registry, number: 5}
  reportcaller: true
  hooks:
    - type: mail
      disabled: false
      levels: [panic]
      options: {smtp: {addr: 'mail:25', username: u, password: p, insecure: true}, from: a@b, to: [c@d]}
storage:
  filesystem: {rootdirectory: /x, maxthreads: 50}
  delete: {enabled: true}
  redirect: {disable: true}
  cache: {blobdescriptor: redis, blobdescriptorsize: 5, layerinfo: redis}
  tag: {concurrencylimit: 3}
  maintenance:
    uploadpurging: {enabled: true, age: 1h, interval: 2h, dryrun: true}
    readonly: {enabled: true}
auth:
  token:
    realm: https://auth.example.com/token
    service: registry
    issuer: 7
    rootcertbundle: /bundle.pem
    jwks: /keys.json
    autoredirect: true
    autoredirectpath: /a/b
    signingalgorithms: [EdDSA, RS256, ES512]
middleware:
  storage: [{name: cloudfront, options: {baseurl: https://x}}]
http:
  addr: localhost:5000
  net: tcp
  prefix: /my/
  host: https://registry.example.com
  secret: hush
  relativeurls: true
  draintimeout: 60s
  tls:
    certificate: /c
    key: /k
    clientcas: [/a, /b]
    clientauth: verify-client-cert-if-given
    minimumtls: tls1.2
    ciphersuites:
      - TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
      - TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305
      - TLS_RSA_WITH_AES_128_CBC_SHA
      - TLS_AES_128_GCM_SHA256
  headers: {X-Content-Type-Options: [nosniff]}
  http2: {disabled: true}
  h2c: {enabled: true}
  debug: {addr: 'localhost:5001', prometheus: {enabled: false, path: /numbers}}
notifications:
  events: {includereferences: true}
  endpoints:
    - name: one
      disabled: false
      url: https://me:p%40ss@hooks.example.com/in?x=1
      headers: {X-A: [a, b]}
      timeout: 2s
      threshold: 5
      backoff: 3s
      ignoredmediatypes: [a/b]
      ignore: {mediatypes: [c/d], actions: [pull]}
    - {name: two, disabled: true}
redis: {addrs: ['localhost:6379'], password: p, tls: {rootcas: [/x]}}
health:
  storagedriver: {enabled: true, interval: 11s, threshold: 2}
  file: [{file: /down, interval: 12s}]
  http: [{uri: 'http://x/y', headers: {A: [b]}, statuscode: 204, timeout: 3s, interval: 13s, threshold: 4}]
  tcp: [{addr: 'redis:6379', timeout: 4s, interval: 14s, threshold: 5}]
proxy:
  remoteurl: https://registry-1.docker.io
  ttl: 1h
  cachewritetimeout: 1m
validation:
  disabled: false
  enabled: true
  manifests:
    urls: {allow: ['^https?://([^/]+\\.)*example\\.com/'], deny: ['^https?://www\\.']}
    indexes: {platforms: List, platformlist: [{architecture: amd64, os: linux}]}
policy: {repository: {classes: [image]}}
catalog: {maxentries: 7}
tags: {maxtags: 8}
compatibility: {schema1: {enabled: true, signingkeyfile: /k}}
reporting: {bugsnag: {apikey: x}}
";

#[test]
fn no_key_of_distribution_is_unknown() {
    let config = load(EVERYTHING).expect("loads");
    let said = warnings(&config);
    assert!(!said.contains("unknown"), "{said}");
    let ignored: Vec<_> = config
        .warnings
        .iter()
        .filter(|warning| warning.level == Level::Warn)
        .map(|warning| warning.text.split(": ").next().unwrap_or_default())
        .collect();
    assert_eq!(
        ignored,
        [
            "log.hooks has no effect",
            "auth.token.signingalgorithms[2]",
            "middleware has no effect",
            "http.tls.ciphersuites[2]",
            "proxy.ttl has no effect",
            "policy has no effect",
            "compatibility has no effect",
            "reporting has no effect",
        ]
    );
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn what_larder_does_not_do_is_in_the_manual() {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let manual = std::fs::read_to_string(manual).expect("the manual");
    let config = load(EVERYTHING).expect("loads");
    for warning in &config.warnings {
        let effect = warning.text.split_once(" has no effect: ");
        let need = || warning.text.split_once(" is not needed: ");
        if let Some((key, _)) = effect.or_else(need) {
            assert!(
                manual.contains(&format!("`{key}")),
                "{key} is not in docs/configuration.md"
            );
        }
    }
    for key in [
        "proxy.exec",
        "auth.silly",
        "storage.s3",
        "gcs",
        "azure",
        "inmemory",
    ] {
        assert!(
            manual.contains(&format!("`{key}")),
            "{key} is not in docs/configuration.md"
        );
    }
}

#[test]
fn every_driver_that_is_not_files_is_refused() {
    for driver in [
        "s3", "s3aws", "gcs", "azure", "inmemory", "oss", "swift", "rados",
    ] {
        for text in [
            format!("storage: {driver}"),
            format!("storage: {{{driver}: {{bucket: b}}}}"),
        ] {
            let error = load(&format!("version: 0.1\n{text}")).expect_err("refused");
            let expected =
                format!("config.yml:2: storage.{driver}: larder keeps its data in files only");
            assert!(error.starts_with(&expected), "{error}");
        }
        let name = format!("REGISTRY_STORAGE_{}_BUCKET", driver.to_uppercase());
        let error = load_with(STOCK_V2, &[(&name, "b")]).expect_err("refused");
        assert!(
            error.starts_with(&format!("{name}: storage.{driver}: this is a second")),
            "{error}"
        );
    }
}
