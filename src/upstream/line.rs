//! Whether upstreams may be asked at all: who says no is not kept waiting.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::error::UpstreamError;

/// How often somebody who is being answered looks whether he may still listen.
const LOOK: Duration = Duration::from_millis(250);

type Allowed = Arc<dyn Fn() -> bool + Send + Sync>;

/// The line to one upstream, which others can cut.
#[derive(Default)]
pub(super) struct Line(RwLock<Option<Allowed>>);

impl Line {
    pub(super) fn open_while(&self, allowed: impl Fn() -> bool + Send + Sync + 'static) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(allowed));
    }

    pub(super) fn check(&self) -> Result<(), UpstreamError> {
        let allowed = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match &*allowed {
            Some(allowed) if !allowed() => Err(UpstreamError::Offline),
            _ => Ok(()),
        }
    }

    /// Works until the line is cut; what was under way is dropped then, and its connection with it.
    pub(super) async fn until_cut<T>(
        &self,
        work: impl Future<Output = Result<T, UpstreamError>>,
    ) -> Result<T, UpstreamError> {
        let cut = async {
            loop {
                sleep(LOOK).await;
                if let Err(error) = self.check() {
                    return error;
                }
            }
        };
        tokio::select! {
            biased;
            result = work => result,
            error = cut => Err(error),
        }
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Line").field(&self.check().is_ok()).finish()
    }
}

/// Looks at a line from time to time, for one who is always busy.
#[derive(Debug)]
pub(super) struct Looks(Instant);

impl Looks {
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }

    pub(super) fn check(&mut self, line: &Line) -> Result<(), UpstreamError> {
        if self.0.elapsed() < LOOK {
            return Ok(());
        }
        self.0 = Instant::now();
        line.check()
    }
}
