//! `/api/v1/events`: server-sent events, for as long as somebody listens and may.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, StatusCode};
use tokio_util::sync::CancellationToken;

use crate::access::Caller;
use crate::console::Follower;

use super::super::admission::authorization;
use super::super::answer::Answer;
use super::super::asked::Asked;
use super::super::body::Body;
use super::super::error::Refusal;
use super::super::handler::{Manners, Turn};
use super::{ApiRefusal, closed};

/// How often it is asked again who listens.
const AGAIN: Duration = Duration::from_mins(1);

/// nginx collects answers before it passes them on, unless it is told.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Whether somebody may go on listening.
struct Leave {
    manners: Arc<Manners>,
    replaced: CancellationToken,
    caller: Caller,
    header: Option<String>,
    asked: Instant,
}

impl Leave {
    /// A reload ends it: whoever still may comes back at once. So does what ends a token or a user.
    async fn holds(&mut self) -> bool {
        if self.replaced.is_cancelled() {
            return false;
        }
        if self.header.is_none() || self.asked.elapsed() < AGAIN {
            return true;
        }
        self.asked = Instant::now();
        let again = self.manners.access.identify(self.header.as_deref());
        match again.await {
            Ok(caller) => caller.name() == self.caller.name(),
            Err(_) => self.caller.is_anonymous(),
        }
    }
}

impl Turn {
    pub(super) fn follow(&self, asked: &Asked<'_>, caller: &Caller) -> Result<Answer, Refusal> {
        let header = authorization(&asked.parts.headers)?;
        let follower = self.console.follow(self.sees(caller));
        let follower = follower.map_err(|error| Refusal::Api(ApiRefusal::Follow(error)))?;
        let is_open = self.manners.access.is_open();
        let leave = Leave {
            manners: Arc::clone(&self.manners),
            replaced: self.replaced.clone(),
            caller: caller.clone(),
            header: header.filter(|_| !is_open).map(str::to_owned),
            asked: Instant::now(),
        };
        let events = stream::unfold((follower, leave), next);
        let answer = Answer::of(StatusCode::OK, Body::stream(Box::pin(events)));
        Ok(closed(answer)
            .header(
                CONTENT_TYPE,
                HeaderValue::from_static("text/event-stream; charset=utf-8"),
            )
            .header(BUFFERING, HeaderValue::from_static("no")))
    }
}

async fn next((mut follower, mut leave): (Follower, Leave)) -> Option<(Bytes, (Follower, Leave))> {
    if !leave.holds().await {
        return None;
    }
    let text = follower.next().await?;
    Some((Bytes::from(text), (follower, leave)))
}
