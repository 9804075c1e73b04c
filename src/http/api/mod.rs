//! `/api/v1/`: who may see what of it, and the answers. What is in them is `console`'s.
//!
//! It is read by the page that browsers get at `/`, and by programs. Whatever changes something
//! needs a header that a foreign page cannot send without asking first, and nobody there says yes:
//! no CORS header is ever sent here, not even a configured one.

mod act;
mod follow;
mod refused;

use std::sync::Arc;

use http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use hyper::body::Incoming;
use serde_json::Value;

use crate::access::{Access, Action, Caller, Wanted};
use crate::console::api::{May, Origin, You};
use crate::console::{Address, Sees};
use crate::oci::{ApiRoute, RepositoryName};
use crate::registry::{Error, Missing};
use crate::store::{Kind, Repository};

use super::admission::Admitted;
use super::answer::Answer;
use super::asked::Asked;
use super::error::Refusal;
use super::handler::Turn;

pub(super) use refused::{ApiRefusal, told};

/// The header that whatever changes something needs, and what it says.
const ACTION: &str = "x-larder-action";
/// The header by which our page says that it asks for passwords itself.
const REQUESTED_WITH: &str = "x-requested-with";
const BY_PAGE: &str = "larder";

/// What a request to the API needs to be allowed.
pub(super) enum ApiNeeds {
    /// To do that with some repository.
    Somewhere(Action),
    /// To do that with this one.
    Repository(String, Action),
    /// To decide what is kept of this one: who may push to it, and users who may pull from it.
    Keep(String),
}

impl ApiNeeds {
    pub(super) fn of(route: &ApiRoute, method: &Method) -> Self {
        match route {
            ApiRoute::State
            | ApiRoute::History(_)
            | ApiRoute::Events
            | ApiRoute::Repositories { .. }
            | ApiRoute::Upstreams
            | ApiRoute::Evictions(_)
            | ApiRoute::Clients
            | ApiRoute::Search { .. }
            // Which image, the body says, or the id: that is looked at when it has been read.
            | ApiRoute::Warm
            | ApiRoute::Warming(_) => Self::Somewhere(Action::Pull),
            ApiRoute::Tags { repository, .. } if *method == Method::DELETE => {
                Self::Repository(repository.to_string(), Action::Delete)
            }
            ApiRoute::Tags { repository, .. } | ApiRoute::Image { repository, .. } => {
                Self::Repository(repository.to_string(), Action::Pull)
            }
            ApiRoute::Pin(repository, _) | ApiRoute::Hold(repository, ..) => {
                Self::Keep(repository.to_string())
            }
        }
    }

    pub(super) fn allow(&self, access: &Access, caller: &Caller) -> bool {
        match self {
            Self::Somewhere(action) => access.may_somewhere(caller, *action),
            Self::Repository(name, action) => {
                access.may(caller, &Wanted::Repository(name, *action))
            }
            Self::Keep(name) => may_keep(access, caller, name),
        }
    }

    /// What a challenge is to ask for.
    pub(super) fn wanted(&self) -> Vec<Wanted<'_>> {
        match self {
            Self::Somewhere(_) => Vec::new(),
            Self::Repository(name, action) => vec![Wanted::Repository(name, *action)],
            Self::Keep(name) => vec![Wanted::Repository(name, Action::Pull)],
        }
    }

    /// What somebody may not, who is known.
    pub(super) fn forbidden(&self) -> String {
        match self {
            Self::Somewhere(action) => format!("you may not {} anything here", action.as_str()),
            Self::Repository(name, action) => format!("you may not {} {name}", action.as_str()),
            Self::Keep(name) => format!("you may not decide what is kept of {name}"),
        }
    }
}

fn may_keep(access: &Access, caller: &Caller, name: &str) -> bool {
    let may = |action| access.may(caller, &Wanted::Repository(name, action));
    access.is_open() || may(Action::Push) || (!caller.is_anonymous() && may(Action::Pull))
}

/// Whether a 401 is to come without a challenge: a browser would ask for a password by itself, and
/// our page does that better.
pub(super) fn asks_quietly(headers: &HeaderMap) -> bool {
    let by_page = headers.get(REQUESTED_WITH).is_some_and(|it| it == BY_PAGE);
    by_page || headers.contains_key(ACTION)
}

/// The methods of a route.
pub(super) fn allowed(route: &ApiRoute) -> &'static str {
    match route {
        ApiRoute::State
        | ApiRoute::History(_)
        | ApiRoute::Repositories { .. }
        | ApiRoute::Image { .. }
        | ApiRoute::Upstreams
        | ApiRoute::Evictions(_)
        | ApiRoute::Clients
        | ApiRoute::Search { .. }
        | ApiRoute::Warming(_) => "GET, HEAD",
        ApiRoute::Events => "GET",
        ApiRoute::Tags { .. } => "DELETE, GET, HEAD",
        ApiRoute::Pin(..) | ApiRoute::Hold(..) => "DELETE, PUT",
        ApiRoute::Warm => "POST",
    }
}

