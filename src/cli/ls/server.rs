//! The same of a larder elsewhere, by what its page is told: `/api/v1/`.

use std::path::Path;
use std::time::SystemTime;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use url::Url;

use crate::oci::{ImagePattern, RepositoryName};
use crate::store::Kind;
use crate::upstream::{Settings, Upstream, UpstreamError};

use super::super::warm::server::credentials;
use super::row::{Row, is_wanted, may_be_wanted};
use super::{Arguments, Listing, images, upstreams};

/// How many entries a part of a list has: the most that there may be.
const PART: &str = "1000";

/// A part of the list of repositories.
#[derive(Deserialize)]
struct Repositories {
    repositories: Vec<Repository>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Repository {
    name: String,
    origin: String,
}

/// A part of the list of a repository's tags.
#[derive(Deserialize)]
struct Tags {
    tags: Vec<Tagged>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Tagged {
    tag: String,
    digest: String,
    platforms: Vec<Platform>,
    own: Option<u64>,
    shared: Option<u64>,
    used: Option<String>,
    dated: Option<String>,
    stale_since: Option<String>,
    pinned: bool,
    held: bool,
}

#[derive(Deserialize)]
struct Platform {
    name: Option<String>,
    here: bool,
}

/// What is asked.
struct Server {
    upstream: Upstream,
    shown: String,
}

/// What `larder ls --server` writes.
pub(super) fn list(arguments: &Arguments, url: &Url, now: SystemTime) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let server = Server::at(url, arguments.ca.as_deref())?;
    if arguments.upstreams {
        let told = runtime.block_on(server.upstreams())?;
        return Ok(upstreams::told(&told, arguments.json, now));
    }
    let listing = runtime.block_on(server.listing(&arguments.patterns))?;
    Ok(images(arguments, &listing, now))
}

impl Server {
    fn at(url: &Url, ca: Option<&Path>) -> Result<Self, String> {
        let settings = Settings {
            name: "the server".to_owned(),
            url: url.clone(),
            credentials: credentials()?,
            ca: ca.map(Path::to_owned),
            token_hosts: Vec::new(),
        };
        let upstream = Upstream::new(settings).map_err(|error| format!("--server: {error}"))?;
        let shown = upstream.url();
        Ok(Self { upstream, shown })
    }

    /// What the server says; `None` where it says that there is no such thing.
    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Option<T>, String> {
        let body = match self.upstream.larder(path, query).await {
            Ok(body) => body,
            Err(UpstreamError::NotFound) => return Ok(None),
            Err(error) => return Err(self.refused(&error)),
        };
        let read = serde_json::from_slice(&body);
        read.map(Some).map_err(|_| self.strange())
    }

    async fn listing(&self, patterns: &[ImagePattern]) -> Result<Listing, String> {
        let (mut rows, mut is_anything) = (Vec::new(), false);
        let mut last = String::new();
        loop {
            let query = [("n", PART), ("last", &last)];
            let part: Option<Repositories> = self.get("repositories", &query).await?;
            let part = part.ok_or_else(|| self.strange())?;
            for repository in &part.repositories {
                is_anything = true;
                let name: RepositoryName = repository.name.parse().map_err(|_| self.strange())?;
                let kind = match repository.origin.as_str() {
                    "local" => Kind::Local,
                    _ => Kind::Mirror,
                };
                if may_be_wanted(patterns, &name, kind) {
                    self.tags(&name, kind, patterns, &mut rows).await?;
                }
            }
            match part.next {
                Some(next) if next != last => last = next,
                _ => break,
            }
        }
        Ok(Listing {
            rows,
            // Of what it does not name to us either.
            bytes: None,
            is_anything,
        })
    }

    async fn tags(
        &self,
        name: &RepositoryName,
        kind: Kind,
        patterns: &[ImagePattern],
        rows: &mut Vec<Row>,
    ) -> Result<(), String> {
        let mut last = String::new();
        loop {
            let query = [("repository", name.as_str()), ("n", PART), ("last", &last)];
            // It may have gone since it was listed.
            let Some(part) = self.get::<Tags>("tags", &query).await? else {
                return Ok(());
            };
            for tagged in part.tags {
                let row = tagged.row(name, kind).ok_or_else(|| self.strange())?;
                if is_wanted(patterns, name, kind, row.tag.as_ref()) {
                    rows.push(row);
                }
            }
            match part.next {
                Some(next) if next != last => last = next,
                _ => return Ok(()),
            }
        }
    }

    /// What it says of its upstreams, and whether it is offline.
    async fn upstreams(&self) -> Result<Value, String> {
        let told: Option<Value> = self.get("upstreams", &[]).await?;
        let state: Option<Value> = self.get("", &[]).await?;
        let (Some(told), Some(state)) = (told, state) else {
            return Err(self.strange());
        };
        Ok(json!({ "offline": state["offline"], "upstreams": told["upstreams"] }))
    }

    fn strange(&self) -> String {
        format!(
            "{} does not answer as this larder does: is it a larder, and not an older one?",
            self.shown
        )
    }

    fn refused(&self, error: &UpstreamError) -> String {
        let url = &self.shown;
        match error {
            UpstreamError::Unreachable { reason } => format!("{url} cannot be reached: {reason}"),
            UpstreamError::Timeout { what } => format!("{url} does not answer in time: {what}"),
            UpstreamError::Denied => format!(
                "{url} wants to know who asks: set LARDER_USERNAME and LARDER_PASSWORD. Where it believes a token service only, list its data directory instead"
            ),
            UpstreamError::CredentialsRefused => {
                format!("{url} refused LARDER_USERNAME and LARDER_PASSWORD")
            }
            UpstreamError::Failed { status } => {
                format!("{url} answers {status}: its log says why")
            }
            UpstreamError::Misbehaved { .. } => self.strange(),
            error => format!("{url}: {error}"),
        }
    }
}

impl Tagged {
    /// `None` if something in it is not what it should be.
    fn row(self, name: &RepositoryName, kind: Kind) -> Option<Row> {
        let time = |text: Option<String>| humantime::parse_rfc3339(&text?).ok();
        let from = match kind {
            Kind::Local => "local".to_owned(),
            // A port's colon; no host has an underscore.
            Kind::Mirror => name.split_first().0.replace('_', ":"),
        };
        Some(Row {
            name: name.clone(),
            kind,
            tag: Some(self.tag.parse().ok()?),
            digest: self.digest.parse().ok()?,
            platforms: self
                .platforms
                .into_iter()
                .map(|platform| (platform.name, platform.here))
                .collect(),
            own: self.own.unwrap_or(0),
            shared: self.shared.unwrap_or(0),
            used: time(self.used),
            dated: time(self.dated),
            stale_since: time(self.stale_since),
            from,
            is_pinned: self.pinned,
            is_held: self.held,
        })
    }
}
