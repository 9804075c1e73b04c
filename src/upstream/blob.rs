//! Blobs: their size, and their bytes across as many broken connections as it takes.
//!
//! A stream counts bytes and nothing else: that they are the right ones is for whoever hashes
//! them. It may not splice: every answer must begin where the last one broke off, in a blob of the
//! same size.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::header::CONTENT_RANGE;
use http::{Method, StatusCode};
use tokio::time::sleep;

use super::client::{Ask, Client, Subject};
use super::error::UpstreamError;
use super::line::Looks;
use super::retry::{TRIES, backoff};
use super::transport::{Answer, X_CACHE};
use crate::metrics::Kind;
use crate::oci::range::content_range;
use crate::oci::{Digest, RepositoryName};

/// How often a stream asks again without having got any further.
const RESUMES: u32 = 5;
/// How long the end of a chunked body is waited for when all bytes are there.
const LAST_CHUNK: Duration = Duration::from_secs(1);
/// A rate limit that lasts no longer than this is waited for in the middle of a blob.
const PATIENCE: Duration = Duration::from_secs(30);

/// The bytes of a blob, as they come.
#[derive(Debug)]
pub struct BlobStream {
    client: Arc<Client>,
    name: RepositoryName,
    digest: Digest,
    size: Option<u64>,
    /// The offset of the byte that comes next.
    position: u64,
    state: State,
    /// Tries since the last byte.
    failures: u32,
    looks: Looks,
    from_cache: Option<String>,
}

#[derive(Debug)]
enum State {
    Open(Body),
    /// Broken off, and to be asked for again.
    Broken(UpstreamError),
    Ended,
    Failed(UpstreamError),
}

/// The rest of one answer.
#[derive(Debug)]
struct Body {
    answer: Answer,
    /// Bytes to pass over: a registry that knows no ranges begins at the beginning.
    skip: u64,
}

/// What the registry says when asked for a blob from some byte on.
enum Opening {
    Body {
        body: Body,
        size: Option<u64>,
    },
    /// There is nothing behind that byte.
    AtEnd,
}

