//! Between a route and its handler: who is asking, and may they.
//!
//! Everything that can be asked for passes through [`Turn::admit`]; the match in `needs_of` is
//! exhaustive, so that a new route cannot be forgotten.
//!
//! What anybody may do is not made to wait for anybody's password: clients send foreign
//! credentials along with public pulls (dockerd its user's Docker Hub password, a kubelet the pull
//! secret of another registry), and those count as none.

use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::access::{Access, Action, AskedAt, Caller, Unidentified, Wanted, Why};
use crate::oci::{ErrorCode, Route, Target};
use crate::registry::{Error, Resolved};

use super::api::{ApiNeeds, asks_quietly};
use super::asked::Asked;
use super::error::Refusal;
use super::handler::Turn;

/// What a request needs to be allowed.
pub(super) enum Needs {
    /// Nothing: the path says nothing about content.
    Nothing,
    /// To be somebody, where the registry wants that.
    Somebody,
    /// To list the repositories.
    Catalog,
    /// To see or do something by the API.
    Api(ApiNeeds),
    /// To do something with a repository.
    Repository {
        /// Its name as the client knows it, which is what tokens are for.
        asked: String,
        /// Its full name, which is what rules are about.
        full: String,
        /// What is done.
        action: Action,
    },
}

/// A request that may be answered.
pub(super) struct Admitted {
    /// Who asks.
    pub(super) caller: Caller,
    /// Which repository is pulled from, where that had to be known: what was let through is what
    /// is answered, whatever the configuration says by then.
    pulled: Option<Result<Resolved, Error>>,
}

impl Turn {
    /// Lets a request through, or says what it lacks.
    pub(super) async fn admit(
        &self,
        asked: &Asked<'_>,
        route: &Route,
    ) -> Result<Admitted, Refusal> {
        let (caller, pulled) = if self.manners.access.is_open() {
            (Caller::anonymous(), None)
        } else {
            let pulled = pulled(route, &asked.parts.method);
            let pulled = pulled.map(|target| self.registry.names().for_pull(target));
            let needs = needs_of(asked, route, pulled.as_ref());
            (Box::pin(self.identify(asked, &needs)).await?, pulled)
        };
        Ok(Admitted { caller, pulled })
    }

    /// Which repository is pulled from.
    pub(super) fn resolved(&self, admitted: Admitted, target: &Target) -> Result<Resolved, Error> {
        let afresh = || self.registry.names().for_pull(target);
        admitted.pulled.unwrap_or_else(afresh)
    }

    /// Who asks, if he may.
    async fn identify(&self, asked: &Asked<'_>, needs: &Needs) -> Result<Caller, Refusal> {
        let access = &self.manners.access;
        if matches!(needs, Needs::Nothing) {
            return Ok(Caller::anonymous());
        }
        let header = authorization(&asked.parts.headers)?;
        let anybody = Caller::anonymous();
        let is_public = match needs {
            Needs::Nothing => true,
            Needs::Somebody => {
                let is_mirror = self.registry.names().mirrors_anything();
                let host = host(&asked.parts.headers);
                // Who sends that he is nobody has been asked already.
                let is_nobody = header.is_some() && access.may(&anybody, &Wanted::Catalog);
                is_nobody || !access.challenges_base(host, is_mirror)
            }
            needs => needs.allow(access, &anybody),
        };
        // A login wants its password checked, and a list is longer for who may see more.
        let depends_on_who = !matches!(needs, Needs::Repository { .. });
        if is_public && (header.is_none() || !depends_on_who) {
            return Ok(anybody);
        }
        let refuse = |why| self.unauthorized(asked, needs, why);
        match access.identify(header).await {
            Ok(caller) if needs.allow(access, &caller) => Ok(caller),
            Ok(caller) if !caller.is_anonymous() => Err(match needs.forbidden(access) {
                Some(refusal) => refusal,
                None => refuse(Why::InsufficientScope),
            }),
            Ok(_) if is_public => Ok(anybody),
            Ok(_) => Err(refuse(Why::NoCredentials)),
            // A login must not succeed with a wrong password; anything else that is public may.
            Err(_) if is_public && !matches!(needs, Needs::Somebody | Needs::Api(_)) => Ok(anybody),
            Err(Unidentified::TooBusy) => Err(Refusal::Busy),
            Err(Unidentified::Broken) => Err(Refusal::UsersUnreadable),
            Err(Unidentified::BadCredentials | Unidentified::InvalidToken) => {
                Err(refuse(Why::InvalidToken))
            }
        }
    }

