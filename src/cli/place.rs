//! Where a larder is: host and port, as a configuration, a URL or somebody who types has them.

use url::{Host, Url};

use super::machine;
use crate::config::{Config, Listen};

/// Where the larder of a configuration listens.
pub(super) struct Listening<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
}

impl<'a> Listening<'a> {
    /// `None` where that is a socket in the file system.
    pub(super) fn of(config: &'a Config) -> Option<Self> {
        let Listen::Tcp(address) = &config.http.listen else {
            return None;
        };
        // The configuration has looked whether it is an address.
        let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
        Some(Self {
            host,
            port: port.parse().unwrap_or(5000),
        })
    }

    /// Whether it is every address of the machine.
    pub(super) fn is_everywhere(&self) -> bool {
        machine::is_any(self.host)
    }
}

/// Host and port, the port only where there is one to be written.
pub(super) fn with_port(host: &str, port: Option<u16>) -> String {
    port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The same of a URL, whose scheme may say the port.
pub(super) fn of_url(url: &Url) -> String {
    with_port(url.host_str().unwrap_or_default(), url.port())
}

/// An address that somebody typed: a host and a port, or a URL.
#[derive(Clone, Debug)]
pub(super) struct Typed {
    pub(super) url: Url,
    /// Whether it says by which scheme; else that of `url` is a guess.
    pub(super) says_scheme: bool,
}

/// Reads it. It has no name, no password and no query.
pub(super) fn typed(text: &str) -> Result<Typed, String> {
    let wrong = || {
        format!(
            "{text:?} is no address: write a host and a port, as in 192.168.1.10:5000 or https://registry.example.com"
        )
    };
    let says_scheme = text.contains("://");
    let full = if says_scheme {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let url = Url::parse(&full).map_err(|_| wrong())?;
    let is_plain = url.query().is_none() && url.fragment().is_none();
    let is_anonymous = url.username().is_empty() && url.password().is_none();
    let is_name = match url.host().ok_or_else(wrong)? {
        Host::Domain(name) => name.bytes().all(is_of_name),
        Host::Ipv4(_) | Host::Ipv6(_) => true,
    };
    let is_http = ["http", "https"].contains(&url.scheme());
    if is_http && is_plain && is_anonymous && is_name {
        Ok(Typed { url, says_scheme })
    } else {
        Err(wrong())
    }
}

/// The URL of a server that somebody typed, by HTTP if it does not say.
pub(super) fn typed_url(text: &str) -> Result<Url, String> {
    typed(text).map(|typed| typed.url)
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.' || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_typed_as_a_url_or_as_host_and_port() {
        for (text, url) in [
            ("larder:5000", "http://larder:5000/"),
            ("192.168.1.10", "http://192.168.1.10/"),
            ("[::1]:5000", "http://[::1]:5000/"),
            (
                "https://larder.lan/registry/",
                "https://larder.lan/registry/",
            ),
        ] {
            assert_eq!(
                typed_url(text).map(String::from).as_deref(),
                Ok(url),
                "{text}"
            );
        }
        for text in [
            "",
            ":5000",
            "a b",
            "ftp://a",
            "a:x",
            "u@a",
            "https://u:p@a",
            "a?b",
            "a#b",
            "a\"b",
            "é b",
        ] {
            let error = typed_url(text).unwrap_err();
            assert!(error.contains("192.168.1.10:5000"), "{text}: {error}");
        }
    }
}
