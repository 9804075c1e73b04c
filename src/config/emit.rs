//! Writes a configuration back as a `config.yml`, for `larder config`.
//!
//! Every value is written out, so that the output answers "what holds here?" without a manual.

mod access;
mod checks;
mod lines;

use super::units::{format_duration, format_min_free, format_size};
use super::{Cache, Config, Http, Level, Listen, Log, LogFormat, Storage, Upstream, Upstreams};
use lines::{Lines, bool, headers, list, quote};

/// See [`Config::to_yaml`].
pub(super) fn to_yaml(config: &Config) -> String {
    let mut out = Lines::default();
    out.pair(0, "version", "0.1");
    log(&mut out, &config.log);
    storage(&mut out, &config.storage);
    http(&mut out, &config.http);
    access::auth(&mut out, &config.auth);
    upstreams(&mut out, &config.upstreams);
    cache(&mut out, &config.cache);
    checks::notifications(&mut out, &config.notifications);
    checks::health(&mut out, &config.health);
    checks::validation(&mut out, &config.validation);
    out.open(0, "metrics");
    out.pair(1, "enabled", bool(config.metrics));
    out.open(0, "catalog");
    out.pair(1, "maxentries", &config.catalog_max_entries.to_string());
    out.open(0, "tags");
    out.pair(1, "maxtags", &config.tags_max.to_string());
    out.0
}

fn log(out: &mut Lines, log: &Log) {
    out.open(0, "log");
    out.pair(1, "level", level(log.level));
    out.pair(1, "formatter", format(log.format));
    if !log.fields.is_empty() {
        out.open(1, "fields");
        for (name, value) in &log.fields {
            out.pair(2, &quote(name), &quote(value));
        }
    }
    out.pair(
        1,
        "accesslog",
        &format!("{{disabled: {}}}", bool(!log.access_log)),
    );
}

fn storage(out: &mut Lines, storage: &Storage) {
    out.open(0, "storage");
    out.open(1, "filesystem");
    out.path(2, "rootdirectory", &storage.root);
    out.open(1, "delete");
    out.pair(2, "enabled", bool(storage.delete));
    out.open(1, "maintenance");
    out.open(2, "readonly");
    out.pair(3, "enabled", bool(storage.readonly));
    out.open(2, "uploadpurging");
    out.pair(3, "enabled", bool(storage.upload_purging.is_some()));
    if let Some(purging) = &storage.upload_purging {
        out.pair(3, "age", &format_duration(purging.age));
        out.pair(3, "interval", &format_duration(purging.interval));
        out.pair(3, "dryrun", bool(purging.dry_run));
    }
    out.open(2, "garbagecollect");
    out.pair(3, "enabled", bool(storage.collect.is_some()));
    if let Some(collect) = &storage.collect {
        out.pair(3, "interval", &format_duration(collect.interval));
        out.pair(3, "grace", &format_duration(collect.grace));
        out.pair(3, "untagged", bool(collect.untagged));
    }
}

fn http(out: &mut Lines, http: &Http) {
    out.open(0, "http");
    let net = match http.listen {
        Listen::Tcp(_) => "tcp",
        Listen::Unix(_) => "unix",
    };
    out.pair(1, "net", net);
    out.pair(1, "addr", &quote(&http.listen.to_string()));
    if let Some(host) = &http.host {
        out.pair(1, "host", &quote(host.as_str()));
    }
    out.pair(1, "draintimeout", &format_duration(http.drain_timeout));
    if let Some(connections) = http.connections {
        out.pair(1, "connections", &connections.to_string());
    }
    out.pair(1, "headtimeout", &format_duration(http.head_timeout));
    out.pair(1, "stalltimeout", &format_duration(http.stall_timeout));
    if let Some(prefix) = &http.prefix {
        out.pair(1, "prefix", &quote(prefix));
    }
    if let Some(secret) = &http.secret {
        out.pair(1, "secret", &quote(&secret.to_string()));
    }
    if let Some(tls) = &http.tls {
        access::tls(out, tls);
    }
    out.open(1, "http2");
    out.pair(2, "disabled", bool(!http.http2));
    out.open(1, "h2c");
    out.pair(2, "enabled", bool(http.h2c));
    out.open(1, "sendfile");
    out.pair(2, "disabled", bool(!http.sendfile));
    if !http.headers.is_empty() {
        out.pair(1, "headers", &headers(&http.headers));
    }
    out.open(1, "debug");
    if let Some(addr) = &http.debug.addr {
        out.pair(2, "addr", &quote(addr));
    }
    out.open(2, "prometheus");
    out.pair(3, "enabled", bool(http.debug.prometheus.enabled));
    out.pair(3, "path", &quote(&http.debug.prometheus.path));
}

fn upstreams(out: &mut Lines, upstreams: &Upstreams) {
    if upstreams.all.is_empty() {
        return;
    }
    out.open(0, "upstreams");
    for (name, upstream) in &upstreams.all {
        out.open(1, &quote(name.as_str()));
        one_upstream(out, upstream);
    }
    let default = upstreams.default.as_ref();
    if let Some(upstream) = default
        .filter(|name| !name.is_docker_hub())
        .and_then(|name| upstreams.all.get(name))
    {
        out.open(0, "proxy");
        out.pair(1, "remoteurl", &quote(upstream.url.as_str()));
    }
}