    /// Whether a caller may pull from a repository, as for mounts and in listings.
    pub(super) fn may_pull(&self, caller: &Caller, full: &str) -> bool {
        let access = &self.manners.access;
        access.is_open() || access.may(caller, &Wanted::Repository(full, Action::Pull))
    }

    /// Why somebody may not decide what is kept of a repository.
    pub(super) fn may_not_keep(&self, asked: &Asked<'_>, caller: &Caller, name: String) -> Refusal {
        let needs = Needs::Api(ApiNeeds::Keep(name));
        let known = (!caller.is_anonymous()).then(|| needs.forbidden(&self.manners.access));
        let refused = known.flatten();
        refused.unwrap_or_else(|| self.unauthorized(asked, &needs, Why::NoCredentials))
    }

    fn unauthorized(&self, asked: &Asked<'_>, needs: &Needs, why: Why) -> Refusal {
        let access = &self.manners.access;
        let (mut scheme, host) = self.own_address(asked);
        if access.goes_by_tokens() {
            // `autoredirect`: Distribution believes the proxy, and without one takes TLS for
            // granted. The answer goes to nobody but the client that sent the header.
            let forwarded = asked.parts.headers.get("x-forwarded-proto");
            let is_plain = forwarded.is_some_and(|proto| proto == "http");
            scheme = if is_plain { "http" } else { "https" };
        }
        let at = AskedAt {
            scheme,
            host: &host,
        };
        let wanted = needs.wanted();
        let is_quiet = matches!(needs, Needs::Api(_)) && asks_quietly(&asked.parts.headers);
        let challenge = || header_value(&access.challenge(&wanted, why, &at));
        Refusal::Unauthorized {
            challenge: (!is_quiet).then(challenge),
            detail: detail(&wanted),
        }
    }
}

/// Which repository a request would pull from.
fn pulled<'a>(route: &'a Route, method: &Method) -> Option<&'a Target> {
    match route {
        Route::Tags(target, _) | Route::Referrers(target, ..) => Some(target),
        Route::Manifest(target, ..) | Route::Blob(target, _)
            if *method == Method::GET || *method == Method::HEAD =>
        {
            Some(target)
        }
        Route::Root
        | Route::Asset(_)
        | Route::Api(_)
        | Route::Base
        | Route::Metrics
        | Route::Token { .. }
        | Route::Catalog(_)
        | Route::Manifest(..)
        | Route::Blob(..)
        | Route::Uploads(..)
        | Route::Upload(..) => None,
    }
}

fn needs_of(asked: &Asked<'_>, route: &Route, pulled: Option<&Result<Resolved, Error>>) -> Needs {
    let method = &asked.parts.method;
    let repository = |target, action| repository_needs(target, pulled, action);
    match route {
        // The token service looks at credentials itself.
        Route::Root | Route::Asset(_) | Route::Token { .. } => Needs::Nothing,
        _ if *method == Method::OPTIONS => Needs::Somebody,
        Route::Base => Needs::Somebody,
        Route::Api(route) => Needs::Api(ApiNeeds::of(route, method)),
        // They tell of the registry as a whole, and name upstreams, but no repository.
        Route::Catalog(_) | Route::Metrics => Needs::Catalog,
        Route::Tags(target, _) | Route::Referrers(target, ..) => repository(target, Action::Pull),
        Route::Manifest(target, ..) | Route::Blob(target, _) => {
            let action = match *method {
                Method::GET | Method::HEAD => Action::Pull,
                Method::DELETE => Action::Delete,
                _ => Action::Push,
            };
            repository(target, action)
        }
        // Distribution wants the right to delete for a cancel; a pusher who may not delete must be
        // able to give up his own upload.
        Route::Uploads(target, _) | Route::Upload(target, _) => repository(target, Action::Push),
    }
}

