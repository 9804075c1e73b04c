//! What each section comes to, its defaults, and that it survives being written out.

use std::path::PathBuf;
use std::time::Duration;

use larder::config::{
    Check, CipherSuite, ClientAuth, Collect, Config, Health, Listen, Notifications, Platforms, Tls,
    TlsVersion, Validation,
};

use super::{load, survives_being_written_out, warnings};

fn quiet(text: &str) -> Config {
    let config = load(&format!("version: 0.1\n{text}")).expect(text);
    assert_eq!(warnings(&config), "", "{text}");
    config
}

#[test]
fn a_file_that_says_nothing_gets_the_defaults() {
    let config = quiet("");
    survives_being_written_out(&config);
    let http = &config.http;
    assert_eq!(http.listen, Listen::Tcp(":5000".to_owned()));
    assert!(http.tls.is_none());
    assert!(http.prefix.is_none() && http.secret.is_none() && http.debug.addr.is_none());
    assert_eq!(http.debug.prometheus.path, "/metrics");
    assert_eq!(http.drain_timeout, Duration::from_secs(30));
    assert_eq!(http.head_timeout, Duration::from_secs(30));
    assert_eq!(http.stall_timeout, Duration::from_mins(1));
    assert_eq!(http.connections, None);
    assert!(config.log.access_log && config.log.fields.is_empty());
    assert_eq!(config.storage.collect, None);
    let notifications = Notifications {
        include_references: false,
        endpoints: Vec::new(),
    };
    assert_eq!(config.notifications, notifications);
    assert_eq!(config.health, Health::default());
    let validation = Validation {
        enabled: true,
        urls_allow: Vec::new(),
        urls_deny: Vec::new(),
        platforms: Platforms::All,
    };
    assert_eq!(config.validation, validation);
}

#[test]
fn a_prefix_has_both_slashes() {
    let table = [
        ("/a/", Some("/a/")),
        ("a", Some("/a/")),
        ("/a/b.c-d_e~", Some("/a/b.c-d_e~/")),
        ("/", None),
        ("''", None),
    ];
    for (text, expected) in table {
        let config = quiet(&format!("http: {{prefix: {text}}}"));
        assert_eq!(config.http.prefix.as_deref(), expected, "{text}");
        survives_being_written_out(&config);
    }
}

#[test]
fn larder_listens_on_a_socket_too() {
    let config = quiet("http: {net: unix, addr: /run/x.sock}");
    assert_eq!(
        config.http.listen,
        Listen::Unix(PathBuf::from("/run/x.sock"))
    );
    survives_being_written_out(&config);
}

#[test]
fn tls_in_the_words_of_go() {
    let short = quiet("http: {tls: {certificate: /c, key: /k}}");
    let expected = Tls {
        certificate: PathBuf::from("/c"),
        key: PathBuf::from("/k"),
        client_cas: Vec::new(),
        client_auth: ClientAuth::RequireAndVerify,
        minimum: TlsVersion::Tls12,
        cipher_suites: Vec::new(),
        lets_encrypt: None,
    };
    assert_eq!(short.http.tls.as_ref(), Some(&expected));
    survives_being_written_out(&short);
    for blank in [
        "http: {tls: }",
        "http: {tls: {certificate: '', letsencrypt: {cachefile: ''}}}",
    ] {
        assert_eq!(quiet(blank).http.tls, None);
    }
    let words = [
        ("request-client-cert", ClientAuth::Request),
        ("require-any-client-cert", ClientAuth::RequireAny),
        ("verify-client-cert-if-given", ClientAuth::VerifyIfGiven),
        (
            "require-and-verify-client-cert",
            ClientAuth::RequireAndVerify,
        ),
    ];
    for (word, expected) in words {
        let text = format!(
            "http: {{tls: {{certificate: /c, key: /k, clientcas: [/a, /b], clientauth: {word}, minimumtls: tls1.3,
             ciphersuites: [TLS_AES_128_GCM_SHA256]}}}}"
        );
        let config = quiet(&text);
        survives_being_written_out(&config);
        let tls = config.http.tls.expect("tls");
        assert_eq!(
            (tls.client_auth, tls.minimum),
            (expected, TlsVersion::Tls13)
        );
        assert_eq!((tls.client_cas.len(), tls.cipher_suites.len()), (2, 0));
    }
    let suites = quiet(
        "http: {tls: {certificate: /c, key: /k, ciphersuites: [TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305,
         TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_AES_128_GCM_SHA256]}}",
    );
    survives_being_written_out(&suites);
    let expected = [
        CipherSuite::EcdheRsaChaCha20Poly1305,
        CipherSuite::EcdheEcdsaAes256GcmSha384,
    ];
    assert_eq!(suites.http.tls.expect("tls").cipher_suites, expected);
}

#[test]
fn the_rest_of_http_and_log() {
    let config = quiet(
        "http: {debug: {addr: 'localhost:5001', prometheus: {path: /m}}}
log: {accesslog: {disabled: true}, fields: {Service: registry, number: 007, nothing: }}",
    );
    survives_being_written_out(&config);
    assert!(!config.log.access_log);
    assert_eq!(config.http.debug.addr.as_deref(), Some("localhost:5001"));
    assert_eq!(config.http.debug.prometheus.path, "/m");
    let fields: Vec<_> = config
        .log
        .fields
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(fields, ["Service=registry", "number=007", "nothing="]);
}

