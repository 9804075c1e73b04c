//! Wrong configurations, and what is said of them.

use larder::config::{Level, MinFree};

use super::{load, load_with, warnings};

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
        "version: 0.1\nhttp: {addr: '5000'}",
        "config.yml:2: http.addr: \"5000\" is not an address",
    ),
    (
        "version: 0.1\nhttp: {headers: {'X Y': [a]}}",
        "config.yml:2: http.headers.X Y: \"X Y\" is not the name",
    ),
    (
        "version: 0.1\nhttp: {headers: {X: [\"a\\nb\"]}}",
        "config.yml:2: http.headers.X[0]: must be printable",
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
        "version: 0.1\ncache: {freshfor: 300}",
        "config.yml:2: cache.freshfor: 300 has no unit; write for example 5m or 720h",
    ),
    (
        "version: 0.1\ncache: {keepfor: 30}",
        "config.yml:2: cache.keepfor: 30 has no unit; write",
    ),
    (
        "version: 0.1\ncache: {keepfor: 30 days and nights}",
        "config.yml:2: cache.keepfor: \"30 days and nights\" is not a duration",
    ),
    (
        "version: 0.1\ncache: {warm: {every: 24}}",
        "config.yml:2: cache.warm.every: 24 has no unit; write",
    ),
    (
        "version: 0.1\ncache: {maxsize: 100h}",
        "config.yml:2: cache.maxsize: \"100h\" is not a size",
    ),
    (
        "version: 0.1\ncache: {minfree: 5 apples}",
        "config.yml:2: cache.minfree: \"5 apples\" is neither a percentage nor a size",
    ),
    (
        "version: 0.1\ncache: {pin: ['docker.io/library/python:']}",
        "config.yml:2: cache.pin[0]: \"docker.io/library/python:\": a pattern is",
    ),
    (
        "version: 0.1\ncache: {hold: {python: \"sha256:0\"}}",
        "config.yml:2: cache.hold.python: \"sha256:0\" is no digest",
    ),
    (
        "version: 0.1\ncache: {hold: {Python: \"sha256:0\"}}",
        "config.yml:2: cache.hold.Python: names no image",
    ),
    (
        "version: 0.1\ncache: {warm: {images: [a, b@c]}}",
        "config.yml:2: cache.warm.images[1]: \"b@c\": what stands behind the @ is no digest",
    ),
    (
        "version: 0.1\ncache: {warm: {platforms: amd64}}",
        "config.yml:2: cache.warm.platforms: \"amd64\": a platform is",
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
    (
        "version: 0.1\nhttp: {prefix: /a b/}",
        "config.yml:2: http.prefix: \"/a b/\" is not a prefix; write for example /registry/",
    ),
    (
        "version: 0.1\nhttp: {prefix: /a/../b/}",
        "config.yml:2: http.prefix: \"/a/../b/\" is not",
    ),
    (
        "version: 0.1\nhttp: {net: unix}",
        "config.yml:2: http: has no addr; write for example `addr: /run/larder.sock`",
    ),
    (
        "version: 0.1\nhttp: {net: unix, addr: ':5000'}",
        "config.yml:2: http.addr: with `net: unix` this is the path of the socket",
    ),
    (
        "version: 0.1\nhttp: {net: udp}",
        "config.yml:2: http.net: \"udp\" is not possible here; write tcp or unix",
    ),
    (
        "version: 0.1\nhttp: {addr: /run/x.sock}",
        "config.yml:2: http.addr: \"/run/x.sock\" is not an address to listen on; write for example :5000 or 127.0.0.1:5000; for a socket in the file system write `net: unix`",
    ),
    (
        "version: 0.1\nhttp: {secret: '********'}",
        "config.yml:2: http.secret: this is the mask",
    ),
    (
        "version: 0.1\nhttp: {debug: {addr: 5001}}",
        "config.yml:2: http.debug.addr: \"5001\" is not an address",
    ),
    (
        "version: 0.1\nhttp: {debug: {prometheus: {path: metrics}}}",
        "config.yml:2: http.debug.prometheus.path: must be a path",
    ),
    (
        "version: 0.1\nhttp:\n  tls: {certificate: /c}",
        "config.yml:3: http.tls: has no key; write for example",
    ),
    (
        "version: 0.1\nhttp:\n  tls: {key: /k}",
        "config.yml:3: http.tls: has no certificate; write",
    ),
    (
        "version: 0.1\nhttp:\n  tls: {clientcas: [/ca]}",
        "config.yml:3: http.tls: has no certificate; write",
    ),
    (
        "version: 0.1\nhttp: {tls: {certificate: /c, key: /k, clientauth: request-client-cert}}",
        "config.yml:2: http.tls.clientauth: without clientcas",
    ),
    (
        "version: 0.1\nhttp: {tls: {certificate: /c, key: /k, clientcas: /ca, clientauth: maybe}}",
        "config.yml:2: http.tls.clientauth: \"maybe\" is not possible here; write request-client-cert or",
    ),
    (
        "version: 0.1\nhttp: {tls: {certificate: /c, key: /k, minimumtls: tls1.0}}",
        "config.yml:2: http.tls.minimumtls: larder does not speak TLS 1.0 and 1.1",
    ),
    (
        "version: 0.1\nhttp: {tls: {certificate: /c, key: /k, ciphersuites: [TLS_X]}}",
        "config.yml:2: http.tls.ciphersuites[0]: \"TLS_X\" is not a cipher suite that larder knows; possible are TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, ",
    ),
    (
        "version: 0.1\nhttp: {tls: {certificate: /c, key: /k, ciphersuites: [TLS_RSA_WITH_AES_128_GCM_SHA256]}}",
        "config.yml:2: http.tls.ciphersuites: none of these is for TLS 1.2",
    ),
    (
        "version: 0.1\nhttp:\n  tls:\n    letsencrypt: {cachefile: /x, email: a@b.c}",
        "config.yml:4: http.tls.letsencrypt",
    ),
    (
        "version: 0.1\nhttp: {tls: {certificate: /c, key: /k, letsencrypt: {cachefile: /x, hosts: [a.b]}}}",
        "config.yml:2: http.tls: there is letsencrypt, and certificate or key",
    ),
    (
        "version: 0.1\nlog: {fields: {a: [b]}}",
        "config.yml:2: log.fields.a: must be text",
    ),
    (
        "version: 0.1\nlog: {accesslog: {disabled: perhaps}}",
        "config.yml:2: log.accesslog.disabled: ",
    ),
    (
        "version: 0.1\nstorage: {maintenance: {garbagecollect: {interval: 0}}}",
        "config.yml:2: storage.maintenance.garbagecollect.interval: must not be zero",
    ),
    (
        "version: 0.1\nnotifications: {endpoints: [{name: x}]}",
        "config.yml:2: notifications.endpoints[0]: has no url; write for example",
    ),
    (
        "version: 0.1\nnotifications: {endpoints: [{url: 'ftp://me:hunter2@x'}]}",
        "config.yml:2: notifications.endpoints[0].url: is not a URL",
    ),
    (
        "version: 0.1\nnotifications:\n  endpoints:\n    - {name: a, url: http://x}\n    - {name: a, url: http://y}",
        "config.yml:5: notifications.endpoints[1]: another endpoint is called \"a\" too",
    ),
    (
        "version: 0.1\nnotifications: {endpoints: [{url: http://x, headers: {Authorization: ['hunter2é']}}]}",
        "config.yml:2: notifications.endpoints[0].headers.Authorization[0]: must be printable",
    ),
    (
        "version: 0.1\nnotifications: {endpoints: [{url: http://x, headers: {A: ['********']}}]}",
        "config.yml:2: notifications.endpoints[0].headers.A[0]: this is the mask",
    ),
    (
        "version: 0.1\nhealth: {file: [{interval: 1s}]}",
        "config.yml:2: health.file[0]: has no file; write",
    ),
    (
        "version: 0.1\nhealth: {http: [{uri: http://x, statuscode: 99}]}",
        "config.yml:2: health.http[0].statuscode: is not an HTTP status",
    ),
    (
        "version: 0.1\nhealth: {tcp: [{addr: x}]}",
        "config.yml:2: health.tcp[0].addr: \"x\" is not a host with a port",
    ),
    (
        "version: 0.1\nhealth: {storagedriver: {enabled: true, threshold: -1}}",
        "config.yml:2: health.storagedriver.threshold: \"-1\" is not a whole number",
    ),
    (
        "version: 0.1\nvalidation:\n  manifests:\n    urls:\n      allow: ['^https://ok/', '(']",
        "config.yml:5: validation.manifests.urls.allow[1]: not a regular expression: unclosed group; write",
    ),
    (
        "version: 0.1\nvalidation: {manifests: {indexes: {platforms: list}}}",
        "config.yml:2: validation.manifests.indexes: has no platformlist",
    ),
    (
        "version: 0.1\nvalidation: {manifests: {indexes: {platforms: some}}}",
        "config.yml:2: validation.manifests.indexes.platforms: \"some\" is not possible",
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
}

#[test]
fn what_has_no_effect_is_said_in_the_order_of_the_file() {
    let text = "version: 0.1
loglevel: warn
foo: {bar: 1}
storage: {filesystem: {rootDirectory: /x}, redirect: {disable: false}}
http: {relativeurls: true, h2c: {enabled: false}, draintimeout: 60, drain_timeout: 5s}
policy: {repository: {classes: [image]}}
cache: {keepfor: 720h, maxsize: 100GB, minfree: 10%}
";
    let config = load(text).expect("loads");
    assert_eq!(config.log.level, Level::Warn);
    assert_eq!(config.cache.max_size, Some(100_000_000_000));
    assert_eq!(config.cache.min_free, MinFree::Percent(10));
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
            "config.yml:5: http.relativeurls is not needed: ",
            "config.yml:5: http.draintimeout: ",
            "config.yml:5: unknown key http.drain_timeout: ",
            "config.yml:6: policy has no effect: ",
        ]
    );
    assert!(warnings(&config).contains("ignored (did you mean rootdirectory?)"));
    assert!(warnings(&config).contains("60 means 60 nanoseconds; write 60s"));
}

