//! What a request tells the world, if it was successful: from the registry's words to an event.

use std::time::SystemTime;

use bytes::Bytes;
use http::StatusCode;
use http::header::{HOST, USER_AGENT};
use http::request::Parts;

use crate::events::{Action, Descriptor, Event, Events, Request, Target, references};
use crate::oci::manifest::media_type_of;
use crate::oci::{Digest, MediaType, Reference, RepositoryName, Tag};
use crate::registry::{ManifestAnswer, Place, Want};
use crate::store::Repository;

use super::around::{Client, header};
use super::handler::Turn;

/// How much of a header is in an event, in bytes.
const HEADER: usize = 1024;

/// What a request did, as its handler knows it.
pub(super) enum News {
    /// A manifest was pulled.
    PulledManifest {
        repository: RepositoryName,
        manifest: ManifestAnswer,
        reference: Reference,
    },
    /// A manifest was pushed, and taken.
    PushedManifest {
        repository: RepositoryName,
        digest: Digest,
        declared: Option<MediaType>,
        bytes: Bytes,
        /// By which it can be had from now on; none where it was pushed by digest alone.
        tags: Vec<Tag>,
    },
    /// A blob was pulled.
    PulledBlob {
        repository: RepositoryName,
        digest: Digest,
        size: u64,
    },
    /// A blob is stored: received, or taken over from elsewhere.
    StoredBlob {
        repository: Repository,
        digest: Digest,
        from: Option<RepositoryName>,
    },
    /// A tag was removed; a manifest with the tags that named it; a blob.
    Deleted {
        repository: RepositoryName,
        digest: Option<Digest>,
        tags: Vec<Tag>,
    },
}

impl News {
    pub(super) fn pulled_manifest(
        place: &Place,
        manifest: &ManifestAnswer,
        reference: &Reference,
    ) -> Self {
        Self::PulledManifest {
            repository: name_of(place).clone(),
            manifest: manifest.clone(),
            reference: reference.clone(),
        }
    }

    pub(super) fn pulled_blob(place: &Place, digest: &Digest, size: u64) -> Self {
        Self::PulledBlob {
            repository: name_of(place).clone(),
            digest: digest.clone(),
            size,
        }
    }

    pub(super) fn pushed_blob(repository: &Repository, digest: &Digest) -> Self {
        Self::StoredBlob {
            repository: repository.clone(),
            digest: digest.clone(),
            from: None,
        }
    }

    pub(super) fn mounted_blob(repository: &Repository, digest: &Digest, from: &Place) -> Self {
        Self::StoredBlob {
            repository: repository.clone(),
            digest: digest.clone(),
            from: Some(name_of(from).clone()),
        }
    }

    /// `tags` are those that went with a manifest.
    pub(super) fn deleted_manifest(
        repository: &Repository,
        reference: &Reference,
        tags: Vec<Tag>,
    ) -> Self {
        let repository = repository.name().clone();
        match reference {
            Reference::Digest(digest) => Self::Deleted {
                repository,
                digest: Some(digest.clone()),
                tags,
            },
            Reference::Tag(tag) => Self::Deleted {
                repository,
                digest: None,
                tags: vec![tag.clone()],
            },
        }
    }

    pub(super) fn deleted_blob(repository: &Repository, digest: &Digest) -> Self {
        Self::Deleted {
            repository: repository.name().clone(),
            digest: Some(digest.clone()),
            tags: Vec::new(),
        }
    }
}

/// The repository's full name, by which it can be pulled.
pub(super) fn name_of(place: &Place) -> &RepositoryName {
    match place {
        Place::Local(repository) => repository.name(),
        Place::Mirror(mirror) => mirror.repository.name(),
    }
}

fn tag_of(reference: &Reference) -> Option<String> {
    match reference {
        Reference::Tag(tag) => Some(tag.to_string()),
        Reference::Digest(_) => None,
    }
}

/// Events that are ready, for when the answer is out.
pub(super) struct Announcement {
    events: Events,
    ready: Vec<Event>,
}

impl Announcement {
    /// Tells whoever is to be told.
    pub(super) fn publish(self) {
        for event in &self.ready {
            self.events.publish(event);
        }
    }
}

impl Turn {
    /// What there is to tell of a request. `user` is whom access control knows it to come from.
    pub(super) async fn announcement(
        &self,
        news: Option<Box<News>>,
        status: StatusCode,
        parts: &Parts,
        client: &Client,
        user: Option<&str>,
    ) -> Option<Announcement> {
        let around = &self.around;
        // A client that has it already was told that it still holds: that is a pull too.
        let successful = status.is_success() || status == StatusCode::NOT_MODIFIED;
        let news = news.filter(|_| around.events.are_wanted() && successful)?;
        let request = Request {
            id: uuid::Uuid::now_v7().to_string(),
            addr: client.address.to_string(),
            host: header(&parts.headers, &HOST, HEADER).unwrap_or_default(),
            method: parts.method.to_string(),
            useragent: header(&parts.headers, &USER_AGENT, HEADER).unwrap_or_default(),
        };
        let base = self.base(&request.host, client.scheme);
        // Mostly nobody wants to know: that needs no room in each request.
        let told = Box::pin(self.told(*news, &base)).await;
        let timestamp = SystemTime::now();
        let event = |(action, target)| Event {
            timestamp,
            action,
            target,
            request: request.clone(),
            actor: user.map(str::to_owned),
        };
        Some(Announcement {
            events: around.events.clone(),
            ready: told.into_iter().map(event).collect(),
        })
    }

