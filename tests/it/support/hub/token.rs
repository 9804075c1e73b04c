//! The token service, and who is let in at the registry.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::answer::Reply;
use super::log::{Listener, Request, Target, parameters};
use super::{Auth, State, basic, lock};

/// The name of the service a token must be for.
const SERVICE: &str = "hub.test";

/// What the specification says of a token without `expires_in`.
const UNSAID: u64 = 60;

/// Docker Hub's tokens are this long, which some servers' header limits do not like.
const LENGTH: usize = 2048;

/// Which fields a token answer has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenShape {
    /// Has `token`.
    pub(crate) token: bool,
    /// Has `access_token`.
    pub(crate) access_token: bool,
    /// The lifetime in seconds, kept to; without it, a minute.
    pub(crate) expires_in: Option<u64>,
}

impl Default for TokenShape {
    fn default() -> Self {
        Self {
            token: true,
            access_token: true,
            expires_in: Some(300),
        }
    }
}

/// Every token that is out.
#[derive(Default)]
pub(super) struct Tokens {
    granted: HashMap<String, Grant>,
    issued: usize,
    pub(super) shape: TokenShape,
}

struct Grant {
    service: String,
    repositories: HashSet<String>,
    until: Instant,
}

impl Tokens {
    pub(super) fn revoke(&mut self) {
        self.granted.clear();
    }

    fn issue(&mut self, service: String, repositories: HashSet<String>) -> String {
        self.issued += 1;
        let token = format!("{:0>LENGTH$}", format!("-hub-token-{}", self.issued));
        let lifetime = Duration::from_secs(self.shape.expires_in.unwrap_or(UNSAID));
        let until = Instant::now() + lifetime;
        self.granted.insert(
            token.clone(),
            Grant {
                service,
                repositories,
                until,
            },
        );
        token
    }

    fn valid(&self, token: &str) -> Option<&Grant> {
        let grant = self.granted.get(token)?;
        (grant.service == SERVICE && grant.until > Instant::now()).then_some(grant)
    }
}

/// What is answered instead to who may not read this; `None` for who may.
pub(super) fn refusal(state: &State, request: &Request) -> Option<Reply> {
    let authorization = request.header("authorization");
    match &state.config.auth {
        Auth::None => None,
        Auth::Basic(expected) if authorization == Some(expected) => None,
        Auth::Basic(_) => Some(unauthorized("Basic realm=\"hub.test\"")),
        Auth::Bearer => {
            let name = match &request.target {
                Target::Manifest { name, .. }
                | Target::Blob { name, .. }
                | Target::Referrers { name, .. }
                | Target::Tags { name } => Some(name),
                _ => None,
            };
            let tokens = lock(&state.tokens);
            let token = authorization.and_then(|it| it.strip_prefix("Bearer "));
            let error = match (token.map(|token| tokens.valid(token)), name) {
                (Some(Some(_)), None) => return None,
                (Some(Some(grant)), Some(name)) if grant.repositories.contains(name) => {
                    return None;
                }
                (Some(Some(_)), Some(_)) => ",error=\"insufficient_scope\"",
                (Some(None), _) => ",error=\"invalid_token\"",
                (None, _) => "",
            };
            let realm = format!("http://{}/token", state.address(Listener::Token));
            let scope = name.map(|name| format!(",scope=\"repository:{name}:pull\""));
            let scope = scope.unwrap_or_default();
            Some(unauthorized(&format!(
                "Bearer realm=\"{realm}\",service=\"{SERVICE}\"{scope}{error}"
            )))
        }
    }
}

fn unauthorized(challenge: &str) -> Reply {
    Reply::error(401, "UNAUTHORIZED", "authentication required").with("www-authenticate", challenge)
}

/// The token service's answer, to a `GET` or to the form of a `POST`.
pub(super) fn route(state: &State, request: &Request) -> Reply {
    if request.target != Target::Token {
        return Reply::new(404);
    }
    let (fields, identity) = match request.method.as_str() {
        "GET" => (
            &request.query,
            request.header("authorization").map(str::to_owned),
        ),
        "POST" => (&request.form, posted_identity(&request.form)),
        _ => return Reply::new(405),
    };
    // Wrong credentials are refused even where none are needed, as at Docker Hub.
    let known = identity.is_some();
    if known && identity != state.config.credentials {
        return Reply::error(401, "UNAUTHORIZED", "incorrect username or password");
    }
    let repositories: HashSet<String> = parameters(fields, "scope")
        .flat_map(|scopes| scopes.split(' ').filter_map(pulled).collect::<Vec<_>>())
        .collect();
    let private = !lock(&state.content).private.is_disjoint(&repositories);
    if private && !known {
        return Reply::error(401, "UNAUTHORIZED", "authentication required");
    }
    let service = parameters(fields, "service").next().unwrap_or_default();
    let tokens = &mut *lock(&state.tokens);
    let token = tokens.issue(service, repositories);
    let shape = tokens.shape;
    let mut json = serde_json::Map::new();
    if shape.token {
        json.insert("token".into(), token.clone().into());
    }
    if shape.access_token {
        json.insert("access_token".into(), token.into());
    }
    if let Some(seconds) = shape.expires_in {
        json.insert("expires_in".into(), seconds.into());
    }
    Reply::new(200).body(
        "application/json",
        serde_json::Value::from(json).to_string(),
    )
}

fn posted_identity(form: &str) -> Option<String> {
    let field = |name| parameters(form, name).next();
    Some(basic(&field("username")?, &field("password")?))
}

/// The repository of a scope that includes pulling.
fn pulled(scope: &str) -> Option<String> {
    let (name, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
    let pulls = actions.split(',').any(|action| action == "pull");
    pulls.then(|| name.to_owned())
}
