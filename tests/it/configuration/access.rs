//! `auth`: who may do what.

use std::path::PathBuf;

use larder::config::{Action, Auth, AuthScheme, Challenge, Rule, TokenAuth};

use super::{load, survives_being_written_out, warnings};

fn auth(text: &str) -> Auth {
    let config = load(&format!("version: 0.1\n{text}")).expect(text);
    assert_eq!(warnings(&config), "");
    survives_being_written_out(&config);
    config.auth
}

#[test]
fn without_a_scheme_everyone_may_do_everything() {
    for text in [
        "",
        "auth:",
        "auth: none",
        "auth: {}",
        "auth: {none: }",
        "auth: [none]",
    ] {
        assert_eq!(auth(text).scheme, AuthScheme::Open, "{text}");
    }
}

#[test]
fn a_scheme_alone_lets_those_who_log_in_do_everything() {
    let auth = auth("auth: {htpasswd: {realm: 12345, path: /p}}");
    let expected = Auth {
        scheme: AuthScheme::Htpasswd {
            realm: "12345".to_owned(),
            path: PathBuf::from("/p"),
        },
        anonymous: Vec::new(),
        rules: Vec::new(),
        challenge: Challenge::Auto,
    };
    assert_eq!(auth, expected);
}

#[test]
fn tokens_have_their_defaults() {
    let text =
        "auth: {token: {realm: 'https://a/t', issuer: 7, service: on, jwks: /j}, anonymous: pull}";
    let auth = auth(text);
    let expected = TokenAuth {
        realm: "https://a/t".to_owned(),
        issuer: "7".to_owned(),
        service: "on".to_owned(),
        root_cert_bundle: None,
        jwks: Some(PathBuf::from("/j")),
        auto_redirect: false,
        auto_redirect_path: "/auth/token".to_owned(),
        signing_algorithms: Vec::new(),
    };
    assert_eq!(auth.scheme, AuthScheme::Token(expected));
    assert_eq!(auth.anonymous, [Action::Pull]);
}