fn repository_needs(
    target: &Target,
    pulled: Option<&Result<Resolved, Error>>,
    action: Action,
) -> Needs {
    let name = target.name.to_string();
    let full = match pulled {
        Some(Ok(resolved)) => resolved.place.full_name(),
        Some(Err(_)) | None => name.clone(),
    };
    // Said with its registry beside it, a name alone is that of another registry's repository: a
    // token for that one must not open this.
    let is_bare = target.prefix.is_none() && target.host.is_none() && target.ns.is_none();
    Needs::Repository {
        asked: if is_bare { name } else { full.clone() },
        full,
        action,
    }
}

impl Needs {
    /// Whether a caller may do it.
    fn allow(&self, access: &Access, caller: &Caller) -> bool {
        match self {
            Self::Nothing => true,
            Self::Somebody => !caller.is_anonymous(),
            Self::Catalog => access.may(caller, &Wanted::Catalog),
            Self::Api(needs) => needs.allow(access, caller),
            Self::Repository {
                asked,
                full,
                action,
            } => {
                let may = |name| access.may(caller, &Wanted::Repository(name, *action));
                may(full) || (access.goes_by_tokens() && may(asked))
            }
        }
    }

    /// What a challenge is to ask for.
    fn wanted(&self) -> Vec<Wanted<'_>> {
        match self {
            Self::Nothing | Self::Somebody => Vec::new(),
            Self::Catalog => vec![Wanted::Catalog],
            Self::Api(needs) => needs.wanted(),
            // Who pushes asks what is there first.
            Self::Repository {
                asked,
                action: Action::Push,
                ..
            } => vec![
                Wanted::Repository(asked, Action::Pull),
                Wanted::Repository(asked, Action::Push),
            ],
            Self::Repository { asked, action, .. } => vec![Wanted::Repository(asked, *action)],
        }
    }

    /// The refusal for somebody whose password is right, and whom another one would not help. With
    /// tokens, another token might.
    fn forbidden(&self, access: &Access) -> Option<Refusal> {
        if access.goes_by_tokens() {
            return None;
        }
        let what = match self {
            Self::Repository { asked, action, .. } => {
                format!("you may not {} {asked}", action.as_str())
            }
            Self::Api(needs) => needs.forbidden(),
            Self::Catalog | Self::Somebody | Self::Nothing => {
                "you may not list the repositories".to_owned()
            }
        };
        Some(Refusal::Forbidden { what })
    }
}

/// A challenge as a header; the bytes of a realm may be any UTF-8, as Distribution sends them.
pub(super) fn header_value(challenge: &str) -> HeaderValue {
    HeaderValue::from_bytes(challenge.as_bytes())
        .unwrap_or_else(|_| HeaderValue::from_static("Basic realm=\"larder\""))
}

/// The one `Authorization` header. Two of them are a mistake or an attack.
pub(super) fn authorization(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let unreadable = || Refusal::Header {
        name: "Authorization",
        code: ErrorCode::Unauthorized,
        status: StatusCode::BAD_REQUEST,
    };
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let first = lines.next().map(|line| line.to_str());
    if lines.next().is_some() {
        return Err(unreadable());
    }
    first.transpose().map_err(|_| unreadable())
}

pub(super) fn host(headers: &HeaderMap) -> &str {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    host.unwrap_or_default()
}

/// The list that Distribution sends with a 401.
fn detail(wanted: &[Wanted<'_>]) -> serde_json::Value {
    if wanted.is_empty() {
        return serde_json::Value::Null;
    }
    let entry = |wanted: &Wanted<'_>| {
        let (kind, name, action) = match wanted {
            Wanted::Repository(name, action) => ("repository", *name, action.as_str()),
            Wanted::Catalog => ("registry", "catalog", "*"),
        };
        serde_json::json!({ "Type": kind, "Class": "", "Name": name, "Action": action })
    };
    wanted.iter().map(entry).collect()
}