impl Turn {
    /// Answers what is asked of the API.
    pub(super) async fn api(
        &self,
        asked: &Asked<'_>,
        admitted: Admitted,
        route: ApiRoute,
        body: &mut Incoming,
    ) -> Result<Answer, Refusal> {
        let method = &asked.parts.method;
        let caller = &admitted.caller;
        let allow = allowed(&route);
        // A HEAD is a GET whose body is left out.
        let verb = if *method == Method::HEAD && allow.contains("HEAD") {
            "GET"
        } else {
            method.as_str()
        };
        if !allow.split(", ").any(|it| it == verb) {
            return Err(Refusal::Method { allow });
        }
        match route {
            ApiRoute::Events => self.follow(asked, caller),
            ApiRoute::Tags {
                repository, tag, ..
            } if verb == "DELETE" => {
                is_action(&asked.parts.headers)?;
                self.remove_tag(&repository, tag).await
            }
            ApiRoute::Pin(repository, tag) => {
                is_action(&asked.parts.headers)?;
                self.pin(&repository, &tag, verb == "PUT").await
            }
            ApiRoute::Hold(repository, tag, digest) => {
                is_action(&asked.parts.headers)?;
                self.hold(&repository, &tag, digest, verb == "PUT").await
            }
            ApiRoute::Warm => {
                is_action(&asked.parts.headers)?;
                self.warm(asked, caller, body).await
            }
            route => {
                let shown = self.show(asked, caller, route).await?;
                Ok(answer(StatusCode::OK, &shown))
            }
        }
    }

    /// What is only looked at.
    async fn show(
        &self,
        asked: &Asked<'_>,
        caller: &Caller,
        route: ApiRoute,
    ) -> Result<Value, Refusal> {
        let console = &self.console;
        let sees = self.sees(caller);
        Ok(match route {
            ApiRoute::State => {
                let you = self.you(caller);
                console.state(&you, &self.address(asked), sees).await
            }
            ApiRoute::History(most) => console.history(most),
            ApiRoute::Repositories {
                search,
                origin,
                part,
            } => {
                let origin = Origin::read(origin.as_deref());
                let search = search.as_deref();
                console.repositories(search, origin, part, sees).await?
            }
            ApiRoute::Tags {
                repository,
                search,
                part,
                ..
            } => {
                let repository = self.repository_of(&repository).await?;
                let may = self.may_with(caller, &repository);
                let search = search.as_deref();
                console.tags(&repository, search, part, may).await?
            }
            ApiRoute::Image {
                repository,
                reference,
                platform,
            } => {
                let repository = self.repository_of(&repository).await?;
                let (platform, at) = (platform.as_ref(), self.address(asked));
                let image = console.image(&repository, &reference, platform, &at);
                image.await?
            }
            ApiRoute::Upstreams => console.upstreams(sees).await,
            ApiRoute::Evictions(n) => {
                let n = n.unwrap_or(20).min(200);
                let n = usize::try_from(n).unwrap_or_default();
                console.evictions(n, sees).await?
            }
            ApiRoute::Clients => console.clients(&self.address(asked)),
            ApiRoute::Search { text, n } => console.search(&text, n, sees).await?,
            ApiRoute::Warming(id) => {
                let warming = console.warming(&id, &sees);
                warming.ok_or(Refusal::Api(ApiRefusal::NoWarming))?
            }
            ApiRoute::Events | ApiRoute::Pin(..) | ApiRoute::Hold(..) | ApiRoute::Warm => {
                let allow = allowed(&route);
                return Err(Refusal::Method { allow });
            }
        })
    }

    /// The repository of that full name.
    async fn repository_of(&self, name: &RepositoryName) -> Result<Repository, Refusal> {
        let stored = self.registry.stored(name).await?;
        let unknown = || Error::Unknown {
            name: name.clone(),
            what: Missing::Tags,
        };
        Ok(stored.ok_or_else(unknown)?)
    }

    /// Which repositories a caller sees.
    fn sees(&self, caller: &Caller) -> Sees {
        let access = self.manners.access.clone();
        if access.is_open() {
            return Arc::new(|_| true);
        }
        let caller = caller.clone();
        Arc::new(move |name| access.may(&caller, &Wanted::Repository(name, Action::Pull)))
    }

    fn address(&self, asked: &Asked<'_>) -> Address {
        let (scheme, host) = self.own_address(asked);
        Address {
            host,
            is_tls: scheme == "https",
        }
    }

    /// Who asks, and what he may do with some repository.
    fn you(&self, caller: &Caller) -> You {
        let (access, registry) = (&self.manners.access, &self.registry);
        let may = |action| access.may_somewhere(caller, action);
        let is_known = access.is_open() || !caller.is_anonymous();
        let mirrors = registry.names().mirrors_anything();
        let keeps = mirrors && (may(Action::Push) || (is_known && may(Action::Pull)));
        let can_write = !registry.is_read_only();
        You {
            name: caller.name().map(str::to_owned),
            is_anonymous: caller.is_anonymous(),
            can_log_in: !access.is_open(),
            may: May {
                delete: can_write && may(Action::Delete) && (mirrors || registry.allows_deleting()),
                warm: keeps,
                pin: keeps && can_write,
            },
        }
    }

    /// What a caller may do with a repository.
    fn may_with(&self, caller: &Caller, repository: &Repository) -> May {
        let (access, registry) = (&self.manners.access, &self.registry);
        let name = repository.name().as_str();
        let is_mirror = repository.kind() == Kind::Mirror;
        let keeps = is_mirror && may_keep(access, caller, name);
        let can_write = !registry.is_read_only();
        let may_delete = access.may(caller, &Wanted::Repository(name, Action::Delete));
        May {
            delete: can_write && may_delete && (is_mirror || registry.allows_deleting()),
            warm: keeps,
            pin: keeps && can_write,
        }
    }
}

/// Whether a request is one that only our own pages and programs can send.
fn is_action(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.get(ACTION).is_some_and(|value| value == "1") {
        return Ok(());
    }
    Err(Refusal::Api(ApiRefusal::NoAction))
}

fn answer(status: StatusCode, value: &Value) -> Answer {
    closed(Answer::full(
        status,
        "application/json",
        format!("{value}\n"),
    ))
}

/// An answer that is for this caller, now.
fn closed(answer: Answer) -> Answer {
    answer
        .header(CACHE_CONTROL, HeaderValue::from_static("no-store"))
        .header(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
}
