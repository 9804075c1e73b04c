//! Every form of `REGISTRY_*` that Distribution accepts, and those on which it panics or loses the value.

use std::path::PathBuf;
use std::time::Duration;

use larder::config::{AuthScheme, Config, Level, Listen, Platforms};
use larder::oci::Platform;

use super::drop_in::STOCK_V2;
use super::{load_file, load_with, upstreams, warnings};

/// The configuration of registry:2 with variables, none of which may be unknown.
fn stock(env: &[(&str, &str)]) -> Config {
    let config = load_with(STOCK_V2, env).expect("loads");
    assert!(
        !warnings(&config).contains("unknown"),
        "{}",
        warnings(&config)
    );
    config
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
    assert_eq!(config.http.listen, Listen::Tcp("0.0.0.0:5001".to_owned()));
    let secret = config.http.secret.as_ref().expect("a secret");
    assert_eq!(secret.expose(), "@abc");
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
    assert!(warnings(&config).contains("REGISTRY_PORT: not a setting but what Kubernetes"));
}

#[test]
fn text_in_a_variable_needs_no_quotes() {
    let table = [
        ("@abc", "@abc"),
        ("!x", "!x"),
        ("*x", "*x"),
        ("&x", "&x"),
        ("&x y", "&x y"),
        ("%x", "%x"),
        ("{a: b}", "{a: b}"),
        ("{", "{"),
        ("[a", "[a"),
        ("[a]", "[a]"),
        ("\"a", "\"a"),
        ("\"a b\"", "a b"),
        ("'a b'", "a b"),
        ("a: b", "a: b"),
        ("- a", "- a"),
        ("#a", "#a"),
        ("a #b", "a #b"),
        ("0123", "0123"),
        ("1e3", "1e3"),
        ("off", "off"),
        ("|", "|"),
        ("`", "`"),
    ];
    for (value, expected) in table {
        let config = stock(&[("REGISTRY_HTTP_SECRET", value)]);
        let secret = config.http.secret.expect(value);
        assert_eq!(secret.expose(), expected);
    }
}

#[test]
fn the_schemes_of_auth_can_be_chosen_by_variables() {
    let htpasswd = |realm: &str| AuthScheme::Htpasswd {
        realm: realm.to_owned(),
        path: PathBuf::from("/p"),
    };
    let path = ("REGISTRY_AUTH_HTPASSWD_PATH", "/p");
    let realm = ("REGISTRY_AUTH_HTPASSWD_REALM", "12345");
    let both = stock(&[("REGISTRY_AUTH", "htpasswd"), path, realm]);
    assert_eq!(both.auth.scheme, htpasswd("12345"));
    assert_eq!(stock(&[path, realm]).auth.scheme, htpasswd("12345"));
    let inline = "{htpasswd: {realm: 012, path: /p}}";
    assert_eq!(
        stock(&[("REGISTRY_AUTH", inline)]).auth.scheme,
        htpasswd("012")
    );
    assert_eq!(
        stock(&[("REGISTRY_AUTH", "none")]).auth.scheme,
        AuthScheme::Open
    );

    let text = "{version: 0.1, auth: {token: {realm: r}, rules: [{who: ann, may: push}], anonymous: pull}}";
    let config = load_with(text, &[("REGISTRY_AUTH", "htpasswd"), path, realm]).expect("loads");
    assert_eq!(config.auth.scheme, htpasswd("12345"));
    assert_eq!(
        (config.auth.rules.len(), config.auth.anonymous.len()),
        (1, 1)
    );
    let open = load_with(text, &[("REGISTRY_AUTH", "none")]).expect("loads");
    assert_eq!(open.auth.scheme, AuthScheme::Open);

    let error = load_with(STOCK_V2, &[path]).expect_err("no realm");
    assert_eq!(
        error,
        "REGISTRY_AUTH_HTPASSWD_PATH: auth.htpasswd: has no realm; write realm, path below it"
    );
    let error = load_with(text, &[path, realm]).expect_err("two schemes");
    assert!(
        error.contains("is a second way to log in beside token"),
        "{error}"
    );
    let error = load_file(None, &[("REGISTRY_AUTH_TOKEN_REALM", "x")]).expect_err("auth");
    assert!(
        error.starts_with("REGISTRY_AUTH_TOKEN_REALM: auth.token: has no issuer and no service"),
        "{error}"
    );
}

