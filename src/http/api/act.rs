//! What somebody does by the API: deletes, pins, holds, and has fetched.

use http::StatusCode;
use hyper::body::Incoming;
use serde::Deserialize;

use crate::access::Caller;
use crate::console::api;
use crate::oci::route::RouteError;
use crate::oci::{Digest, Image, Platform, Reference, RepositoryName, Tag};
use crate::store::Kind;

use super::super::answer::Answer;
use super::super::asked::Asked;
use super::super::body;
use super::super::error::Refusal;
use super::super::events::News;
use super::super::handler::Turn;
use super::{ApiRefusal, answer, closed, may_keep};

/// The largest body that says what is to be fetched, in bytes.
const LONGEST: usize = 64 * 1024;

/// For how many platforms an image may be wanted.
const PLATFORMS: usize = 50;

/// What is to be fetched.
#[derive(Deserialize)]
struct Wanted {
    image: String,
    #[serde(default)]
    platforms: Vec<String>,
}

impl Turn {
    pub(super) async fn remove_tag(
        &self,
        name: &RepositoryName,
        tag: Option<Tag>,
    ) -> Result<Answer, Refusal> {
        let tag = tag.ok_or(Refusal::Route(RouteError::Parameter("tag")))?;
        let repository = self.repository_of(name).await?;
        self.registry.remove_tag(&repository, &tag).await?;
        let done = closed(Answer::empty(StatusCode::NO_CONTENT));
        Ok(match repository.kind() {
            Kind::Local => {
                let tag = Reference::Tag(tag);
                done.news(News::deleted_manifest(&repository, &tag, Vec::new()))
            }
            // What becomes of a copy is nobody's news.
            Kind::Mirror => done,
        })
    }

    pub(super) async fn pin(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        pinned: bool,
    ) -> Result<Answer, Refusal> {
        let repository = self.repository_of(name).await?;
        let pin = self.registry.pin(&repository, tag, pinned).await;
        pin.map_err(|error| Refusal::Api(ApiRefusal::Mark(error)))?;
        Ok(closed(Answer::empty(StatusCode::NO_CONTENT)))
    }

    pub(super) async fn hold(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        digest: Option<Digest>,
        begins: bool,
    ) -> Result<Answer, Refusal> {
        if begins && digest.is_none() {
            return Err(Refusal::Route(RouteError::Parameter("digest")));
        }
        let digest = digest.filter(|_| begins);
        let repository = self.repository_of(name).await?;
        let done = self.registry.hold(&repository, tag, digest.as_ref());
        done.await
            .map_err(|error| Refusal::Api(ApiRefusal::Mark(error)))?;
        Ok(closed(Answer::empty(StatusCode::NO_CONTENT)))
    }

    pub(super) async fn warm(
        &self,
        asked: &Asked<'_>,
        caller: &Caller,
        body: &mut Incoming,
    ) -> Result<Answer, Refusal> {
        let bytes = body::collect(body, LONGEST, self.manners.stall).await?;
        let (image, platforms) = wanted(&bytes.unwrap_or_default())?;
        let name = self.registry.names().for_pull(&image.target)?;
        let name = name.place.full_name();
        if !may_keep(&self.manners.access, caller, &name) {
            return Err(self.may_not_keep(asked, caller, name));
        }
        let warming = self.registry.warm_ahead(&image, &platforms);
        let warming = warming.map_err(|error| Refusal::Api(ApiRefusal::Warm(error)))?;
        Ok(answer(StatusCode::ACCEPTED, &api::warming(&warming)))
    }
}

fn wanted(bytes: &[u8]) -> Result<(Image, Vec<Platform>), Refusal> {
    let wrong = |what: String| Refusal::Api(ApiRefusal::Body(what));
    let wanted: Wanted = serde_json::from_slice(bytes).map_err(|_| {
        wrong(
            r#"the body is to be JSON: {"image": "python:3.12", "platforms": ["linux/amd64"]}"#
                .to_owned(),
        )
    })?;
    let image = wanted.image.parse::<Image>();
    let image = image.map_err(|error| wrong(format!("image: {error}")))?;
    if wanted.platforms.len() > PLATFORMS {
        return Err(wrong(format!("at most {PLATFORMS} platforms at a time")));
    }
    let platforms = wanted.platforms.iter().map(|text| {
        text.parse()
            .map_err(|error| wrong(format!("platforms: {error}")))
    });
    Ok((image, platforms.collect::<Result<_, _>>()?))
}
