//! Our own token service, for registries that anybody may pull from and only some may push to.
//!
//! dockerd learns from `GET /v2/` alone how to identify itself: asked for a password there, one
//! that has none pulls nothing. Sent here for a token instead, it comes with its password if it
//! has one, and gets an anonymous token if not. Docker, "Token Authentication Specification".

use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue};

use crate::access::{Caller, Unidentified, Wanted};
use crate::oci::route::RouteError;

use super::admission::{authorization, header_value};
use super::answer::Answer;
use super::asked::Asked;
use super::error::Refusal;
use super::handler::Turn;

impl Turn {
    pub(super) async fn token(
        &self,
        asked: &Asked<'_>,
        is_scoped: bool,
    ) -> Result<Answer, Refusal> {
        let access = &self.manners.access;
        let Some(challenge) = access.token_endpoint_challenge() else {
            return Err(Refusal::Route(RouteError::NotFound));
        };
        let header = authorization(&asked.parts.headers)?;
        let caller = match access.identify(header).await {
            Ok(caller) => caller,
            // Foreign credentials (a mirror's clients send those for Docker Hub) count as none,
            // but for a login, which exists to find out whether the password is right.
            Err(_) if is_scoped && access.may(&Caller::anonymous(), &Wanted::Catalog) => {
                Caller::anonymous()
            }
            Err(Unidentified::TooBusy) => return Err(Refusal::Busy),
            Err(Unidentified::Broken) => return Err(Refusal::UsersUnreadable),
            Err(Unidentified::BadCredentials | Unidentified::InvalidToken) => {
                return Err(Refusal::Unauthorized {
                    challenge: Some(header_value(&challenge)),
                    detail: serde_json::Value::Null,
                });
            }
        };
        let token = access.issue_token(&caller);
        let json = serde_json::json!({
            "token": token.token,
            "access_token": token.token,
            "expires_in": token.expires_in,
            "issued_at": token.issued_at,
        });
        let answer = Answer::full(StatusCode::OK, "application/json", json.to_string());
        Ok(answer.header(CACHE_CONTROL, HeaderValue::from_static("no-store")))
    }
}