fn one_upstream(out: &mut Lines, upstream: &Upstream) {
    out.pair(2, "url", &quote(upstream.url.as_str()));
    if let Some(credentials) = &upstream.credentials {
        out.pair(2, "username", &quote(&credentials.username));
        out.pair(2, "password", &quote(&credentials.password.to_string()));
    }
    if let Some(ca) = &upstream.ca {
        out.path(2, "ca", ca);
    }
    if !upstream.token_hosts.is_empty() {
        out.pair(2, "tokenhosts", &list(&upstream.token_hosts));
    }
}

fn cache(out: &mut Lines, cache: &Cache) {
    out.open(0, "cache");
    out.pair(1, "freshfor", &format_duration(cache.fresh_for));
    out.pair(1, "offline", bool(cache.offline));
    if let Some(keep_for) = cache.keep_for {
        out.pair(1, "keepfor", &format_duration(keep_for));
    }
    if let Some(max_size) = cache.max_size {
        out.pair(1, "maxsize", &format_size(max_size));
    }
    out.pair(1, "minfree", &format_min_free(cache.min_free));
    if !cache.pin.is_empty() {
        out.pair(1, "pin", &texts(&cache.pin));
    }
    if !cache.hold.is_empty() {
        out.open(1, "hold");
        for (image, digest) in &cache.hold {
            out.pair(2, &quote(&image.to_string()), &quote(digest.as_str()));
        }
    }
    if !cache.warm.images.is_empty() {
        out.open(1, "warm");
        out.pair(2, "images", &texts(&cache.warm.images));
        out.pair(2, "platforms", &texts(&cache.warm.platforms));
        out.pair(2, "every", &format_duration(cache.warm.every));
    }
}

fn texts<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    list(&items)
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
    }
}

fn format(format: LogFormat) -> &'static str {
    match format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::super::{Action, AuthScheme, Config, Credentials, Rule, Secret, UpstreamName};
    use super::*;

    fn load(text: &str) -> Config {
        let file = Some((Path::new("c.yml"), text.to_owned()));
        Config::load(file, std::iter::empty()).expect(text)
    }

    #[test]
    fn passwords_are_masked_and_the_mask_is_refused() {
        let text = "{version: 0.1, upstreams: {ghcr.io: {username: me, password: hunter2}}}";
        let yaml = load(text).to_yaml();
        assert!(yaml.contains("password: \"********\""), "{yaml}");
        assert!(!yaml.contains("hunter2"));
        let again = Config::load(Some((Path::new("c.yml"), yaml)), std::iter::empty());
        assert!(again.is_err_and(|error| error.to_string().contains("the mask")));
    }

    proptest! {
        #[test]
        fn what_is_written_loads_back_equal(
            root in "\\PC{1,20}",
            value in "[ -~]{1,20}",
            ca in any::<String>(),
            seconds in 0..100_000_u64,
            nanos in 0..1_000_000_000_u32,
            size in prop::option::of(1..=u64::MAX),
            text in "\\PC{1,20}",
        ) {
            let mut config = load("{version: 0.1, upstreams: [docker.io, 'lab:5000'], proxy: {remoteurl: http://x.y/z},
                cache: {minfree: 5GB, pin: ['python:*', 'lab:5000/org/a'], hold: {'node:20': 'sha256:0000000000000000000000000000000000000000000000000000000000000000'},
                warm: {images: [a, 'b/c:1'], platforms: [linux/arm/v7]}}}");
            config.storage.root = root.into();
            config.storage.delete = seconds % 2 == 0;
            (config.http.http2, config.http.h2c) = (seconds % 3 == 0, seconds % 5 == 0);
            config.http.headers = vec![("X-A".into(), value.clone()), ("X-A".into(), value)];
            config.cache.fresh_for = std::time::Duration::new(seconds, nanos);
            config.cache.max_size = size;
            config.log.fields = vec![(text.clone(), text.clone())];
            config.auth.scheme = AuthScheme::Htpasswd { realm: text.clone(), path: text.clone().into() };
            config.auth.rules = vec![Rule { who: vec![text.clone()], may: vec![Action::Push], names: vec!["*".into()] }];
            if let Some(lab) = config.upstreams.all.get_mut(&UpstreamName::parse("lab:5000").expect("a name")) {
                lab.ca = (!ca.is_empty()).then(|| ca.into());
            }
            let mut again = load(&config.to_yaml());
            again.warnings.clear();
            prop_assert_eq!(again, config);
        }
    }

    #[test]
    fn a_login_is_written_whole() {
        let mut out = Lines::default();
        let upstream = Upstream {
            url: "https://ghcr.io".parse().expect("a url"),
            credentials: Some(Credentials {
                username: "a\"b".to_owned(),
                password: Secret::new("x".to_owned()),
            }),
            ca: None,
            token_hosts: vec!["a.b".to_owned()],
        };
        one_upstream(&mut out, &upstream);
        assert_eq!(
            out.0,
            "    url: \"https://ghcr.io/\"\n    username: \"a\\\"b\"\n    password: \"********\"\n    tokenhosts: [\"a.b\"]\n"
        );
    }
}