#[test]
fn rules_may_be_short() {
    let auth = auth(
        "
auth:
  htpasswd: {realm: r, path: /p}
  anonymous: [pull, pull]
  rules:
    - {who: ann, may: [push, delete]}
    - {who: ['*', anonymous], may: pull, names: [\"{user}/*\", lab.example.com:5000/x]}
  challenge: [Registry.example.com, 'lab:5000']
",
    );
    let texts = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(auth.anonymous, [Action::Pull]);
    let rules = [
        Rule {
            who: texts(&["ann"]),
            may: vec![Action::Push, Action::Delete],
            names: texts(&["*"]),
        },
        Rule {
            who: texts(&["*", "anonymous"]),
            may: vec![Action::Pull],
            names: texts(&["{user}/*", "lab.example.com:5000/x"]),
        },
    ];
    assert_eq!(auth.rules, rules);
    let hosts = texts(&["registry.example.com", "lab:5000"]);
    assert_eq!(auth.challenge, Challenge::Hosts(hosts));
}

#[test]
fn when_to_challenge_is_a_word_or_hosts() {
    let hosts = |host: &str| Challenge::Hosts(vec![host.to_owned()]);
    let table = [
        ("auto", Challenge::Auto),
        ("always", Challenge::Always),
        ("never", Challenge::Never),
        ("[never]", Challenge::Never),
        ("r.example.com", hosts("r.example.com")),
        ("localhost", hosts("localhost")),
        ("[lab]", hosts("lab")),
    ];
    for (text, expected) in table {
        let text = format!("auth: {{htpasswd: {{realm: r, path: /p}}, challenge: {text}}}");
        assert_eq!(auth(&text).challenge, expected, "{text}");
    }
}

/// What is wrong with `auth`, and how the message begins.
const MISTAKES: &[(&str, &str)] = &[
    ("silly", "auth.silly: lets everyone in who sends"),
    (
        "{silly: {realm: r}}",
        "auth.silly: lets everyone in who sends",
    ),
    ("{silly: }", "auth.silly: lets everyone in who sends"),
    (
        "{htpaswd: {realm: r, path: /p}}",
        "auth.htpaswd: larder does not know it; ways to log in are htpasswd and token",
    ),
    (
        "{htpasswd: {realm: r, path: /p}, anonymus: [pull]}",
        "auth.anonymus: larder does not know it",
    ),
    (
        "{anonymus: [pull]}",
        "auth.anonymus: larder does not know it",
    ),
    (
        "{htpasswd: {realm: r, path: /p}, none: }",
        "auth.none: is a second way",
    ),
    (
        "{none: , token: {realm: r}}",
        "auth.token: is a second way to log in beside none",
    ),
    (
        "htpasswd",
        "auth.htpasswd: has no realm and no path; write realm, path below it",
    ),
    (
        "{htpasswd: {realm: r}}",
        "auth.htpasswd: has no path; write realm, path below it",
    ),
    (
        "{htpasswd: {realm: '', path: /p}}",
        "auth.htpasswd: has no realm;",
    ),
    (
        "{htpasswd: {realm: \"a\\nb\", path: /p}}",
        "auth.htpasswd.realm: must be text on one line",
    ),
    (
        "{token: {jwks: /j}}",
        "auth.token: has no realm and no issuer and no service",
    ),
    (
        "{token: {realm: r, issuer: i, service: s}}",
        "auth.token: has neither rootcertbundle nor jwks",
    ),
    (
        "{token: {realm: r, issuer: i, service: s, jwks: /j, signingalgorithms: [none]}}",
        "auth.token.signingalgorithms[0]: \"none\" is not one of RS256, ",
    ),
    (
        "{token: {realm: r, issuer: i, service: s, jwks: /j, signingalgorithms: [ES512]}}",
        "auth.token.signingalgorithms: leaves no algorithm",
    ),
    (
        "{token: {realm: r, issuer: i, service: s, jwks: /j}, rules: [{who: a, may: pull}]}",
        "auth.rules: with tokens it is the token service",
    ),
    (
        "{anonymous: [pull]}",
        "auth.anonymous: there is no way to log in",
    ),
    (
        "{none: , rules: [{who: a, may: pull}]}",
        "auth.rules: there is no way to log in",
    ),
    (
        "{htpasswd: {realm: r, path: /p}, anonymous: [read]}",
        "auth.anonymous[0]: \"read\" is not possible here; write pull or push or delete",
    ),
    (
        "{htpasswd: {realm: r, path: /p}, rules: [{may: pull}]}",
        "auth.rules[0]: has no who; write for example",
    ),
    (
        "{htpasswd: {realm: r, path: /p}, rules: [{who: a}]}",
        "auth.rules[0]: has no may; write",
    ),
    (
        "{htpasswd: {realm: r, path: /p}, rules: [{who: a, may: []}]}",
        "auth.rules[0]: may is empty",
    ),
    (
        "{htpasswd: {realm: r, path: /p}, rules: [{who: a, may: pull, names: []}]}",
        "auth.rules[0]: names is empty",
    ),
    (
        "{htpasswd: {realm: r, path: /p}, rules: [{who: a, may: pull, name: x}]}",
        "auth.rules[0]: \"name\" is not part of a rule",
    ),
    (
        "{htpasswd: {realm: r, path: /p}, rules: [{who: a, may: pull, names: '{group}/*'}]}",
        "auth.rules[0].names: \"{group}/*\": the only word in braces",
    ),
    (
        "{htpasswd: {realm: r, path: /p}, rules: [{who: a, may: pull, names: [x, Team/*]}]}",
        "auth.rules[0].names: \"Team/*\" matches no repository",
    ),
    (
        "{htpasswd: {realm: r, path: /p}, rules: [{who: a, may: pull, names: [/x]}]}",
        "auth.rules[0].names: \"/x\" matches no",
    ),
    (
        "{htpasswd: {realm: r, path: /p}, challenge: allways}",
        "auth.challenge: \"allways\" is not possible here; write auto, always",
    ),
    (
        "{htpasswd: {realm: r, path: /p}, challenge: [a b]}",
        "auth.challenge: \"a b\" is not the name of a host",
    ),
];

#[test]
fn a_mistake_in_it_starts_nothing() {
    for (text, expected) in MISTAKES {
        let error = load(&format!("version: 0.1\nauth: {text}")).expect_err(text);
        assert!(
            error.starts_with(&format!("config.yml:2: {expected}")),
            "{error}"
        );
    }
}
