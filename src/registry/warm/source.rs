//! Where images are asked for: of the registry in this process, or of a larder over HTTP.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::sleep;

use crate::oci::contents::Part;
use crate::oci::{Digest, Hasher, Image, Reference, RepositoryName};
use crate::upstream::{Upstream, UpstreamError};

use super::super::{Error, Outcome, Place, Registry, Want};
use super::{Kept, WarmError};

/// The pauses before a blob that broke off is tried again. A network that is away for a moment is
/// no reason to give an image up.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// Who fills the store.
#[derive(Clone)]
pub enum Source {
    /// The registry of this process.
    Registry(Registry),
    /// A larder that runs, asked over HTTP. What it sends is verified and thrown away.
    Server(Upstream),
}

/// An image's repository, as its source knows it.
pub(super) enum Located {
    Place(Box<Place>),
    Name(RepositoryName),
}

/// A manifest, and how it was had, where that is told.
pub(super) struct Manifest {
    pub(super) digest: Digest,
    pub(super) bytes: Bytes,
    pub(super) outcome: Option<Outcome>,
}

/// Why a larder did not give what it was asked for over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// It says no, in these words.
    #[error("the server says: {0}")]
    Refused(String),
    /// It says no.
    #[error("the server does not have it and cannot get it")]
    NotFound,
    /// It wants to know who asks.
    #[error(
        "the server denies it: set LARDER_USERNAME and LARDER_PASSWORD to somebody who may pull"
    )]
    Denied,
    /// It does not know who asks.
    #[error(
        "the server refused the username and password: check LARDER_USERNAME and LARDER_PASSWORD"
    )]
    CredentialsRefused,
    /// It, or its upstream, must not be asked so often.
    #[error("the server may not be asked so often, or its upstream may not: try again in {} s", .0.as_secs().max(1))]
    RateLimited(Duration),
    /// It failed.
    #[error("the server failed with status {0}: its log says why")]
    Failed(u16),
    /// There is no talking to it.
    #[error("the server: {0}")]
    Other(String),
}

impl From<UpstreamError> for ServerError {
    fn from(error: UpstreamError) -> Self {
        match error {
            UpstreamError::NotFound => Self::NotFound,
            UpstreamError::Denied => Self::Denied,
            UpstreamError::CredentialsRefused => Self::CredentialsRefused,
            UpstreamError::RateLimited { retry_after } => Self::RateLimited(retry_after),
            UpstreamError::Failed { status } => Self::Failed(status),
            UpstreamError::Offline => Self::Other("it is not to be asked: offline".into()),
            UpstreamError::Timeout { what } => Self::Other(format!("no answer in time ({what})")),
            UpstreamError::Unreachable { reason } => {
                Self::Other(format!("it cannot be reached: {reason}"))
            }
            error @ UpstreamError::Exhausted { .. } => Self::Other(error.to_string()),
            UpstreamError::Misbehaved { reason } => Self::Other(format!(
                "that is no larder, or something is in between: {reason}"
            )),
        }
    }
}

impl Located {
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Place(place) if matches!(**place, Place::Local(_)))
    }
}

impl Source {
    pub(super) fn locate(&self, image: &Image) -> Result<Located, WarmError> {
        match self {
            Self::Registry(registry) => {
                let resolved = registry.names().for_pull(&image.target)?;
                Ok(Located::Place(Box::new(resolved.place)))
            }
            Self::Server(_) => Ok(Located::Name(name_on_the_wire(image))),
        }
    }

    pub(super) async fn manifest(
        &self,
        located: &Located,
        reference: &Reference,
    ) -> Result<Manifest, WarmError> {
        match (self, located) {
            (Self::Registry(registry), Located::Place(place)) => {
                let answer = registry.manifest(place, reference, Want::Content).await;
                let (answer, outcome) = answer?;
                let stored = answer.bytes.ok_or(Error::Vanished)?;
                Ok(Manifest {
                    digest: answer.digest,
                    bytes: stored.bytes.clone(),
                    outcome: Some(outcome),
                })
            }
            (Self::Server(server), Located::Name(name)) => {
                let fetched = match server.get_manifest(name, reference).await {
                    Ok(fetched) => fetched,
                    Err(error) => return Err(refused(server, name, reference, error).await.into()),
                };
                Ok(Manifest {
                    digest: match reference {
                        Reference::Digest(digest) => digest.clone(),
                        Reference::Tag(_) => Digest::of(&fetched.bytes),
                    },
                    outcome: outcome(fetched.from_cache.as_deref()),
                    bytes: fetched.bytes,
                })
            }
            _ => Err(Error::Vanished.into()),
        }
    }