#[test]
fn lists_can_be_given_whole_or_item_by_item() {
    let items = stock(&[
        ("REGISTRY_VALIDATION_MANIFESTS_URLS_ALLOW_0", "^https://ok/"),
        ("REGISTRY_VALIDATION_MANIFESTS_URLS_ALLOW_1", "[a-z]+"),
        ("REGISTRY_VALIDATION_MANIFESTS_INDEXES_PLATFORMS", "list"),
        (
            "REGISTRY_VALIDATION_MANIFESTS_INDEXES_PLATFORMLIST_0_OS",
            "linux",
        ),
        (
            "REGISTRY_VALIDATION_MANIFESTS_INDEXES_PLATFORMLIST_0_ARCHITECTURE",
            "arm64",
        ),
        ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_NAME", "one"),
        ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL", "http://x"),
        (
            "REGISTRY_NOTIFICATIONS_ENDPOINTS_0_HEADERS",
            "{Authorization: [Bearer x]}",
        ),
        ("REGISTRY_NOTIFICATIONS_ENDPOINTS_1_URL", "http://y"),
        (
            "REGISTRY_NOTIFICATIONS_ENDPOINTS_1_IGNORE_ACTIONS_0",
            "pull",
        ),
        ("REGISTRY_HTTP_TLS_CERTIFICATE", "/c"),
        ("REGISTRY_HTTP_TLS_KEY", "/k"),
        ("REGISTRY_HTTP_TLS_CLIENTCAS_0", "/a"),
        ("REGISTRY_AUTH_HTPASSWD_REALM", "r"),
        ("REGISTRY_AUTH_HTPASSWD_PATH", "/p"),
        ("REGISTRY_AUTH_RULES_0_WHO", "*"),
        ("REGISTRY_AUTH_RULES_0_MAY_0", "pull"),
        ("REGISTRY_AUTH_RULES_0_NAMES", "{user}/*"),
        ("REGISTRY_AUTH_ANONYMOUS_0", "pull"),
    ]);
    assert_eq!(items.validation.urls_allow, ["^https://ok/", "[a-z]+"]);
    let platform = Platform {
        os: "linux".to_owned(),
        architecture: "arm64".to_owned(),
        variant: None,
    };
    assert_eq!(items.validation.platforms, Platforms::List(vec![platform]));
    let endpoints = items.notifications.endpoints.iter();
    let endpoints: Vec<_> = endpoints.map(|endpoint| endpoint.name.as_str()).collect();
    assert_eq!(endpoints, ["one", "y"]);
    assert_eq!(
        items.notifications.endpoints[0].headers[0].1.expose(),
        "Bearer x"
    );
    assert_eq!(items.notifications.endpoints[1].ignored_actions, ["pull"]);
    assert_eq!(
        items.http.tls.expect("tls").client_cas,
        [PathBuf::from("/a")]
    );
    assert_eq!(items.auth.rules[0].names, ["{user}/*"]);

    let whole = stock(&[
        (
            "REGISTRY_VALIDATION_MANIFESTS_URLS_ALLOW",
            "['^https://ok/', b]",
        ),
        (
            "REGISTRY_NOTIFICATIONS_ENDPOINTS",
            "[{name: x, url: \"http://x\", ignore: {actions: push}}]",
        ),
        ("REGISTRY_HTTP_HEADERS", "{X-A: [b]}"),
        ("REGISTRY_LOG_FIELDS", "{a: b}"),
        ("REGISTRY_LOG_FIELDS_SERVICE", "c"),
        ("REGISTRY_LOG_ACCESSLOG_DISABLED", "true"),
    ]);
    assert_eq!(whole.validation.urls_allow, ["^https://ok/", "b"]);
    assert_eq!(whole.notifications.endpoints[0].ignored_actions, ["push"]);
    assert_eq!(whole.http.headers, [("X-A".to_owned(), "b".to_owned())]);
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(whole.log.fields, [field("a", "b"), field("service", "c")]);
    assert!(!whole.log.access_log);
}

