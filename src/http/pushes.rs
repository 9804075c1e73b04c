//! Answers to pushes and deletes.

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::{HeaderMap, Method, StatusCode};
use hyper::body::Incoming;

use crate::access::Caller;
use crate::oci::manifest::{MAX_SIZE, ManifestError};
use crate::oci::range::upload_chunk;
use crate::oci::route::{MountFrom, NewUpload, UploadStep};
use crate::oci::{Algorithm, Digest, ErrorCode, MediaType, Reference, Tag, Target};
use crate::registry::{Chunk, Error};
use crate::store::{Pusher, Repository, UploadId};

use super::answer::{Answer, SUBJECT, TAG, UPLOAD_UUID};
use super::asked::Asked;
use super::body;
use super::error::Refusal;
use super::events::News;
use super::handler::Turn;

/// What is done with an upload session that exists.
pub(super) const UPLOAD_METHODS: &str = "DELETE, GET, HEAD, PATCH, PUT";

impl Turn {
    pub(super) async fn put_manifest(
        &self,
        asked: &Asked<'_>,
        target: &Target,
        reference: &Reference,
        tags: &[Tag],
        body: &mut Incoming,
    ) -> Result<Answer, Refusal> {
        let repository = self.registry.names().for_push(target)?;
        let headers = &asked.parts.headers;
        let too_large = || Refusal::Registry(ManifestError::TooLarge.into());
        if length(headers).is_some_and(|length| length > MAX_SIZE as u64) {
            return Err(too_large());
        }
        let bytes = body::collect(body, MAX_SIZE, self.manners.stall)
            .await?
            .ok_or_else(too_large)?;
        let media_type = headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let media_type: Option<MediaType> = media_type.and_then(|text| text.parse().ok());
        let sent = bytes.clone();
        let pushed = self
            .registry
            .put_manifest(&repository, reference, tags, media_type.as_ref(), bytes)
            .await?;
        let path = format!("/v2/{}/manifests/{}", repository.name(), pushed.digest);
        let mut answer = Answer::empty(StatusCode::CREATED)
            .location(&self.url(&path))
            .digest(&pushed.digest);
        // One line: clients read a hundred lines of a head and no more.
        if !tags.is_empty() {
            let listed: Vec<_> = tags.iter().map(Tag::as_str).collect();
            answer = answer.text(TAG, &listed.join(", "));
        }
        if let Some(hidden) = pushed.hides {
            answer = answer.warning(&format!(
                "{} now hides {hidden} from clients that use this registry as their mirror",
                repository.name()
            ));
        }
        let by_tag = match reference {
            Reference::Tag(tag) => Some(tag),
            Reference::Digest(_) => None,
        };
        let answer = answer.news(News::PushedManifest {
            repository: repository.name().clone(),
            digest: pushed.digest,
            declared: media_type,
            bytes: sent,
            tags: by_tag.into_iter().chain(tags).cloned().collect(),
        });
        Ok(match pushed.subject {
            Some(subject) => answer.text(SUBJECT, subject.as_str()),
            None => answer,
        })
    }

    pub(super) async fn delete_manifest(
        &self,
        target: &Target,
        reference: &Reference,
    ) -> Result<Answer, Refusal> {
        let repository = self.registry.names().for_push(target)?;
        let tags = self
            .registry
            .delete_manifest(&repository, reference)
            .await?;
        let news = News::deleted_manifest(&repository, reference, tags);
        Ok(Answer::empty(StatusCode::ACCEPTED).news(news))
    }

    pub(super) async fn delete_blob(
        &self,
        target: &Target,
        digest: &Digest,
    ) -> Result<Answer, Refusal> {
        let repository = self.registry.names().for_push(target)?;
        self.registry.delete_blob(&repository, digest).await?;
        let news = News::deleted_blob(&repository, digest);
        Ok(Answer::empty(StatusCode::ACCEPTED).news(news))
    }

