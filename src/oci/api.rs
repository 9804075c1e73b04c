//! The paths under `/api/v1/`: what the page of this server asks, and whoever else wants JSON.
//!
//! They are larder's own. What they share with the registry's are the words: names, tags, digests.

use std::fmt;
use std::str::FromStr;

use super::digest::Digest;
use super::name::RepositoryName;
use super::platform::Platform;
use super::reference::{Reference, Tag};
use super::route::{Page, Query, RouteError, shortened};

/// The longest text that is looked for, in characters. Names and tags are shorter.
const LONGEST: usize = 400;

/// What is asked of `/api/v1/`. The method is not looked at here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiRoute {
    /// `/`: what this server is, and how it stands.
    State,
    /// `/history`: what was served and fetched, minute by minute or in so many points.
    History(Option<u64>),
    /// `/events`: what happens, as it happens.
    Events,
    /// `/repositories`
    Repositories {
        /// Only those with this in their name.
        search: Option<String>,
        /// Only those that are `local`, a `mirror`, or of the upstream of that name.
        origin: Option<String>,
        /// How many of them, in which order, and where they go on.
        part: ListPart,
    },
    /// `/tags`: the tags of a repository, or one that is to be removed.
    Tags {
        /// Whose.
        repository: RepositoryName,
        /// The one that is to be removed.
        tag: Option<Tag>,
        /// Only those with this in their name.
        search: Option<String>,
        /// How many of them, in which order, and where they go on.
        part: ListPart,
    },
    /// `/image`: one image.
    Image {
        /// Where it is.
        repository: RepositoryName,
        /// Which it is.
        reference: Reference,
        /// Which of those in its index.
        platform: Option<Platform>,
    },
    /// `/upstreams`
    Upstreams,
    /// `/evictions`: what would be evicted next, so many of them.
    Evictions(Option<u64>),
    /// `/clients`: how clients are set up for this server.
    Clients,
    /// `/search`: images by a part of `repository:tag`.
    Search {
        /// The part.
        text: String,
        /// How many of them.
        n: Option<u64>,
    },
    /// `/pins`: that a mirrored tag is never evicted.
    Pin(RepositoryName, Tag),
    /// `/holds`: that a mirrored tag stays at a digest, which is given where it begins to.
    Hold(RepositoryName, Tag, Option<Digest>),
    /// `/warm`: fetch an image ahead. Which, the body says.
    Warm,
    /// `/warm/<id>`: how far that is.
    Warming(String),
}

/// A part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPart {
    /// At most so many entries; `None` leaves it to the server.
    pub n: Option<u64>,
    /// In which order, and what it begins behind.
    pub order: ListOrder,
}

/// The order of a list, and the place in it behind which a part begins: at the beginning where there
/// is none. Nothing needs to be at a place, so that what changes meanwhile moves no other entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListOrder {
    /// By name.
    Name(Option<String>),
    /// The largest first.
    Size(Option<ListPlace>),
    /// What was used last first; what nobody knows of at the end.
    Used(Option<ListPlace>),
}

/// A place in a list that is ordered by a number, the greatest first, and then by name. It is written
/// `64000:docker.io/library/python`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPlace {
    /// Bytes, or seconds since 1970.
    pub rank: u64,
    /// The entry's name.
    pub name: String,
}

impl Default for ListOrder {
    fn default() -> Self {
        Self::Name(None)
    }
}

impl fmt::Display for ListPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.rank, self.name)
    }
}

impl FromStr for ListPlace {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, RouteError> {
        let place = text.split_once(':').and_then(|(rank, name)| {
            let is_number = rank.bytes().all(|byte| byte.is_ascii_digit());
            let rank = is_number.then(|| rank.parse().ok()).flatten()?;
            let name = name.to_owned();
            Some(Self { rank, name })
        });
        place.ok_or(RouteError::Parameter(
            "last (the text that the part before gave as next)",
        ))
    }
}

/// Reads what comes after `/api/v1/`.
pub(super) fn parse(segments: &[&str], query: &Query) -> Result<ApiRoute, RouteError> {
    match segments {
        [] => Ok(ApiRoute::State),
        ["history"] => Ok(ApiRoute::History(number(query, "n")?)),
        ["events"] => Ok(ApiRoute::Events),
        ["repositories"] => Ok(ApiRoute::Repositories {
            search: text(query, "search"),
            origin: text(query, "origin"),
            part: part(query)?,
        }),
        ["tags"] => Ok(ApiRoute::Tags {
            repository: repository(query)?,
            tag: query.get("tag").map(tag).transpose()?,
            search: text(query, "search"),
            part: part(query)?,
        }),
        ["image"] => Ok(ApiRoute::Image {
            repository: repository(query)?,
            reference: needed(query, "reference").and_then(reference)?,
            platform: text(query, "platform")
                .as_deref()
                .map(platform)
                .transpose()?,
        }),
        ["upstreams"] => Ok(ApiRoute::Upstreams),
        ["evictions"] => Ok(ApiRoute::Evictions(query.page()?.n)),
        ["clients"] => Ok(ApiRoute::Clients),
        ["search"] => Ok(ApiRoute::Search {
            text: text(query, "q").unwrap_or_default(),
            n: query.page()?.n,
        }),
        ["pins"] => Ok(ApiRoute::Pin(repository(query)?, named_tag(query)?)),
        ["holds"] => Ok(ApiRoute::Hold(
            repository(query)?,
            named_tag(query)?,
            query.get("digest").map(digest).transpose()?,
        )),
        ["warm"] => Ok(ApiRoute::Warm),
        ["warm", id] => Ok(ApiRoute::Warming(shortened(id))),
        _ => Err(RouteError::NotFound),
    }
}

