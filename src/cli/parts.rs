//! From the configuration to the settings of each part. Nobody but `cli` sees the whole of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;

use crate::access::{self, Access, Scheme, TokenSettings};
use crate::acme::{self, Acme};
use crate::config::{self, AuthScheme, Config, Platforms};
use crate::events;
use crate::health::{self, What};
use crate::http::{ClientAuth, Listen, Manners, TlsSettings, headers};
use crate::registry::{
    Children, Collecting, Keeping, MinFree, Names, Purging, Settings as RegistrySettings,
    Validation, Warm,
};
use crate::store::Store;
use crate::upstream::{self, Credentials, Upstream};

use super::services;

/// The upstreams, by name, as they are configured and as they work.
pub(super) type Upstreams = BTreeMap<String, (config::Upstream, Arc<Upstream>)>;

pub(super) fn registry(config: &Config) -> Result<RegistrySettings, String> {
    let storage = &config.storage;
    Ok(RegistrySettings {
        fresh_for: config.cache.fresh_for,
        offline: config.cache.offline,
        hold: config.cache.hold.clone(),
        delete: storage.delete,
        readonly: storage.readonly,
        catalog_limit: config.catalog_max_entries,
        tags_limit: config.tags_max,
        purging: storage.upload_purging.as_ref().map(|purging| Purging {
            age: purging.age,
            interval: purging.interval,
            dry_run: purging.dry_run,
        }),
        validation: validation(&config.validation)?,
        collecting: storage.collect.as_ref().map(|collect| Collecting {
            interval: collect.interval,
            grace: collect.grace,
            untagged: collect.untagged,
        }),
        warm: Warm {
            images: config.cache.warm.images.clone(),
            platforms: config.cache.warm.platforms.clone(),
            every: config.cache.warm.every,
        },
        keeping: keeping(&config.cache),
    })
}

/// How much mirrored content is kept.
fn keeping(cache: &config::Cache) -> Keeping {
    let holds = cache.hold.iter();
    Keeping {
        max_size: cache.max_size,
        min_free: match cache.min_free {
            config::MinFree::Bytes(bytes) => MinFree::Bytes(bytes),
            config::MinFree::Percent(percent) => MinFree::Percent(percent),
        },
        keep_for: cache.keep_for,
        pins: cache.pin.clone(),
        holds: holds
            .map(|(image, digest)| (image.target.clone(), digest.clone()))
            .collect(),
    }
}

/// What Distribution checks only while validation is on is not checked while it is off.
fn validation(settings: &config::Validation) -> Result<Validation, String> {
    if !settings.enabled {
        return Ok(Validation {
            children: Children::None,
            ..Validation::default()
        });
    }
    let patterns = |texts: &[String]| {
        let pattern = |text: &String| Regex::new(text).map_err(|error| error.to_string());
        texts.iter().map(pattern).collect::<Result<Vec<_>, _>>()
    };
    let allow = patterns(&settings.urls_allow)?;
    Ok(Validation {
        urls_allow: (!allow.is_empty()).then_some(allow),
        urls_deny: patterns(&settings.urls_deny)?,
        children: match &settings.platforms {
            Platforms::All => Children::All,
            Platforms::None => Children::None,
            Platforms::List(platforms) => Children::Platforms(platforms.clone()),
        },
    })
}

/// Clients for the upstreams. One whose settings are as they were before stays: it knows tokens,
/// connections and rate limits.
pub(super) fn upstreams(config: &Config, before: &Upstreams) -> Result<Upstreams, String> {
    let mut upstreams = Upstreams::new();
    for (name, settings) in &config.upstreams.all {
        let name = name.to_string();
        let working = match before.get(&name) {
            Some((same, working)) if same == settings => Arc::clone(working),
            _ => {
                let working = Upstream::new(upstream(&name, settings));
                Arc::new(working.map_err(|error| format!("upstreams.{name}: {error}"))?)
            }
        };
        upstreams.insert(name, (settings.clone(), working));
    }
    Ok(upstreams)
}