    /// `POST …/uploads/`: a mount, a whole blob in one request, or the start of a session.
    pub(super) async fn start_upload(
        &self,
        caller: &Caller,
        target: &Target,
        new: &NewUpload,
        body: &mut Incoming,
    ) -> Result<Answer, Refusal> {
        let repository = self.registry.names().for_push(target)?;
        if let Some(digest) = &new.mount
            && let Some(news) = self.mount(caller, &repository, digest, &new.from).await?
        {
            return Ok(self.stored(&repository, digest).news(news));
        }
        let digest = new.digest.as_deref().map(parse_digest).transpose()?;
        let named = digest.as_ref().map(Digest::algorithm);
        let algorithm = match new.algorithm.as_deref() {
            Some(text) => parse_algorithm(text)?,
            None => named.unwrap_or(Algorithm::Sha256),
        };
        // Who sends all of it at once is told of no session that others would have to be kept from.
        let pusher = match digest {
            Some(_) => Pusher::Anybody,
            None => self.pusher(caller),
        };
        let started = self.registry.start_upload(&repository, &pusher, algorithm);
        let id = started.await?;
        let Some(digest) = digest else {
            return Ok(self.session(StatusCode::ACCEPTED, &repository, &id, 0));
        };
        let (chunk, bytes) = (Chunk::default(), body::incoming(body, self.manners.stall));
        let finished = self
            .registry
            .finish_upload(&repository, &id, chunk, bytes, &digest)
            .await;
        if finished.is_err() {
            // Nobody was told of the session, so nobody can go on with it. It may be gone already;
            // one that stays is swept, and the client learns what went wrong before.
            drop(self.registry.cancel_upload(&repository, &id).await);
        }
        finished?;
        Ok(self.stored(&repository, &digest))
    }

    /// Takes a blob over from another repository, and says what there is to tell of it; `None` where
    /// it must be sent.
    ///
    /// That the caller may pull from there is looked at before anything else: whoever may not is
    /// told, in the same time, what he would be told if there were nothing.
    async fn mount(
        &self,
        caller: &Caller,
        repository: &Repository,
        digest: &Digest,
        from: &MountFrom,
    ) -> Result<Option<News>, Refusal> {
        let name = match from {
            MountFrom::Nowhere => return Ok(None),
            // Only where everybody may pull everything: who else would have to be asked is not said.
            MountFrom::Anywhere if !self.manners.access.is_open() => return Ok(None),
            MountFrom::Anywhere => {
                let mounted = self.registry.mount(repository, None, digest).await?;
                return Ok(mounted.then(|| News::pushed_blob(repository, digest)));
            }
            MountFrom::Repository(name) => name.clone(),
        };
        let from = Target {
            name,
            prefix: None,
            host: None,
            ns: None,
        };
        // A source that cannot be resolved is one that has nothing to mount.
        let Ok(from) = self.registry.names().for_pull(&from) else {
            return Ok(None);
        };
        let place = &from.place;
        if !self.may_pull(caller, &place.full_name()) {
            return Ok(None);
        }
        let mounted = self.registry.mount(repository, Some(place), digest).await?;
        Ok(mounted.then(|| News::mounted_blob(repository, digest, place)))
    }

    /// Everything that is done with a session that exists.
    pub(super) async fn upload(
        &self,
        asked: &Asked<'_>,
        caller: &Caller,
        target: &Target,
        step: &UploadStep,
        body: &mut Incoming,
    ) -> Result<Answer, Refusal> {
        let repository = self.registry.names().for_push(target)?;
        let id: UploadId = step.id.parse().map_err(|()| Error::UploadUnknown)?;
        let pusher = self.pusher(caller);
        let registry = &self.registry;
        registry.continue_upload(&repository, &id, &pusher).await?;
        let done = match asked.parts.method {
            Method::GET | Method::HEAD => {
                let size = self.registry.upload_size(&repository, &id).await?;
                Ok(self.session(StatusCode::NO_CONTENT, &repository, &id, size))
            }
            Method::PATCH => self.append(asked, &repository, &id, step, body).await,
            Method::PUT => self.finish(asked, &repository, &id, step, body).await,
            Method::DELETE => {
                self.registry.cancel_upload(&repository, &id).await?;
                let answer = Answer::empty(StatusCode::NO_CONTENT);
                Ok(answer.text(UPLOAD_UUID, id.as_str()))
            }
            _ => Err(Refusal::Method {
                allow: UPLOAD_METHODS,
            }),
        };
        match done {
            // Where the upload stands goes with the refusal, so that the client can go on.
            Err(Refusal::Registry(Error::UploadRange { received })) => {
                let refusal = Refusal::Registry(Error::UploadRange { received });
                let answer = refusal.into_answer(&asked.parts.method, asked.path);
                Ok(self.place_in_session(answer, &repository, &id, received))
            }
            done => done,
        }
    }