/// The size of a blob that need not be fetched.
pub(super) async fn size(
    client: &Client,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<u64, UpstreamError> {
    let asks = |method| Ask::new(Subject::Blobs, method, name, url(client, name, digest));
    let refused = if client.refuses_blob_heads.load(Ordering::Relaxed) {
        UpstreamError::Denied
    } else {
        match client.ask(&asks(Method::HEAD)).await {
            Ok(answer) => match (answer.status(), answer.declared_length()) {
                (StatusCode::OK, Some(size)) => {
                    answer.check_content()?;
                    return Ok(size);
                }
                (status, _) => UpstreamError::Failed {
                    status: status.as_u16(),
                },
            },
            // Storage behind presigned addresses signs for one method, and that is GET.
            Err(error @ (UpstreamError::Denied | UpstreamError::CredentialsRefused)) => error,
            Err(UpstreamError::Failed { status: 501 }) => UpstreamError::Failed { status: 501 },
            Err(error) => return Err(error),
        }
    };
    let answer = client.ask(&asks(Method::GET).range(0, Some(0))).await?;
    answer.check_content()?;
    let size = match answer.status() {
        StatusCode::PARTIAL_CONTENT => part(&answer).and_then(|(_, total)| total),
        StatusCode::OK => answer.declared_length(),
        StatusCode::RANGE_NOT_SATISFIABLE => total_of_nothing(&answer),
        status => {
            return Err(UpstreamError::Failed {
                status: status.as_u16(),
            });
        }
    };
    let size =
        size.ok_or_else(|| UpstreamError::misbehaved("it does not tell the size of a blob"))?;
    client
        .refuses_blob_heads
        .fetch_or(refused == UpstreamError::Denied, Ordering::Relaxed);
    Ok(size)
}

fn url(client: &Client, name: &RepositoryName, digest: &Digest) -> url::Url {
    client.endpoint(&format!("{name}/blobs/{digest}"))
}

fn part(answer: &Answer) -> Option<(crate::oci::ByteRange, Option<u64>)> {
    content_range(answer.header(CONTENT_RANGE)?)
}

/// The `bytes */N` of a 416.
fn total_of_nothing(answer: &Answer) -> Option<u64> {
    let total = answer
        .header(CONTENT_RANGE)?
        .trim()
        .strip_prefix("bytes */")?;
    total.trim().parse().ok()
}

/// Asks for a blob from byte `from` on. Always the registry: the address it redirected to the
/// last time may have run out.
async fn open(
    client: &Client,
    name: &RepositoryName,
    digest: &Digest,
    from: u64,
    tries: u32,
) -> Result<Opening, UpstreamError> {
    let mut ask = Ask::new(Subject::Blobs, Method::GET, name, url(client, name, digest));
    ask.tries = tries;
    // Who has only one try left is in the middle of a blob.
    ask.insistent = tries < TRIES;
    if from > 0 {
        ask = ask.range(from, None);
    }
    let answer = client.ask(&ask).await?;
    let wrong = |reason| Err(UpstreamError::misbehaved(reason));
    match answer.status() {
        StatusCode::OK => {
            answer.check_content()?;
            let size = answer.declared_length();
            if size.is_some_and(|size| size < from) {
                return wrong("a blob that is shorter than what came of it before");
            }
            Ok(Opening::Body {
                body: Body { answer, skip: from },
                size,
            })
        }
        StatusCode::PARTIAL_CONTENT => {
            answer.check_content()?;
            match part(&answer) {
                Some((range, size)) if range.start == from => Ok(Opening::Body {
                    body: Body { answer, skip: 0 },
                    size,
                }),
                _ => wrong("another part of a blob than the one asked for"),
            }
        }
        StatusCode::RANGE_NOT_SATISFIABLE if total_of_nothing(&answer) == Some(from) => {
            Ok(Opening::AtEnd)
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            wrong("a blob that ends before what came of it before")
        }
        status => Err(UpstreamError::Failed {
            status: status.as_u16(),
        }),
    }
}

impl BlobStream {
    pub(super) async fn open(
        client: Arc<Client>,
        name: &RepositoryName,
        digest: &Digest,
        from: u64,
    ) -> Result<Self, UpstreamError> {
        let opening = open(&client, name, digest, from, TRIES).await?;
        let from_cache = match &opening {
            Opening::Body { body, .. } => body.answer.header(X_CACHE).map(str::to_owned),
            Opening::AtEnd => None,
        };
        let (state, size) = match opening {
            Opening::Body { body, size } => (State::Open(body), size),
            Opening::AtEnd => (State::Ended, Some(from)),
        };
        Ok(Self {
            client,
            name: name.clone(),
            digest: digest.clone(),
            size,
            position: from,
            state,
            failures: 0,
            looks: Looks::new(),
            from_cache,
        })
    }

    /// What an upstream that is itself a cache says of how its first answer was made: `X-Cache`.
    pub fn from_cache(&self) -> Option<&str> {
        self.from_cache.as_deref()
    }

    /// The size of the whole blob, if the upstream has told it.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// The next bytes, in order and without gaps; `None` when all have come.
    ///
    /// When the connection breaks, the registry is asked for the rest. An error is for good: the
    /// next call returns it again. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        let client = Arc::clone(&self.client);
        let line = &client.transport.line;
        let next = match self.looks.check(line) {
            Ok(()) => line.until_cut(self.come()).await,
            Err(cut) => Err(cut),
        };
        if let Err(error) = &next {
            self.state = State::Failed(error.clone());
        }
        next
    }

    async fn come(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        loop {
            match &mut self.state {
                State::Ended => return Ok(None),
                State::Failed(error) => return Err(error.clone()),
                State::Broken(_) => self.resume().await,
                State::Open(_) => {
                    if let Some(bytes) = self.read().await {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// The next bytes of this answer. `None` when it has none, and the state says why.
    async fn read(&mut self) -> Option<Bytes> {
        let State::Open(body) = &mut self.state else {
            return None;
        };
        let complete = self.size == Some(self.position) && body.skip == 0;
        let idle = self.client.transport.timeouts.idle;
        let patience = if complete { idle.min(LAST_CHUNK) } else { idle };
        match body.answer.chunk(patience).await {
            Ok(Some(mut bytes)) => {
                self.client.fetched(Kind::Blob, bytes.len());
                let skipped = body.skip.min(bytes.len() as u64);
                body.skip -= skipped;
                bytes.advance(
                    usize::try_from(skipped)
                        .unwrap_or(usize::MAX)
                        .min(bytes.len()),
                );
                self.deliver(bytes)
            }
            _ if complete => {
                self.state = State::Ended;
                None
            }
            // Without a size, only a chunked body has an end of its own.
            Ok(None) if self.size.is_none() && body.skip == 0 => {
                self.state = State::Ended;
                None
            }
            Ok(None) => self.broken(UpstreamError::unreachable("the body ended too early")),
            Err(fault) => self.broken(fault.into()),
        }
    }

    fn deliver(&mut self, bytes: Bytes) -> Option<Bytes> {
        if bytes.is_empty() {
            return None;
        }
        let position = self.position + bytes.len() as u64;
        if self.size.is_some_and(|size| position > size) {
            self.state = State::Failed(UpstreamError::misbehaved("more bytes than the blob has"));
            return None;
        }
        self.position = position;
        self.failures = 0;
        Some(bytes)
    }

    fn broken(&mut self, error: UpstreamError) -> Option<Bytes> {
        self.state = State::Broken(error);
        None
    }

    /// Asks the registry for the rest, after a pause.
    async fn resume(&mut self) {
        let State::Broken(error) = &self.state else {
            return;
        };
        if self.failures >= RESUMES {
            tracing::warn!(
                upstream = self.client.name, digest = %self.digest, position = self.position,
                "giving up on a blob: {error}"
            );
            self.state = State::Failed(error.clone());
            return;
        }
        let pause = match error {
            UpstreamError::RateLimited { retry_after } => *retry_after,
            _ => backoff(self.client.transport.timeouts.backoff, self.failures),
        };
        tracing::info!(
            upstream = self.client.name, digest = %self.digest, position = self.position,
            "a blob broke off: asking for the rest ({error})"
        );
        sleep(pause).await;
        self.failures += 1;
        let opening = open(&self.client, &self.name, &self.digest, self.position, 1).await;
        self.state = match opening {
            Ok(Opening::Body { body, size }) => self.joined(body, size),
            Ok(Opening::AtEnd) if self.size.is_none_or(|size| size == self.position) => {
                self.size = Some(self.position);
                State::Ended
            }
            Ok(Opening::AtEnd) => State::Broken(changed()),
            Err(error) => match error {
                UpstreamError::NotFound
                | UpstreamError::Denied
                | UpstreamError::CredentialsRefused => State::Failed(error),
                UpstreamError::RateLimited { retry_after } if retry_after > PATIENCE => {
                    State::Failed(error)
                }
                _ => State::Broken(error),
            },
        };
    }

    /// Goes on with another answer, if it is about the same blob.
    fn joined(&mut self, body: Body, size: Option<u64>) -> State {
        match (self.size, size) {
            (Some(before), Some(now)) if before != now => State::Broken(changed()),
            (before, now) => {
                self.size = before.or(now);
                State::Open(body)
            }
        }
    }
}

fn changed() -> UpstreamError {
    UpstreamError::misbehaved("a blob that changes its size")
}
