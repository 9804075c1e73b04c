//! Requests to hosts that the operator named and that are no registries: where events are sent,
//! what health checks ask.
//!
//! Owns how such hosts are reached: whom to trust, which proxy, no redirects. Knows nothing of
//! what is asked, and of no registry.

mod roots;

use std::error::Error as _;
use std::sync::Arc;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, redirect};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use url::{Host, Url};

pub use roots::system_roots;

/// A client for one address.
///
/// Redirects are not followed: the headers of a request may be secrets, and are for the host that
/// was named. `HTTPS_PROXY` and its like hold as they do for upstreams, but never for this
/// machine itself, as in Go's client, which Distribution uses.
///
/// # Errors
/// Why there can be no client, for the one who starts the program.
pub fn client(url: &Url) -> Result<Client, String> {
    let roots = if url.scheme() == "https" {
        system_roots()
    } else {
        Arc::new(RootCertStore::empty())
    };
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(redirect::Policy::none())
        .referer(false)
        .pool_max_idle_per_host(1)
        .tcp_nodelay(true)
        .user_agent(concat!("larder/", env!("CARGO_PKG_VERSION")));
    let client = if is_this_machine(url) {
        client.no_proxy()
    } else {
        client
    };
    client.build().map_err(reason)
}

/// Configured headers, ready to be sent, and never shown: they may be secrets.
///
/// # Errors
/// Which of them cannot be sent.
pub fn header_map(headers: &[(String, String)]) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let parsed = HeaderName::from_bytes(name.as_bytes()).ok();
        let (Some(parsed), Ok(mut value)) = (parsed, HeaderValue::from_str(value)) else {
            return Err(format!("headers: {name:?} cannot be sent as a header"));
        };
        value.set_sensitive(true);
        map.append(parsed, value);
    }
    Ok(map)
}

/// What went wrong, without the address: a path or a query may be a secret.
pub fn reason(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let error = error.without_url();
    let mut innermost = error.source();
    while let Some(next) = innermost.and_then(|cause| cause.source()) {
        innermost = Some(next);
    }
    innermost.map_or_else(|| error.to_string(), ToString::to_string)
}

/// As much of an address as may be shown: scheme, host and port. What comes after them, and a
/// username before them, may be secrets.
pub fn shown(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_an_address_is_no_secret() {
        let url = "https://user:word@hooks.example.com:8443/services/T0/B0?key=1#x";
        let url = Url::parse(url).unwrap();
        assert_eq!(shown(&url), "https://hooks.example.com:8443");
    }

    #[test]
    fn this_machine_is_reached_without_a_proxy() {
        let own = |url: &str| is_this_machine(&Url::parse(url).unwrap());
        assert!(own("http://localhost:80/") && own("http://127.0.0.2/") && own("http://[::1]/"));
        assert!(!own("http://localhost.example.com/") && !own("https://10.0.0.1/"));
    }
}
