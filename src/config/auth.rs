//! `auth`: how people say who they are, and who may do what.
//!
//! The schemes are Distribution's. What stands beside the scheme is ours, and Distribution refuses it.
//! A word that is not known here is an error and no warning: a rule with a typing error in it must not
//! open what it was to close.

use std::path::PathBuf;

use super::Level;
use super::notice::ConfigError;
use super::reader::{Field, Section, quoted};
use super::upstreams::UpstreamName;

/// Who may do what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// How people say who they are (default: nobody needs to).
    pub scheme: AuthScheme,
    /// `anonymous`: what everyone may do with every repository, without a password (default nothing). Without a scheme
    /// it is empty too, and everyone may do everything.
    pub anonymous: Vec<Action>,
    /// `rules`: what may be done beyond that. Without any, whoever has logged in may do everything. There are none with
    /// tokens, which carry their own.
    pub rules: Vec<Rule>,
    /// `challenge`: whether `/v2/` asks for credentials although something can be done without (default auto).
    pub challenge: Challenge,
}

/// How people say who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthScheme {
    /// No scheme, or `none`: everyone may do everything.
    Open,
    /// `htpasswd`: by name and password.
    Htpasswd {
        /// What clients show when they ask for the password.
        realm: String,
        /// The file of names and hashes.
        path: PathBuf,
    },
    /// `token`: by a token from a token service.
    Token(TokenAuth),
}

/// `auth.token`: whose tokens are taken, and where clients get one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenAuth {
    /// The URL of the token service.
    pub realm: String,
    /// What it calls itself in a token.
    pub issuer: String,
    /// What it calls us.
    pub service: String,
    /// A PEM file with certificates. There is this, or `jwks`, or both.
    pub root_cert_bundle: Option<PathBuf>,
    /// A JSON file of keys, RFC 7517.
    pub jwks: Option<PathBuf>,
    /// The token service is at `auto_redirect_path` of the host that was asked, instead of at `realm` (default false).
    pub auto_redirect: bool,
    /// Begins with a slash (default `/auth/token`).
    pub auto_redirect_path: String,
    /// The algorithms of RFC 7518 that are taken. Empty: all that larder knows.
    pub signing_algorithms: Vec<String>,
}

/// What can be done with a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Read.
    Pull,
    /// Add and replace.
    Push,
    /// Remove.
    Delete,
}

/// Any of `who` may do any of `may` with any of `names`. None of the three is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Users' names; `*` is everyone who has logged in, `anonymous` everyone at all.
    pub who: Vec<String>,
    /// What they may do.
    pub may: Vec<Action>,
    /// Patterns of repositories' full names, in which `*` stands for anything, slashes included, and `{user}` for the user's
    /// name (default `*`).
    pub names: Vec<String>,
}

/// When `/v2/` asks for credentials although something can be done without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// Not where larder is used as a mirror, whose clients would answer with a password for Docker Hub.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
    /// When it is asked for by one of these names, in lower case, perhaps with a port.
    Hosts(Vec<String>),
}

/// The keys that are not schemes.
pub(super) const OURS: [&str; 3] = ["anonymous", "rules", "challenge"];

pub(super) const ACTIONS: [(&str, Action); 3] = [
    ("pull", Action::Pull),
    ("push", Action::Push),
    ("delete", Action::Delete),
];

/// Reads `auth`.
pub(super) fn read(root: &mut Section<'_>) -> Result<Auth, ConfigError> {
    let mut section = root.section_or_names("auth")?;
    let ours = OURS.map(|key| section.take(key));
    let scheme = scheme(section)?;
    let alone = match scheme {
        AuthScheme::Open => ours.iter().flatten().next(),
        AuthScheme::Htpasswd { .. } | AuthScheme::Token(_) => None,
    };
    if let Some(field) = alone {
        return Err(field.error(
            "there is no way to log in, so this would keep nobody out; add `htpasswd: {realm: larder, path: /etc/larder/htpasswd}` \
             or `token: {…}` beside it, or remove it",
        ));
    }
    let [anonymous, rules, challenge] = ours;
    if let (Some(field), AuthScheme::Token(_)) = (&rules, &scheme) {
        return Err(field.error(
            "with tokens it is the token service that decides who may do what; remove the rules, or use htpasswd",
        ));
    }
    let rules = rules.map_or_else(Vec::new, Field::items);
    Ok(Auth {
        scheme,
        anonymous: anonymous.map_or_else(|| Ok(Vec::new()), actions)?,
        rules: rules.into_iter().map(rule).collect::<Result<_, _>>()?,
        challenge: challenge.map_or(Ok(Challenge::Auto), self::challenge)?,
    })
}

