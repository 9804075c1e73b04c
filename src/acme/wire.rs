//! Requests to the authority, by the same client as all requests to hosts that the operator named.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use reqwest::Client;

use crate::outbound;

/// How long one request may take.
const LIMIT: Duration = Duration::from_mins(1);

pub(super) struct Wire(pub(super) Client);

impl HttpClient for Wire {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body
                .collect()
                .await
                .map_err(|never| -> Error { match never {} })?;
            let request = client
                .request(head.method, head.uri.to_string())
                .headers(head.headers)
                .timeout(LIMIT)
                .body(body.to_bytes());
            let failed = |error| Error::Other(outbound::reason(error).into());
            let answer = request.send().await.map_err(failed)?;
            Ok(BytesResponse::from(Response::from(answer)))
        })
    }
}
