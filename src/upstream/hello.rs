//! A first word with an upstream, for whoever looks whether it is well.

use std::time::{Duration, Instant, SystemTime};

use http::header::DATE;
use http::{HeaderMap, Method};

use super::client::Client;
use super::error::UpstreamError;
use super::transport::Request;

/// What an upstream says when it is asked for nothing but itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The status: 200, or 401 where it wants to know who asks.
    pub status: u16,
    /// The time of day, as it sees it.
    pub date: Option<SystemTime>,
    /// How long it took, with connecting.
    pub took: Duration,
}

/// `GET /v2/`, once, as nobody.
pub(super) async fn hello(client: &Client) -> Result<Hello, UpstreamError> {
    let started = Instant::now();
    let request = Request {
        method: Method::GET,
        url: client.endpoint(""),
        headers: HeaderMap::new(),
        authorization: None,
    };
    let answer = client.transport.send(&request).await?;
    answer.check_content()?;
    let date = answer.header(DATE);
    let date = date.and_then(|text| httpdate::parse_http_date(text).ok());
    let status = answer.status().as_u16();
    answer.discard().await;
    Ok(Hello {
        status,
        date,
        took: started.elapsed(),
    })
}