/// What is left of the section is schemes, of which there may be one.
fn scheme(section: Section<'_>) -> Result<AuthScheme, ConfigError> {
    let mut found: Option<(String, Field<'_>)> = None;
    for (name, field) in section.into_fields() {
        if name == "silly" {
            return Err(field.error(
                "lets everyone in who sends any Authorization at all, for tests of Distribution; write htpasswd or token",
            ));
        }
        if !["none", "htpasswd", "token"].contains(&name.as_str()) {
            return Err(field.error(
                "larder does not know it; ways to log in are htpasswd and token, and beside one of them stand anonymous, \
                 rules and challenge; `auth: none` is open to everyone",
            ));
        }
        if let Some((first, _)) = found {
            return Err(field.error(format!(
                "is a second way to log in beside {first}; remove one of them"
            )));
        }
        found = Some((name, field));
    }
    match found {
        Some((name, field)) if name == "htpasswd" => htpasswd(field.section()?),
        Some((name, field)) if name == "token" => token(field.section()?),
        _ => Ok(AuthScheme::Open),
    }
}

fn htpasswd(mut section: Section<'_>) -> Result<AuthScheme, ConfigError> {
    section.demand(&["realm", "path"])?;
    let realm = section.required("realm", "larder", Field::line)?;
    let path = section.required("path", "/etc/larder/htpasswd", Field::path)?;
    section.finish();
    Ok(AuthScheme::Htpasswd { realm, path })
}

fn token(mut section: Section<'_>) -> Result<AuthScheme, ConfigError> {
    section.demand(&["realm", "issuer", "service"])?;
    let token = TokenAuth {
        realm: section.required("realm", "https://auth.example.com/token", Field::line)?,
        issuer: section.required("issuer", "auth.example.com", Field::line)?,
        service: section.required("service", "registry.example.com", Field::line)?,
        root_cert_bundle: section.get("rootcertbundle", Field::path)?,
        jwks: section.get("jwks", Field::path)?,
        auto_redirect: section.get("autoredirect", Field::bool)?.unwrap_or(false),
        auto_redirect_path: section.get("autoredirectpath", Field::line)?.map_or_else(
            || "/auth/token".to_owned(),
            |path| format!("/{}", path.strip_prefix('/').unwrap_or(&path)),
        ),
        signing_algorithms: section
            .get("signingalgorithms", signing_algorithms)?
            .unwrap_or_default(),
    };
    if token.root_cert_bundle.is_none() && token.jwks.is_none() {
        return Err(section.error(
            "has neither rootcertbundle nor jwks, so that no token could be checked; write `rootcertbundle: /etc/larder/token.pem` \
             with the token service's certificate, or `jwks` with its keys",
        ));
    }
    section.finish();
    Ok(AuthScheme::Token(token))
}

fn signing_algorithms(field: Field<'_>) -> Result<Vec<String>, ConfigError> {
    const KNOWN: [&str; 12] = [
        "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256",
        "HS384", "HS512",
    ];
    let place = field.clone();
    let mut names = Vec::new();
    let items = field.items();
    for item in &items {
        let name = item.clone().text()?;
        if KNOWN.contains(&name.as_str()) {
            names.push(name);
        } else if name == "ES512" {
            item.note(Level::Warn, "is left out: larder cannot check ES512");
        } else {
            let (name, known) = (quoted(&name), KNOWN.join(", "));
            return Err(item.error(format!("{name} is not one of {known}")));
        }
    }
    if names.is_empty() && !items.is_empty() {
        return Err(place
            .error("leaves no algorithm that larder can check; add for example ES384 or RS256"));
    }
    Ok(names)
}

/// A list of actions, or a single one.
fn actions(field: Field<'_>) -> Result<Vec<Action>, ConfigError> {
    let mut actions = Vec::new();
    for item in field.items() {
        let action = item.choice(&ACTIONS)?;
        if !actions.contains(&action) {
            actions.push(action);
        }
    }
    Ok(actions)
}

fn rule(field: Field<'_>) -> Result<Rule, ConfigError> {
    let mut section = field.section()?;
    let who = section.required("who", "[ann, ben]", Field::texts)?;
    let may = section.required("may", "[pull, push]", actions)?;
    let names = section.get("names", |field| {
        let place = field.clone();
        let names = field.texts()?.into_iter();
        let names = names.map(|name| pattern(name).map_err(|problem| place.error(problem)));
        names.collect::<Result<Vec<_>, _>>()
    })?;
    let names = names.unwrap_or_else(|| vec!["*".to_owned()]);
    for (key, is_empty) in [
        ("who", who.is_empty()),
        ("may", may.is_empty()),
        ("names", names.is_empty()),
    ] {
        if is_empty {
            return Err(section.error(format!(
                "{key} is empty, so that the rule allows nothing; fill it in, or remove the rule"
            )));
        }
    }
    let unknown = section.remaining().map(|(key, _)| key.to_owned()).next();
    if let Some(key) = unknown {
        return Err(section.error(format!(
            "{} is not part of a rule; it has who, may and names",
            quoted(&key)
        )));
    }
    section.finish();
    Ok(Rule { who, may, names })
}

/// A pattern that can match the name of a repository. The error lacks the place.
fn pattern(text: String) -> Result<String, String> {
    let rest = text.replace("{user}", "u");
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "*-._/:".contains(c);
    if rest.contains(['{', '}']) {
        Err(format!(
            "{}: the only word in braces is {{user}}",
            quoted(&text)
        ))
    } else if !rest.chars().all(allowed) || rest.starts_with('/') || rest.ends_with('/') {
        Err(format!(
            "{} matches no repository; names are in lower case and without a slash at either end, * stands for anything, \
             {{user}} for the user's name",
            quoted(&text)
        ))
    } else {
        Ok(text)
    }
}

fn challenge(field: Field<'_>) -> Result<Challenge, ConfigError> {
    let place = field.clone();
    let texts = field.texts()?;
    match texts
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        [] | ["auto"] => return Ok(Challenge::Auto),
        ["always"] => return Ok(Challenge::Always),
        ["never"] => return Ok(Challenge::Never),
        // A misspelt word looks like the name of a host.
        [word] if !place.is_list() && !word.contains(['.', ':']) && *word != "localhost" => {
            let word = quoted(word);
            return Err(place.error(format!(
                "{word} is not possible here; write auto, always, never, or a list of host names such as [registry.example.com]"
            )));
        }
        _ => {}
    }
    let hosts = texts.into_iter().map(|text| {
        // Not through an alias: hosts are taken literally.
        UpstreamName::parse(&text)
            .map(|_| text.to_ascii_lowercase())
            .map_err(|_| place.error(format!("{} is not the name of a host", quoted(&text))))
    });
    Ok(Challenge::Hosts(hosts.collect::<Result<_, _>>()?))
}