    async fn told(&self, news: News, base: &str) -> Vec<(Action, Target)> {
        match news {
            News::PulledManifest {
                repository,
                manifest,
                reference,
            } => {
                let listed = manifest.bytes.as_ref().map(|stored| &stored.bytes);
                let target = Target {
                    media_type: manifest.media_type.to_string(),
                    tag: tag_of(&reference),
                    references: self.references(listed),
                    ..content(&repository, "manifests", &manifest.digest, base)
                };
                vec![(Action::Pull, sized(target, manifest.size))]
            }
            News::PushedManifest {
                repository,
                digest,
                declared,
                bytes,
                tags,
            } => {
                let served_as = media_type_of(&bytes, declared.as_ref()).ok();
                let target = Target {
                    media_type: served_as
                        .or(declared)
                        .map_or_else(String::new, |it| it.to_string()),
                    references: self.references(Some(&bytes)),
                    ..content(&repository, "manifests", &digest, base)
                };
                pushed(&sized(target, bytes.len() as u64), tags)
            }
            News::PulledBlob {
                repository,
                digest,
                size,
            } => vec![(Action::Pull, blob(&repository, &digest, size, base))],
            News::StoredBlob {
                repository,
                digest,
                from,
            } => {
                let place = Place::Local(repository.clone());
                let found = self.registry.blob(&place, &digest, Want::Description).await;
                // It was there a moment ago. If it is gone already, its size is the least loss.
                let size = found.map_or(0, |(blob, _)| blob.size);
                let mut target = blob(repository.name(), &digest, size, base);
                target.from_repository = from.map(|from| from.to_string());
                let mounted = target.from_repository.is_some();
                let action = if mounted { Action::Mount } else { Action::Push };
                vec![(action, target)]
            }
            News::Deleted {
                repository,
                digest,
                tags,
            } => deleted(&repository, digest, tags),
        }
    }

    fn references(&self, manifest: Option<&Bytes>) -> Vec<Descriptor> {
        let wanted = self.around.events.include_references();
        let listed = manifest.filter(|_| wanted);
        listed.map_or_else(Vec::new, |bytes| references(bytes))
    }

    /// What the URLs of content begin with: `http.host`, else the host that the client asked.
    /// Nothing where there is neither.
    fn base(&self, host: &str, scheme: &str) -> String {
        let configured = self.url("");
        if configured.is_empty() && !host.is_empty() {
            return format!("{scheme}://{host}");
        }
        configured
    }
}

fn blob(repository: &RepositoryName, digest: &Digest, size: u64, base: &str) -> Target {
    let target = Target {
        media_type: "application/octet-stream".to_owned(),
        ..content(repository, "blobs", digest, base)
    };
    sized(target, size)
}

/// What all content has.
fn content(repository: &RepositoryName, kind: &str, digest: &Digest, base: &str) -> Target {
    Target {
        digest: digest.to_string(),
        repository: repository.to_string(),
        url: (!base.is_empty()).then(|| format!("{base}/v2/{repository}/{kind}/{digest}")),
        ..Target::default()
    }
}

fn sized(target: Target, size: u64) -> Target {
    Target {
        size,
        length: size,
        ..target
    }
}

/// A push by several tags is told once for each.
fn pushed(target: &Target, tags: Vec<Tag>) -> Vec<(Action, Target)> {
    if tags.is_empty() {
        return vec![(Action::Push, target.clone())];
    }
    let by = |tag: Tag| Target {
        tag: Some(tag.to_string()),
        ..target.clone()
    };
    let each = tags.into_iter().map(by);
    each.map(|target| (Action::Push, target)).collect()
}

fn deleted(
    repository: &RepositoryName,
    digest: Option<Digest>,
    tags: Vec<Tag>,
) -> Vec<(Action, Target)> {
    let of = |digest: Option<Digest>, tag: Option<Tag>| {
        let target = Target {
            digest: digest.map(|digest| digest.to_string()).unwrap_or_default(),
            repository: repository.to_string(),
            tag: tag.map(|tag| tag.to_string()),
            ..Target::default()
        };
        (Action::Delete, target)
    };
    let content = digest.map(|digest| of(Some(digest), None));
    let tags = tags.into_iter().map(|tag| of(None, Some(tag)));
    content.into_iter().chain(tags).collect()
}
