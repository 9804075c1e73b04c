//! Answers to pulls and listings.

use std::borrow::Cow;

use http::header::{CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::access::Caller;
use crate::console::Pulling;
use crate::metrics::Source;
use crate::oci::accept::{self, Offer};
use crate::oci::manifest::linux_amd64_child;
use crate::oci::range::{self, Requested};
use crate::oci::{Digest, Page, Reference, RepositoryName, Target, media};
use crate::registry::{BlobAnswer, ManifestAnswer, Outcome, Resolved, Want};

use super::admission::Admitted;
use super::answer::{Answer, Described, FILTERS_APPLIED, Named};
use super::asked::Asked;
use super::body::Body;
use super::conditions;
use super::error::Refusal;
use super::events::{News, name_of};
use super::handler::Turn;

impl Turn {
    pub(super) async fn catalog(
        &self,
        asked: &Asked<'_>,
        caller: &Caller,
        page: &Page,
    ) -> Result<Answer, Refusal> {
        let access = &self.manners.access;
        // Who may list everything is told everything: a token for the catalog says nothing of
        // single repositories.
        let sees_all = access.is_open() || access.goes_by_tokens();
        let visible = |name: &RepositoryName| sees_all || self.may_pull(caller, name.as_str());
        let listed = self.registry.catalog(page, visible).await?;
        let json = serde_json::json!({});
        let answer = Answer::page(asked.path, json, "repositories", &listed);
        Ok(answer.cache(Outcome::Hit))
    }

    pub(super) async fn tags(
        &self,
        asked: &Asked<'_>,
        admitted: Admitted,
        target: &Target,
        page: &Page,
    ) -> Result<Answer, Refusal> {
        let resolved = self.resolved(admitted, target)?;
        let source = self.source_of(&resolved);
        let (listed, outcome) = self.registry.tags(&resolved.place, page).await?;
        let json = serde_json::json!({ "name": target.name.as_str() });
        let answer = Answer::page(asked.path, json, "tags", &listed);
        Ok(answer
            .cache(outcome)
            .from(source)
            .namespace(resolved.namespace.as_deref()))
    }

    pub(super) async fn referrers(
        &self,
        asked: &Asked<'_>,
        admitted: Admitted,
        target: &Target,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &Page,
    ) -> Result<Answer, Refusal> {
        let resolved = self.resolved(admitted, target)?;
        let source = self.source_of(&resolved);
        let (referrers, outcome) = self
            .registry
            .referrers(&resolved.place, subject, artifact_type, page)
            .await?;
        let answer = Answer::full(StatusCode::OK, media::OCI_INDEX, referrers.index);
        let answer = match artifact_type {
            Some(_) => answer.text(FILTERS_APPLIED, "artifactType"),
            None => answer,
        };
        let answer = match referrers.next_after {
            Some(last) => answer.next_page(asked.path, |query| {
                query.append_pair("last", last.as_str());
                if let Some(n) = page.n {
                    query.append_pair("n", &n.to_string());
                }
                if let Some(artifact_type) = artifact_type {
                    query.append_pair("artifactType", artifact_type);
                }
            }),
            None => answer,
        };
        Ok(answer
            .cache(outcome)
            .from(source)
            .namespace(resolved.namespace.as_deref()))
    }

    pub(super) async fn get_manifest(
        &self,
        asked: &Asked<'_>,
        admitted: Admitted,
        target: &Target,
        reference: &Reference,
        want: Want,
    ) -> Result<Answer, Refusal> {
        let resolved = self.resolved(admitted, target)?;
        let source = self.source_of(&resolved);
        let found = self.registry.manifest(&resolved.place, reference, want);
        let (manifest, outcome) = match found.await {
            Ok(found) => found,
            Err(error) => return Err(asked.in_vain(source, error)),
        };
        let accepted = header_lines(&asked.parts.headers, &header::ACCEPT);
        let by_tag = matches!(reference, Reference::Tag(_));
        let (manifest, outcome) = match accept::offer(accepted, &manifest.media_type, by_tag) {
            Offer::Stored => (manifest, outcome),
            Offer::NotAcceptable => {
                let media_type = manifest.media_type.to_string();
                return Err(Refusal::NotAcceptable { media_type });
            }
            Offer::LinuxAmd64 => Box::pin(self.linux_amd64(&resolved, &manifest, want)).await?,
        };
        let headers = &asked.parts.headers;
        let stored = manifest.bytes.as_ref();
        let describe = || Described::of(&manifest);
        let known = stored.and_then(|stored| stored.prepared.get(describe));
        let described = known.map_or_else(|| Cow::Owned(describe()), Cow::Borrowed);
        let answer = if conditions::is_known(headers, described.named.etag()) {
            Answer::empty(StatusCode::NOT_MODIFIED).named(&described.named)
        } else {
            let body = match (want, &manifest.bytes) {
                (Want::Content, Some(stored)) => Body::full(stored.bytes.clone()),
                _ => Body::empty(),
            };
            Answer::described(&described).body(body)
        };
        let answer = answer
            .cache(outcome)
            .from(source)
            .news_for(&self.around.events, || {
                News::pulled_manifest(&resolved.place, &manifest, reference)
            });
        Ok(answer.namespace(resolved.namespace.as_deref()))
    }

    fn source_of(&self, resolved: &Resolved) -> Source {
        resolved.place.counted_by(self.registry.metrics())
    }

    /// The image that an old client is given of a list it would not understand.
    async fn linux_amd64(
        &self,
        resolved: &Resolved,
        list: &ManifestAnswer,
        want: Want,
    ) -> Result<(ManifestAnswer, Outcome), Refusal> {
        let by_digest = Reference::Digest(list.digest.clone());
        let (list, _) = self
            .registry
            .manifest(&resolved.place, &by_digest, Want::Content)
            .await?;
        let child = list
            .bytes
            .and_then(|stored| linux_amd64_child(&stored.bytes));
        let Some(child) = child else {
            let media_type = list.media_type.to_string();
            return Err(Refusal::NotAcceptable { media_type });
        };
        let child = Reference::Digest(child);
        Ok(self
            .registry
            .manifest(&resolved.place, &child, want)
            .await?)
    }

    pub(super) async fn get_blob(
        &self,
        asked: &Asked<'_>,
        admitted: Admitted,
        target: &Target,
        digest: &Digest,
        want: Want,
    ) -> Result<Answer, Refusal> {
        let resolved = self.resolved(admitted, target)?;
        let source = self.source_of(&resolved);
        let found = self.registry.blob(&resolved.place, digest, want);
        let (blob, outcome) = match found.await {
            Ok(found) => found,
            Err(error) => return Err(asked.in_vain(source, error)),
        };
        let (headers, named) = (&asked.parts.headers, Named::of(digest));
        let size = blob.size;
        if conditions::is_other(headers, named.etag()) {
            return Err(Refusal::Precondition);
        }
        let answer = if conditions::is_known(headers, named.etag()) {
            Answer::empty(StatusCode::NOT_MODIFIED)
        } else {
            let range = conditions::range(headers, named.etag());
            let place = name_of(&resolved.place).clone();
            let client = asked.peer.address.ip().to_canonical();
            let pulls = self.console.pulls();
            let list = |size| pulls.begin(place, digest.clone(), client, (size, outcome));
            blob_answer(blob, want, range, list)?
        };
        let answer = answer
            .named(&named)
            .immutable()
            .cache(outcome)
            .from(source)
            .news_for(&self.around.events, || {
                News::pulled_blob(&resolved.place, digest, size)
            });
        Ok(answer.namespace(resolved.namespace.as_deref()))
    }
}

fn blob_answer(
    blob: BlobAnswer,
    want: Want,
    range: Option<&str>,
    list: impl FnOnce(u64) -> Pulling,
) -> Result<Answer, Refusal> {
    let size = blob.size;
    let (status, start, length) = match (want, range::requested(range, size)) {
        (Want::Content, Requested::Unsatisfiable) => return Err(Refusal::Range { size }),
        (Want::Content, Requested::Part(part)) => {
            (StatusCode::PARTIAL_CONTENT, part.start, part.len())
        }
        // RFC 9110 §14.2: only a GET has ranges.
        (Want::Description, _) | (_, Requested::Whole) => (StatusCode::OK, 0, size),
    };
    let octets = HeaderValue::from_static("application/octet-stream");
    let mut answer = Answer::empty(status)
        .length(length)
        .header(CONTENT_TYPE, octets);
    if status == StatusCode::PARTIAL_CONTENT {
        let end = start + length - 1;
        answer = answer.text(CONTENT_RANGE, &format!("bytes {start}-{end}/{size}"));
    }
    Ok(match (want, blob.content) {
        (Want::Content, Some(content)) => {
            let body = Body::blob(content.read(start, start + length), length);
            answer.body(body.listed(list(length)))
        }
        _ => answer,
    })
}

fn header_lines<'a>(
    headers: &'a HeaderMap,
    name: &header::HeaderName,
) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
}