#[test]
fn both_spellings_of_a_key_work() {
    for (events, file, http, tcp) in [
        ("EVENTS", "FILE", "HTTP", "TCP"),
        ("EVENTCONFIG", "FILECHECKERS", "HTTPCHECKERS", "TCPCHECKERS"),
    ] {
        let env = [
            (
                format!("REGISTRY_NOTIFICATIONS_{events}_INCLUDEREFERENCES"),
                "true",
            ),
            (format!("REGISTRY_HEALTH_{file}_0_FILE"), "/down"),
            (format!("REGISTRY_HEALTH_{file}_0_INTERVAL"), "3s"),
            (format!("REGISTRY_HEALTH_{http}_0_URI"), "http://x/"),
            (format!("REGISTRY_HEALTH_{http}_0_STATUSCODE"), "204"),
            (format!("REGISTRY_HEALTH_{tcp}_0_ADDR"), "x:1"),
            ("REGISTRY_HEALTH_STORAGEDRIVER_ENABLED".to_owned(), "false"),
        ];
        let env: Vec<_> = env
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
            .collect();
        let config = stock(&env);
        assert!(config.notifications.include_references);
        assert_eq!(config.health.storage, None);
        assert_eq!(config.health.files[0].file, PathBuf::from("/down"));
        assert_eq!(
            config.health.files[0].check.interval,
            Duration::from_secs(3)
        );
        assert_eq!(config.health.http[0].status, 204);
        assert_eq!(config.health.tcp[0].addr, "x:1");
    }
    for options in ["OPTIONS", "MAILOPTIONS"] {
        let name = format!("REGISTRY_LOG_HOOKS_0_{options}_FROM");
        let said = warnings(&stock(&[(&name, "a@b")]));
        assert!(said.contains("log.hooks has no effect"), "{said}");
    }
}

#[test]
fn maintenance_can_be_set_with_and_without_its_section() {
    let files = [
        "{version: 0.1}",
        "{version: 0.1, storage: {maintenance: {readonly: {enabled: false}, uploadpurging: {age: 1h}}}}",
        "{version: 0.1, storage: filesystem}",
    ];
    for file in files {
        for env in [
            [("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "true")],
            [(
                "REGISTRY_STORAGE_MAINTENANCE_READONLY",
                "{\"enabled\":true}",
            )],
        ] {
            assert!(
                load_with(file, &env).expect(file).storage.readonly,
                "{file}"
            );
        }
        let env = [(
            "REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_ENABLED",
            "false",
        )];
        let config = load_with(file, &env).expect(file);
        assert_eq!(config.storage.upload_purging, None, "{file}");
        let env = [
            ("REGISTRY_STORAGE_MAINTENANCE_GARBAGECOLLECT_ENABLED", "yes"),
            ("REGISTRY_STORAGE_MAINTENANCE_GARBAGECOLLECT_GRACE", "2h"),
        ];
        let config = load_with(file, &env).expect(file);
        let collect = config.storage.collect.expect(file);
        assert_eq!(
            (collect.grace, collect.untagged),
            (Duration::from_hours(2), false)
        );
    }
}

#[test]
fn keys_of_maps_are_found_in_any_case() {
    let text =
        "{version: 0.1, http: {headers: {X-Frame-Options: [a]}}, log: {fields: {Service: x}}}";
    let env = [
        ("REGISTRY_HTTP_HEADERS_X-FRAME-OPTIONS", "[b]"),
        ("REGISTRY_LOG_FIELDS_SERVICE", "y"),
        ("REGISTRY_LOG_FIELDS_Zone", "z"),
    ];
    let config = load_with(text, &env).expect("loads");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(config.http.headers, [pair("X-Frame-Options", "b")]);
    assert_eq!(config.log.fields, [pair("Service", "y"), pair("zone", "z")]);
}

#[test]
fn what_kubernetes_sets_is_no_mistake() {
    let mut env = Vec::new();
    for service in [
        "",
        "_STORAGE",
        "_AUTH",
        "_HTTP_TLS",
        "_UPSTREAMS",
        "_HEALTH_FILE",
    ] {
        for (name, value) in [
            ("SERVICE_HOST", "10.0.0.1"),
            ("SERVICE_PORT", "5000"),
            ("SERVICE_PORT_HTTP", "5000"),
            ("PORT", "tcp://10.0.0.1:5000"),
            ("PORT_5000_TCP", "tcp://10.0.0.1:5000"),
            ("PORT_5000_TCP_PROTO", "tcp"),
            ("PORT_5000_TCP_PORT", "5000"),
            ("PORT_5000_TCP_ADDR", "10.0.0.1"),
        ] {
            env.push((format!("REGISTRY{service}_{name}"), value));
        }
    }
    let env: Vec<_> = env
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    for text in [STOCK_V2, "{version: 0.1}"] {
        let config = load_with(text, &env).expect("loads");
        let plain = load_with(text, &[]).expect("loads");
        let about_kubernetes = config
            .warnings
            .iter()
            .filter(|warning| warning.level == Level::Info && warning.text.contains("Kubernetes"));
        assert_eq!(about_kubernetes.count(), env.len());
        assert_eq!(
            Config {
                warnings: plain.warnings.clone(),
                ..config
            },
            plain
        );
    }
}