    /// Lets a blob come to where it is kept; `moved` hears of every piece.
    pub(super) async fn blob(
        &self,
        located: &Located,
        part: &Part,
        moved: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Kept, WarmError> {
        let mut pauses = PAUSES.into_iter();
        loop {
            let ended = match (self, located) {
                (Self::Registry(registry), Located::Place(place)) => {
                    filled(registry, place, part, moved).await
                }
                (Self::Server(server), Located::Name(name)) => {
                    read(server, name, part, moved).await
                }
                _ => Err(Error::Vanished.into()),
            };
            match ended {
                Err(error) if may_pass(&error) => {
                    let Some(pause) = pauses.next() else {
                        return Err(error);
                    };
                    tracing::info!(digest = %part.digest, %error, "trying again");
                    sleep(pause).await;
                }
                ended => return ended,
            }
        }
    }

    /// The content of a blob that has come; `None` where it is larger than `limit`, in bytes.
    pub(super) async fn small_blob(
        &self,
        located: &Located,
        part: &Part,
        limit: usize,
    ) -> Result<Option<Bytes>, WarmError> {
        let mut bytes = BytesMut::new();
        match (self, located) {
            (Self::Registry(registry), Located::Place(place)) => {
                let answer = registry.blob(place, &part.digest, Want::Content).await;
                let content = answer?.0.content.ok_or(Error::Vanished)?;
                let size = content.size();
                let mut reader = content.read(0, size);
                while bytes.len() <= limit
                    && let Some(more) = reader.next().await?
                {
                    bytes.extend_from_slice(&more);
                }
            }
            (Self::Server(server), Located::Name(name)) => {
                let stream = server.get_blob(name, &part.digest, 0).await;
                let mut stream = stream.map_err(ServerError::from)?;
                while bytes.len() <= limit
                    && let Some(more) = stream.next().await.map_err(ServerError::from)?
                {
                    bytes.extend_from_slice(&more);
                }
            }
            _ => return Err(Error::Vanished.into()),
        }
        if bytes.len() > limit {
            return Ok(None);
        }
        if !part.digest.matches(&bytes) {
            return Err(WarmError::Damaged(part.digest.clone()));
        }
        Ok(Some(bytes.freeze()))
    }
}

/// A blob of this process's registry: read as a client reads it, so that its end means that it is
/// verified and stored.
async fn filled(
    registry: &Registry,
    place: &Place,
    part: &Part,
    moved: &(dyn Fn(u64) + Send + Sync),
) -> Result<Kept, WarmError> {
    let (answer, outcome) = registry.blob(place, &part.digest, Want::Content).await?;
    match outcome {
        Outcome::Hit | Outcome::Revalidated | Outcome::Stale => return Ok(Kept::Already),
        Outcome::Pass => return Err(WarmError::NotKept(part.digest.clone())),
        Outcome::Miss | Outcome::Joined => {}
    }
    let content = answer.content.ok_or(Error::Vanished)?;
    let size = content.size();
    let mut reader = content.read(0, size);
    while let Some(bytes) = reader.next().await? {
        moved(bytes.len() as u64);
    }
    Ok(Kept::Fetched)
}

/// A blob of a server: what it has is not sent, the rest is read to its end.
async fn read(
    server: &Upstream,
    name: &RepositoryName,
    part: &Part,
    moved: &(dyn Fn(u64) + Send + Sync),
) -> Result<Kept, WarmError> {
    let digest = &part.digest;
    let is_kept = |word: Option<&str>| {
        let outcome = outcome(word);
        matches!(
            outcome,
            Some(Outcome::Hit | Outcome::Revalidated | Outcome::Stale)
        )
    };
    // An answer whose bytes nobody wants would be a download that broke off, to the server. If this
    // fails, the next question says why.
    let head = server.blob_in_cache(name, digest).await;
    if head.is_ok_and(|word| is_kept(word.as_deref())) {
        return Ok(Kept::Already);
    }
    let stream = server.get_blob(name, digest, 0).await;
    let mut stream = stream.map_err(ServerError::from)?;
    if outcome(stream.from_cache()) == Some(Outcome::Pass) {
        return Err(WarmError::NotKept(digest.clone()));
    }
    // It may have come in between.
    let kept = if is_kept(stream.from_cache()) {
        Kept::Already
    } else {
        Kept::Fetched
    };
    let mut hasher = Hasher::new(digest.algorithm());
    while let Some(bytes) = stream.next().await.map_err(ServerError::from)? {
        hasher.update(&bytes);
        moved(bytes.len() as u64);
    }
    if hasher.finish() == *digest {
        Ok(kept)
    } else {
        Err(WarmError::Damaged(digest.clone()))
    }
}

/// The server's own words, where it has some.
async fn refused(
    server: &Upstream,
    name: &RepositoryName,
    reference: &Reference,
    error: UpstreamError,
) -> ServerError {
    let speaks = matches!(
        error,
        UpstreamError::NotFound | UpstreamError::Failed { .. }
    );
    let words = if speaks {
        server.complaint(name, reference).await
    } else {
        None
    };
    words.map_or_else(|| error.into(), ServerError::Refused)
}

/// Whether the failure of a blob may be gone in a moment.
fn may_pass(error: &WarmError) -> bool {
    match error {
        WarmError::Registry(Error::Upstream { error, .. }) => matches!(
            error,
            UpstreamError::Timeout { .. }
                | UpstreamError::Unreachable { .. }
                | UpstreamError::Exhausted { .. }
                | UpstreamError::Failed { .. }
                | UpstreamError::Misbehaved { .. }
        ),
        // That is also what a larder says of a blob that its upstream did not send to the end.
        WarmError::Server(error) => matches!(
            error,
            ServerError::NotFound | ServerError::Failed(_) | ServerError::Other(_)
        ),
        WarmError::Registry(Error::Vanished) => true,
        _ => false,
    }
}

fn outcome(word: Option<&str>) -> Option<Outcome> {
    let word = word?;
    let outcomes = [
        Outcome::Hit,
        Outcome::Miss,
        Outcome::Joined,
        Outcome::Revalidated,
        Outcome::Stale,
        Outcome::Pass,
    ];
    outcomes.into_iter().find(|known| known.as_str() == word)
}

/// The name under which a server finds an image: as it was typed. A port's colon, which a path
/// cannot have there, is an underscore, as in the catalog.
fn name_on_the_wire(image: &Image) -> RepositoryName {
    let target = &image.target;
    let directory = target
        .host
        .as_ref()
        .map(|host| host.replace(':', "_").parse());
    match directory {
        Some(Ok(directory)) => target.name.under(&directory),
        _ => target.name.clone(),
    }
}