/// The same without their settings, as the registry wants them.
pub(super) fn working(upstreams: &Upstreams) -> BTreeMap<String, Arc<Upstream>> {
    upstreams
        .iter()
        .map(|(name, (_, working))| (name.clone(), Arc::clone(working)))
        .collect()
}

/// The resolver of names for commands that look at the store themselves. No upstream is asked.
pub(super) fn names(config: &Config, store: &Store) -> Result<Names, String> {
    let upstreams = working(&upstreams(config, &Upstreams::new())?);
    let default = config.upstreams.default.as_ref().map(ToString::to_string);
    Ok(Names::new(store.clone(), upstreams, default, true))
}

fn upstream(name: &str, upstream: &config::Upstream) -> upstream::Settings {
    let credentials = upstream
        .credentials
        .as_ref()
        .map(|credentials| Credentials {
            username: credentials.username.clone(),
            password: credentials.password.expose().to_owned(),
        });
    upstream::Settings {
        name: name.to_owned(),
        url: upstream.url.clone(),
        credentials,
        ca: upstream.ca.clone(),
        token_hosts: upstream.token_hosts.clone(),
    }
}

/// Reads the files that say who may do what. `secret` is what tokens are made with where the
/// configuration has none: the same for as long as this process lives.
pub(super) fn access(config: &Config, secret: &str) -> Result<Access, String> {
    let own_secret = || config.http.secret.as_ref().map(config::Secret::expose);
    let settings = access::Settings {
        scheme: scheme(&config.auth.scheme),
        anonymous: config.auth.anonymous.iter().copied().map(action).collect(),
        rules: config
            .auth
            .rules
            .iter()
            .map(|rule| access::Rule {
                who: rule.who.clone(),
                may: rule.may.iter().copied().map(action).collect(),
                names: rule.names.clone(),
            })
            .collect(),
        challenge: match &config.auth.challenge {
            config::Challenge::Auto => access::Challenge::Auto,
            config::Challenge::Always => access::Challenge::Always,
            config::Challenge::Never => access::Challenge::Never,
            config::Challenge::Hosts(hosts) => access::Challenge::Hosts(hosts.clone()),
        },
        secret: Some(own_secret().unwrap_or(secret).to_owned()),
    };
    Access::new(settings).map_err(|error| error.to_string())
}

fn scheme(scheme: &AuthScheme) -> Scheme {
    match scheme {
        AuthScheme::Open => Scheme::Open,
        AuthScheme::Htpasswd { realm, path } => Scheme::Htpasswd {
            realm: realm.clone(),
            path: path.clone(),
        },
        AuthScheme::Token(token) => Scheme::Token(TokenSettings {
            realm: token.realm.clone(),
            service: token.service.clone(),
            issuer: token.issuer.clone(),
            root_cert_bundle: token.root_cert_bundle.clone(),
            jwks: token.jwks.clone(),
            auto_redirect: token.auto_redirect,
            auto_redirect_path: token.auto_redirect_path.clone(),
            signing_algorithms: token.signing_algorithms.clone(),
        }),
    }
}

fn action(action: config::Action) -> access::Action {
    match action {
        config::Action::Pull => access::Action::Pull,
        config::Action::Push => access::Action::Push,
        config::Action::Delete => access::Action::Delete,
    }
}

/// How answers look, for those whom `access` lets in.
pub(super) fn manners(config: &Config, access: Access) -> Result<Manners, String> {
    Ok(Manners {
        access,
        headers: headers(&config.http.headers).map_err(|error| error.to_string())?,
        base: config.http.host.clone(),
        metrics: config.metrics,
        prefix: config.http.prefix.clone(),
    })
}

pub(super) fn listen(config: &Config) -> Listen {
    match &config.http.listen {
        config::Listen::Tcp(address) => Listen::Tcp(address.clone()),
        config::Listen::Unix(path) => Listen::Unix(path.clone()),
    }
}

/// The certificate that is got from outside, if it is.
pub(super) fn acme(config: &Config) -> Option<Acme> {
    let settings = config.http.tls.as_ref()?.lets_encrypt.as_ref()?;
    let cache = settings.cache.clone();
    Some(Acme::open(acme::Settings {
        hosts: settings.hosts.clone(),
        email: settings.email.clone(),
        directory: settings.directory.clone(),
        cache: cache.unwrap_or_else(|| config.storage.root.join("acme.json")),
    }))
}

