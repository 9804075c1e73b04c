//! `http.tls` and `auth`.

use super::super::auth::ACTIONS;
use super::super::tls::{CIPHER_SUITES, CLIENT_AUTHS, VERSIONS};
use super::super::{Action, Auth, AuthScheme, Challenge, Tls, TokenAuth};
use super::lines::{Lines, bool, list, paths, quote, word};

pub(super) fn tls(out: &mut Lines, tls: &Tls) {
    out.open(1, "tls");
    if let Some(settings) = &tls.lets_encrypt {
        out.open(2, "letsencrypt");
        if let Some(cache) = &settings.cache {
            out.path(3, "cachefile", cache);
        }
        if let Some(email) = &settings.email {
            out.pair(3, "email", &quote(email));
        }
        out.pair(3, "hosts", &list(&settings.hosts));
        out.pair(3, "directoryurl", &quote(settings.directory.as_str()));
    } else {
        out.path(2, "certificate", &tls.certificate);
        out.path(2, "key", &tls.key);
    }
    if !tls.client_cas.is_empty() {
        out.pair(2, "clientcas", &paths(&tls.client_cas));
        out.pair(2, "clientauth", word(&CLIENT_AUTHS, tls.client_auth));
    }
    out.pair(2, "minimumtls", word(&VERSIONS, tls.minimum));
    if !tls.cipher_suites.is_empty() {
        let names = tls.cipher_suites.iter();
        let names: Vec<&str> = names.map(|suite| word(&CIPHER_SUITES, *suite)).collect();
        out.pair(2, "ciphersuites", &list(&names));
    }
}

pub(super) fn auth(out: &mut Lines, auth: &Auth) {
    match &auth.scheme {
        AuthScheme::Open => return out.pair(0, "auth", "none"),
        AuthScheme::Htpasswd { realm, path } => {
            out.open(0, "auth");
            out.open(1, "htpasswd");
            out.pair(2, "realm", &quote(realm));
            out.path(2, "path", path);
        }
        AuthScheme::Token(token) => {
            out.open(0, "auth");
            self::token(out, token);
        }
    }
    out.pair(1, "anonymous", &actions(&auth.anonymous));
    if !auth.rules.is_empty() {
        out.open(1, "rules");
        for rule in &auth.rules {
            let may = actions(&rule.may);
            out.item(
                2,
                &[
                    ("who", list(&rule.who)),
                    ("may", may),
                    ("names", list(&rule.names)),
                ],
            );
        }
    }
    let challenge = match &auth.challenge {
        Challenge::Auto => "auto",
        Challenge::Always => "always",
        Challenge::Never => "never",
        Challenge::Hosts(hosts) => &list(hosts),
    };
    out.pair(1, "challenge", challenge);
}

fn token(out: &mut Lines, token: &TokenAuth) {
    out.open(1, "token");
    out.pair(2, "realm", &quote(&token.realm));
    out.pair(2, "issuer", &quote(&token.issuer));
    out.pair(2, "service", &quote(&token.service));
    if let Some(path) = &token.root_cert_bundle {
        out.path(2, "rootcertbundle", path);
    }
    if let Some(path) = &token.jwks {
        out.path(2, "jwks", path);
    }
    out.pair(2, "autoredirect", bool(token.auto_redirect));
    out.pair(2, "autoredirectpath", &quote(&token.auto_redirect_path));
    if !token.signing_algorithms.is_empty() {
        out.pair(2, "signingalgorithms", &list(&token.signing_algorithms));
    }
}

fn actions(actions: &[Action]) -> String {
    let words: Vec<&str> = actions
        .iter()
        .map(|action| word(&ACTIONS, *action))
        .collect();
    format!("[{}]", words.join(", "))
}
