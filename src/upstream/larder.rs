//! A larder's own lists, under `/api/v1/`: what its page reads, for whoever asks from elsewhere.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use super::client::Client;
use super::error::UpstreamError;
use super::transport::Request;

/// Of one part of a list. A thousand tags, each for a dozen platforms, are less than 2 MB.
const LONGEST: usize = 16 * 1024 * 1024;

/// Asks once, with the credentials that there are: without them a larder may show less instead of
/// asking for them.
pub(super) async fn read(
    client: &Client,
    path: &str,
    query: &[(&str, &str)],
) -> Result<Bytes, UpstreamError> {
    let mut url = client.beside(&format!("api/v1/{path}"));
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    let grant = client.tokens.basic().ok();
    let request = Request {
        method: Method::GET,
        url,
        headers: HeaderMap::new(),
        authorization: grant.as_ref().map(|grant| &grant.header),
    };
    let answer = client.transport.send(&request).await?;
    let failure = match answer.status() {
        StatusCode::OK => {
            answer.check_content()?;
            let body = answer.bytes(LONGEST, client.transport.timeouts.idle).await;
            return Ok(body?);
        }
        StatusCode::NOT_FOUND => UpstreamError::NotFound,
        StatusCode::UNAUTHORIZED if grant.is_some() => UpstreamError::CredentialsRefused,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => UpstreamError::Denied,
        status => UpstreamError::Failed {
            status: status.as_u16(),
        },
    };
    answer.discard().await;
    Err(failure)
}