    /// Whose the sessions are that a caller starts.
    fn pusher(&self, caller: &Caller) -> Pusher {
        if self.manners.access.is_open() {
            return Pusher::Anybody;
        }
        caller.name().map_or(Pusher::Nameless, Pusher::named)
    }

    async fn append(
        &self,
        asked: &Asked<'_>,
        repository: &Repository,
        id: &UploadId,
        step: &UploadStep,
        body: &mut Incoming,
    ) -> Result<Answer, Refusal> {
        let chunk = chunk(&asked.parts.headers, step)?;
        let bytes = body::incoming(body, self.manners.stall);
        let received = self.registry.receive(repository, id, chunk, bytes).await?;
        Ok(self.session(StatusCode::ACCEPTED, repository, id, received))
    }

    async fn finish(
        &self,
        asked: &Asked<'_>,
        repository: &Repository,
        id: &UploadId,
        step: &UploadStep,
        body: &mut Incoming,
    ) -> Result<Answer, Refusal> {
        let digest = parse_digest(step.digest.as_deref().unwrap_or_default())?;
        let chunk = chunk(&asked.parts.headers, step)?;
        let bytes = body::incoming(body, self.manners.stall);
        self.registry
            .finish_upload(repository, id, chunk, bytes, &digest)
            .await?;
        Ok(self.stored(repository, &digest))
    }

    /// The answer to everything that ends in a blob that is stored.
    fn stored(&self, repository: &Repository, digest: &Digest) -> Answer {
        let path = format!("/v2/{}/blobs/{digest}", repository.name());
        Answer::empty(StatusCode::CREATED)
            .location(&self.url(&path))
            .digest(digest)
            .news(News::pushed_blob(repository, digest))
    }

    /// The answer to everything that leaves a session open.
    fn session(
        &self,
        status: StatusCode,
        repository: &Repository,
        id: &UploadId,
        received: u64,
    ) -> Answer {
        self.place_in_session(Answer::empty(status), repository, id, received)
    }

    fn place_in_session(
        &self,
        answer: Answer,
        repository: &Repository,
        id: &UploadId,
        received: u64,
    ) -> Answer {
        let path = format!(
            "/v2/{}/blobs/uploads/{id}?_state={received}",
            repository.name()
        );
        // Nothing and one byte look the same here; docker reads it with "%d-%d" and insists.
        let last = received.saturating_sub(1);
        answer
            .location(&self.url(&path))
            .text(RANGE, &format!("0-{last}"))
            .text(UPLOAD_UUID, id.as_str())
    }
}

fn parse_digest(text: &str) -> Result<Digest, Refusal> {
    let shortened = || text.chars().take(200).collect();
    let parsed = text.parse();
    parsed.map_err(|_| Refusal::Registry(Error::DigestInvalid(shortened())))
}

/// OCI distribution specification, "Pushing Blobs": what an upload is to be hashed with.
fn parse_algorithm(text: &str) -> Result<Algorithm, Refusal> {
    let known = Algorithm::ALL
        .into_iter()
        .find(|known| known.as_str() == text);
    let shortened = || text.chars().take(200).collect();
    known.ok_or_else(|| Refusal::Registry(Error::DigestInvalid(shortened())))
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn chunk(headers: &HeaderMap, step: &UploadStep) -> Result<Chunk, Refusal> {
    let range = headers.get(CONTENT_RANGE);
    let range = range.map(|value| value.to_str().ok().and_then(upload_chunk).ok_or(()));
    let range = range.transpose().map_err(|()| Refusal::Header {
        name: "Content-Range",
        code: ErrorCode::RangeInvalid,
        status: StatusCode::RANGE_NOT_SATISFIABLE,
    })?;
    Ok(Chunk {
        range,
        length: length(headers),
        offset: step.offset,
    })
}