#[test]
fn collecting_garbage_is_switched_on() {
    let collect = |text: &str| {
        let config = quiet(&format!(
            "storage: {{maintenance: {{garbagecollect: {text}}}}}"
        ));
        survives_being_written_out(&config);
        config.storage.collect
    };
    let hour = Duration::from_hours(1);
    let defaults = Collect {
        interval: 24 * hour,
        grace: hour,
        untagged: false,
    };
    assert_eq!(collect("{enabled: true}"), Some(defaults));
    assert_eq!(collect("{interval: 1h}"), None);
    let all = collect("{enabled: true, interval: 2h, grace: 0s, untagged: true}");
    assert_eq!(
        all,
        Some(Collect {
            interval: 2 * hour,
            grace: Duration::ZERO,
            untagged: true
        })
    );
}

#[test]
fn who_is_told_what_happens() {
    let config = quiet(
        "
notifications:
  events: {includereferences: true}
  endpoints:
    - url: http://hooks.example.com/in?x=1
      timeout: 0s
      threshold: 0
      ignoredmediatypes: [a/b]
      ignore: {mediatypes: c/d, actions: [pull]}
    - {name: off, disabled: true}
    - {name: two, url: 'http://y', timeout: 2s, threshold: 3, backoff: 4s}
",
    );
    survives_being_written_out(&config);
    assert!(config.notifications.include_references);
    let [one, two] = config.notifications.endpoints.as_slice() else {
        panic!("not two endpoints");
    };
    assert_eq!(one.name, "hooks.example.com");
    assert_eq!(one.url.as_str(), "http://hooks.example.com/in?x=1");
    let second = Duration::from_secs(1);
    assert_eq!(
        (one.timeout, one.threshold, one.backoff),
        (second, 10, second)
    );
    assert_eq!(one.ignored_media_types, ["a/b", "c/d"]);
    assert_eq!(one.ignored_actions, ["pull"]);
    assert_eq!(
        (two.timeout, two.threshold, two.backoff),
        (2 * second, 3, 4 * second)
    );
}

#[test]
fn a_login_in_a_url_becomes_a_header_and_is_not_shown() {
    let config = quiet(
        "
notifications: {endpoints: [{url: 'https://me:hunt%65r2@x/y', headers: {X-A: [b]}}]}
health: {http: [{uri: 'http://me@x/y', headers: {authorization: [Bearer hunter2]}}]}
http: {secret: hunter2}
",
    );
    let endpoint = &config.notifications.endpoints[0];
    assert_eq!(endpoint.url.as_str(), "https://x/y");
    let headers: Vec<_> = endpoint
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.expose()))
        .collect();
    assert_eq!(
        headers,
        [("X-A", "b"), ("Authorization", "Basic bWU6aHVudGVyMg==")]
    );
    let check = &config.health.http[0];
    assert_eq!(check.uri.as_str(), "http://x/y");
    assert_eq!(check.headers.len(), 1);
    assert_eq!(check.headers[0].1.expose(), "Bearer hunter2");
    let yaml = config.to_yaml();
    for shown in [&yaml, &format!("{config:?}")] {
        assert!(
            !shown.contains("hunter2") && !shown.contains("bWU6"),
            "{shown}"
        );
    }
    let error = load(&yaml).expect_err("masked");
    assert!(error.contains("http.secret: this is the mask"), "{error}");
}

#[test]
fn what_is_looked_at() {
    let config = quiet(
        "
health:
  storagedriver: {enabled: true}
  file: [{file: /down}, {file: /off, interval: 1s, threshold: 2}]
  http: [{uri: 'http://x/y', statuscode: 204, timeout: 3s, threshold: 4}, {uri: 'http://z', statuscode: 0, timeout: 0}]
  tcp: [{addr: 'redis:6379', interval: 14s}]
",
    );
    survives_being_written_out(&config);
    let health = &config.health;
    let check = |seconds, threshold| Check {
        interval: Duration::from_secs(seconds),
        threshold,
    };
    assert_eq!(health.storage, Some(check(10, 0)));
    assert_eq!(health.files[0].check, check(10, 0));
    assert_eq!(health.files[1].check, check(1, 2));
    assert_eq!(
        (health.http[0].status, health.http[0].check),
        (204, check(10, 4))
    );
    assert_eq!(
        (health.http[1].status, health.http[1].timeout),
        (200, Duration::from_secs(5))
    );
    assert_eq!(
        (health.tcp[0].addr.as_str(), health.tcp[0].check),
        ("redis:6379", check(14, 0))
    );
}

#[test]
fn which_manifests_may_be_pushed() {
    let config = quiet(
        "
validation:
  disabled: true
  manifests:
    urls: {allow: ['^https?://', ''], deny: '(?i)\\.EVIL$'}
    indexes: {platforms: List, platformlist: [{os: linux, architecture: amd64}, {os: linux, architecture: arm64}]}
",
    );
    survives_being_written_out(&config);
    let validation = &config.validation;
    assert!(!validation.enabled);
    assert_eq!(validation.urls_allow, ["^https?://"]);
    assert_eq!(validation.urls_deny, ["(?i)\\.EVIL$"]);
    assert!(matches!(&validation.platforms, Platforms::List(list) if list.len() == 2));
    let none = quiet("validation: {manifests: {indexes: {platforms: none}}}");
    assert_eq!(none.validation.platforms, Platforms::None);
    survives_being_written_out(&none);
    let old = load("{version: 0.1, validation: {enabled: false}}").expect("loads");
    assert!(old.validation.enabled);
    assert!(warnings(&old).contains("validation.enabled: is an old key without effect"));
}
