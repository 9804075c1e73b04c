//! File limits, the certificate, the file of users.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::process::{Resource, getrlimit};
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::sign::CertifiedKey;

use crate::acme::Validity;
use crate::config::{AuthScheme, Config, Tls};

use super::super::parts;
use super::super::setup::about::chain;
use super::Finding;

const CERTIFICATE: &str = "certificate";
const USERS: &str = "users";

/// A connection and a file for each of a classroom's downloads, twice over.
const FILES: u64 = 4096;

/// How long before its end a certificate is a matter for somebody.
const SOON: Duration = Duration::from_hours(14 * 24);

pub(super) fn limit() -> Finding {
    let current = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let seen = format!("{current} files may be open at once, in this shell");
    if current < FILES {
        return Finding::doubtful(
            "limits",
            seen,
            "each client takes two: set LimitNOFILE=65536 in larder's unit, or ulimit -n 65536 before it is started",
        );
    }
    Finding::fine("limits", seen)
}

pub(super) fn certificate(config: &Config, now: SystemTime) -> Vec<Finding> {
    let Some(tls) = &config.http.tls else {
        return Vec::new();
    };
    if let Some(acme) = &tls.lets_encrypt {
        let names = acme.hosts.join(", ");
        return vec![Finding::fine(
            CERTIFICATE,
            format!(
                "larder gets one for {names} by itself; the authority must reach it there, at port 443"
            ),
        )];
    }
    let path = tls.certificate.display();
    let chain = match chain(&tls.certificate) {
        Ok(chain) => chain,
        Err(error) => {
            let todo = "set http.tls.certificate to a PEM file that larder may read";
            return vec![Finding::broken(CERTIFICATE, error, todo)];
        }
    };
    let Some(validity) = chain.first().and_then(|it| Validity::of(it)) else {
        let todo = "it must be PEM, with BEGIN CERTIFICATE, the server's own first";
        return vec![Finding::broken(
            CERTIFICATE,
            format!("{path} has no certificate that can be read"),
            todo,
        )];
    };
    let mut findings = vec![dates(&path.to_string(), validity, now)];
    findings.extend(key(tls, chain));
    findings
}

fn dates(path: &str, validity: Validity, now: SystemTime) -> Finding {
    let day = |time| humantime::format_rfc3339_seconds(time).to_string();
    let todo = "get a new one; larder reads it by itself when the file changes";
    let (start, end) = (day(validity.start), day(validity.end));
    if now > validity.end {
        let seen = format!("{path} ran out at {end}");
        return Finding::broken(CERTIFICATE, seen, todo);
    }
    if now < validity.start {
        let seen = format!("{path} holds from {start} on only");
        let todo = "wait, or set the clock: it may be wrong";
        return Finding::broken(CERTIFICATE, seen, todo);
    }
    let seen = format!("{path} holds until {end}");
    if validity.end.duration_since(now).is_ok_and(|it| it < SOON) {
        return Finding::doubtful(CERTIFICATE, seen, todo);
    }
    Finding::fine(CERTIFICATE, seen)
}

fn key(tls: &Tls, chain: Vec<rustls::pki_types::CertificateDer<'static>>) -> Option<Finding> {
    let path = tls.key.display();
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| error.to_string());
    let fits = key.and_then(|key| {
        let fits = CertifiedKey::from_der(chain, key, &ring::default_provider());
        fits.map_err(|error| error.to_string())
    });
    match fits {
        Ok(_) => is_open(&tls.key).then(|| {
            Finding::doubtful(
                CERTIFICATE,
                format!("everybody on this machine may read {path}"),
                format!("chmod 600 {path}"),
            )
        }),
        Err(error) => Some(Finding::broken(
            CERTIFICATE,
            format!("{path}: {error}"),
            "set http.tls.key to the key that the certificate was made with",
        )),
    }
}

fn is_open(path: &Path) -> bool {
    let metadata = std::fs::metadata(path);
    metadata.is_ok_and(|it| it.permissions().mode() & 0o004 != 0)
}

pub(super) fn users(config: &Config) -> Option<Finding> {
    match &config.auth.scheme {
        AuthScheme::Open => None,
        AuthScheme::Htpasswd { path, .. } => Some(htpasswd(path)),
        AuthScheme::Token(_) => Some(match parts::access(config, "") {
            Ok(_) => Finding::fine(USERS, "tokens can be checked"),
            Err(error) => Finding::broken(
                USERS,
                error,
                "larder does not start without: see auth.token in the configuration",
            ),
        }),
    }
}

fn htpasswd(path: &Path) -> Finding {
    let shown = path.display();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Finding::doubtful(
                USERS,
                format!("{shown} is not there"),
                format!(
                    "htpasswd -B -c {shown} NAME makes it; else larder does when it starts, with the user docker, and says the password once"
                ),
            );
        }
        Err(error) => {
            return Finding::broken(
                USERS,
                format!("{shown} cannot be read: {error}"),
                "nobody can log in: let the user that larder runs as read it",
            );
        }
    };
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (good, bad): (Vec<_>, Vec<_>) = lines.partition(|line| {
        let hash = line.split_once(':').map(|(_, hash)| hash);
        hash.is_some_and(|hash| hash.starts_with("$2"))
    });
    let (good, bad) = (good.len(), bad.len());
    if good == 0 || bad > 0 {
        return Finding::doubtful(
            USERS,
            format!("{shown} has {good} users, and {bad} lines that are of no use"),
            "a line is NAME:HASH with a bcrypt hash, as htpasswd -nB NAME prints it",
        );
    }
    if is_open(path) {
        return Finding::doubtful(
            USERS,
            format!("everybody on this machine may read {shown}, and try passwords against it"),
            format!("chmod 640 {shown}"),
        );
    }
    Finding::fine(USERS, format!("{shown} has {good} users"))
}