fn part(query: &Query) -> Result<ListPart, RouteError> {
    let Page { n, last } = query.page()?;
    let last = last.filter(|last| !last.is_empty());
    let place = |last: Option<String>| last.map(|last| last.parse()).transpose();
    let order = match query.get("sort") {
        None | Some("" | "name") => ListOrder::Name(last),
        Some("size") => ListOrder::Size(place(last)?),
        Some("used") => ListOrder::Used(place(last)?),
        Some(_) => return Err(RouteError::Parameter("sort (name, size or used)")),
    };
    Ok(ListPart { n, order })
}

fn needed<'a>(query: &'a Query, key: &'static str) -> Result<&'a str, RouteError> {
    query.get(key).ok_or(RouteError::Parameter(key))
}

/// A text that is given and not empty.
fn text(query: &Query, key: &str) -> Option<String> {
    let text = query.get(key).filter(|text| !text.is_empty());
    text.map(|text| text.chars().take(LONGEST).collect())
}

fn number(query: &Query, key: &'static str) -> Result<Option<u64>, RouteError> {
    let number = |text: &str| text.parse().map_err(|_| RouteError::Parameter(key));
    query.get(key).map(number).transpose()
}

fn repository(query: &Query) -> Result<RepositoryName, RouteError> {
    Ok(needed(query, "repository")?.parse()?)
}

fn named_tag(query: &Query) -> Result<Tag, RouteError> {
    needed(query, "tag").and_then(tag)
}

fn tag(text: &str) -> Result<Tag, RouteError> {
    text.parse().map_err(|_| RouteError::Tag(shortened(text)))
}

fn digest(text: &str) -> Result<Digest, RouteError> {
    text.parse()
        .map_err(|_| RouteError::Digest(shortened(text)))
}

fn reference(text: &str) -> Result<Reference, RouteError> {
    super::route::parse_reference(text)
}

fn platform(text: &str) -> Result<Platform, RouteError> {
    text.parse()
        .map_err(|_| RouteError::Parameter("platform (os/architecture, as in linux/amd64)"))
}

#[cfg(test)]
mod tests {
    use super::super::route::{Route, parse};
    use super::*;

    const D: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn api(path: &str) -> Result<ApiRoute, RouteError> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        match parse(&format!("/api/v1{path}"), Some(query))? {
            Route::Api(route) => Ok(route),
            route => panic!("{route:?}"),
        }
    }

    #[test]
    fn what_is_asked_is_read_into_its_types() {
        let name: RepositoryName = "docker.io/library/x".parse().unwrap();
        assert_eq!(api(""), Ok(ApiRoute::State));
        assert_eq!(api("/"), Ok(ApiRoute::State));
        assert_eq!(api("/warm/x"), Ok(ApiRoute::Warming("x".to_owned())));
        let hold = format!("/holds?repository={name}&tag=1&digest={D}");
        let expected = ApiRoute::Hold(name.clone(), "1".parse().unwrap(), Some(D.parse().unwrap()));
        assert_eq!(api(&hold), Ok(expected));
        let part = ListPart {
            n: Some(5),
            order: ListOrder::Name(Some("a".to_owned())),
        };
        let listed = ApiRoute::Repositories {
            search: Some("%<b>".to_owned()),
            origin: None,
            part,
        };
        let asked = "/repositories?search=%25%3Cb%3E&origin=&n=5&last=a";
        assert_eq!(api(asked), Ok(listed));
        let order = |path: &str| match api(path) {
            Ok(ApiRoute::Repositories { part, .. } | ApiRoute::Tags { part, .. }) => part.order,
            other => panic!("{other:?}"),
        };
        let place = ListPlace {
            rank: 12,
            name: "a/b:c".to_owned(),
        };
        assert_eq!(place.to_string().parse(), Ok(place.clone()));
        let sorted = "/repositories?sort=size&last=12:a/b:c";
        assert_eq!(order(sorted), ListOrder::Size(Some(place)));
        let sorted = format!("/tags?repository={name}&sort=used&last=");
        assert_eq!(order(&sorted), ListOrder::Used(None));
        assert_eq!(order("/repositories?sort=name"), ListOrder::Name(None));
        let Ok(ApiRoute::Image { reference, .. }) =
            api(&format!("/image?repository={name}&reference={D}"))
        else {
            panic!()
        };
        assert_eq!(reference, Reference::Digest(D.parse().unwrap()));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (path, error) in [
            ("/none", RouteError::NotFound),
            ("/tags", RouteError::Parameter("repository")),
            ("/pins?repository=a", RouteError::Parameter("tag")),
            ("/image?repository=a", RouteError::Parameter("reference")),
            ("/pins?repository=a&tag=-", RouteError::Tag("-".to_owned())),
            ("/search?n=x", RouteError::Pagination("x".to_owned())),
            (
                "/repositories?sort=age",
                RouteError::Parameter("sort (name, size or used)"),
            ),
        ] {
            assert_eq!(api(path), Err(error), "{path}");
        }
        for last in ["a", "x:a", "-1:a", "+1:a", "99999999999999999999:a"] {
            let asked = format!("/repositories?sort=size&last={last}");
            assert!(
                matches!(api(&asked), Err(RouteError::Parameter(_))),
                "{last}"
            );
        }
        assert!(matches!(
            api("/tags?repository=../a"),
            Err(RouteError::Name(_))
        ));
        assert!(matches!(
            api("/image?repository=a&reference=1&platform=x"),
            Err(RouteError::Parameter(_))
        ));
    }
}