#[test]
fn sizes_without_a_unit_are_bytes_and_few_of_them_are_doubted() {
    let config = load("version: 0.1\ncache: {maxsize: 100, minfree: 10}").expect("loads");
    assert_eq!(config.cache.max_size, Some(100));
    assert_eq!(config.cache.min_free, MinFree::Bytes(10));
    let said = warnings(&config);
    for doubt in [
        "cache.maxsize: 100 means 100 bytes; write 100GB if that is meant",
        "cache.minfree: 10 means 10 bytes; write 10% if that is meant",
    ] {
        assert!(said.contains(doubt), "{said}");
    }
    let config = load("version: 0.1\ncache: {maxsize: 100000000000, minfree: 0, freshfor: 0}");
    assert_eq!(warnings(&config.expect("loads")), "");
}

#[test]
fn a_pin_of_a_registry_that_is_not_mirrored_is_doubted() {
    let text = "version: 0.1
upstreams: { docker.io: {}, 'lab:5000': { url: http://lab } }
cache: { pin: [python, 'docker.io/library/*', 'lab:5000/a/*', '*/app', '*', 'gchr.io/org/*'] }
";
    let config = load(text).expect("loads");
    let said = warnings(&config);
    assert_eq!(config.warnings.len(), 1, "{said}");
    let doubt = "config.yml:3: cache.pin[5]: nothing is mirrored from gchr.io";
    assert!(said.contains(doubt), "{said}");
    let config = load("version: 0.1\nproxy: {remoteurl: http://lab}\ncache: {pin: python}");
    let said = warnings(&config.expect("loads"));
    assert!(
        said.contains("cache.pin: nothing is mirrored from docker.io"),
        "{said}"
    );
}
