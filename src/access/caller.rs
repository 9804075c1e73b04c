//! Somebody who asks.

use std::sync::Arc;

use super::jwt::Grant;
use super::own_token::Line;

/// Who is asking, as far as that is known. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Caller(Arc<Who>);

#[derive(Debug)]
pub(super) enum Who {
    Anonymous,
    /// Of the htpasswd file.
    User {
        name: String,
        /// Which line said so.
        line: Line,
        /// When the token was issued, in seconds since 1970, if it was a token that said so.
        since: Option<u64>,
    },
    /// With a token of the token service.
    Token(Grant),
}

impl Caller {
    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self(Arc::new(Who::Anonymous))
    }

    pub(super) fn user(name: String, line: Line, since: Option<u64>) -> Self {
        Self(Arc::new(Who::User { name, line, since }))
    }

    pub(super) fn token(grant: Grant) -> Self {
        Self(Arc::new(Who::Token(grant)))
    }

    pub(super) fn who(&self) -> &Who {
        &self.0
    }

    /// What the caller is called, which a token need not say.
    pub fn name(&self) -> Option<&str> {
        match &*self.0 {
            Who::Anonymous => None,
            Who::User { name, .. } => Some(name),
            Who::Token(grant) => grant.subject.as_deref(),
        }
    }

    /// Whether nothing at all is known of the caller.
    pub fn is_anonymous(&self) -> bool {
        matches!(*self.0, Who::Anonymous)
    }
}
