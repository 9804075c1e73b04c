//! Why the API does not do something, and what whoever asked is told.

use http::StatusCode;

use crate::console::TooMany;
use crate::oci::ErrorCode;
use crate::registry::{MarkError, WarmRefused};

use super::super::error::{Told, registry_error};

/// What only the API refuses.
#[derive(Debug)]
pub(in crate::http) enum ApiRefusal {
    /// The header is missing that a foreign page cannot send.
    NoAction,
    /// The body says nothing that can be done.
    Body(String),
    /// A pin or a hold.
    Mark(MarkError),
    /// An image is not fetched.
    Warm(WarmRefused),
    /// Nothing is fetched by that id.
    NoWarming,
    /// Too many listen.
    Follow(TooMany),
}

/// What is told.
pub(in crate::http) fn told(refusal: &ApiRefusal) -> Told {
    match refusal {
        ApiRefusal::NoAction => Told::new(
            StatusCode::FORBIDDEN,
            ErrorCode::Denied,
            "send the header X-Larder-Action: 1 with what changes something",
        ),
        ApiRefusal::Body(what) => Told::new(
            StatusCode::BAD_REQUEST,
            ErrorCode::Unsupported,
            what.clone(),
        ),
        ApiRefusal::Mark(MarkError::Registry(error))
        | ApiRefusal::Warm(WarmRefused::Registry(error)) => registry_error(error),
        ApiRefusal::Mark(error) => {
            let (status, code) = match error {
                MarkError::Unset(..) | MarkError::Unknown(_) => {
                    (StatusCode::NOT_FOUND, ErrorCode::ManifestUnknown)
                }
                _ => (StatusCode::CONFLICT, ErrorCode::Unsupported),
            };
            Told::new(status, code, error.to_string())
        }
        ApiRefusal::Warm(error @ WarmRefused::Full) => Told::new(
            StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::TooManyRequests,
            error.to_string(),
        ),
        ApiRefusal::NoWarming => Told::new(
            StatusCode::NOT_FOUND,
            ErrorCode::Unsupported,
            "nothing is fetched by that id, or it was done long ago",
        ),
        ApiRefusal::Follow(error) => Told::new(
            StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::Unavailable,
            error.to_string(),
        ),
    }
}