pub(super) fn tls(config: &Config, acme: Option<&Acme>) -> Option<TlsSettings> {
    let tls = config.http.tls.as_ref()?;
    Some(TlsSettings {
        certificate: tls.certificate.clone(),
        key: tls.key.clone(),
        client_cas: tls.client_cas.clone(),
        client_auth: match tls.client_auth {
            config::ClientAuth::Request => ClientAuth::Request,
            config::ClientAuth::RequireAny => ClientAuth::RequireAny,
            config::ClientAuth::VerifyIfGiven => ClientAuth::VerifyIfGiven,
            config::ClientAuth::RequireAndVerify => ClientAuth::RequireAndVerify,
        },
        only_tls13: tls.minimum == config::TlsVersion::Tls13,
        cipher_suites: tls.cipher_suites.iter().copied().map(suite).collect(),
        http2: config.http.http2,
        resolver: acme.map(|acme| Arc::new(acme.clone()) as Arc<_>),
    })
}

/// The suite's name at IANA.
fn suite(suite: config::CipherSuite) -> String {
    use config::CipherSuite as Suite;
    match suite {
        Suite::EcdheEcdsaAes128GcmSha256 => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        Suite::EcdheEcdsaAes256GcmSha384 => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        Suite::EcdheEcdsaChaCha20Poly1305 => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        Suite::EcdheRsaAes128GcmSha256 => "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        Suite::EcdheRsaAes256GcmSha384 => "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        Suite::EcdheRsaChaCha20Poly1305 => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    }
    .to_owned()
}

pub(super) fn services(config: &Config) -> services::Settings {
    let exposed = |headers: &[(String, config::Secret)]| {
        let pair =
            |(name, value): &(String, config::Secret)| (name.clone(), value.expose().to_owned());
        headers.iter().map(pair).collect::<Vec<_>>()
    };
    let endpoint = |endpoint: &config::Endpoint| {
        let mut settings = events::Endpoint::new(&endpoint.name, endpoint.url.clone());
        settings.headers = exposed(&endpoint.headers);
        settings.timeout = endpoint.timeout;
        settings.threshold = endpoint.threshold;
        settings.backoff = endpoint.backoff;
        settings
            .ignored_media_types
            .clone_from(&endpoint.ignored_media_types);
        settings
            .ignored_actions
            .clone_from(&endpoint.ignored_actions);
        settings
    };
    services::Settings {
        notifications: events::Settings {
            endpoints: config
                .notifications
                .endpoints
                .iter()
                .map(endpoint)
                .collect(),
            include_references: config.notifications.include_references,
        },
        checks: checks(config, exposed),
        debug: config.http.debug.addr.clone(),
        metrics: {
            let prometheus = &config.http.debug.prometheus;
            prometheus.enabled.then(|| prometheus.path.clone())
        },
        access_log: config.log.access_log,
    }
}

fn checks(
    config: &Config,
    exposed: impl Fn(&[(String, config::Secret)]) -> Vec<(String, String)>,
) -> Vec<health::Check> {
    let check = |what, check: &config::Check| health::Check {
        what,
        interval: check.interval,
        threshold: check.threshold,
    };
    let health = &config.health;
    let root = &config.storage.root;
    let storage = health.storage.iter().map(|storage| {
        let root = root.clone();
        check(What::Storage { root }, storage)
    });
    let files = health.files.iter().map(|file| {
        let path = file.file.clone();
        check(What::File { path }, &file.check)
    });
    let over_http = health.http.iter().map(|http| {
        let what = What::Http {
            uri: http.uri.clone(),
            headers: health::Headers(exposed(&http.headers)),
            status: http.status,
            timeout: http.timeout,
        };
        check(what, &http.check)
    });
    let tcp = health.tcp.iter().map(|tcp| {
        let what = What::Tcp {
            addr: tcp.addr.clone(),
            timeout: tcp.timeout,
        };
        check(what, &tcp.check)
    });
    storage.chain(files).chain(over_http).chain(tcp).collect()
}
