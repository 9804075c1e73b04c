//! `http`: where larder listens, what its own address is, and what every answer carries.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::notice::ConfigError;
use super::reader::{Field, Section, quoted};
use super::secret::Secret;
use super::tls::Tls;
use super::{headers, tls};

/// `http`: how clients reach the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// `addr` and `net`: where to listen (default TCP, `:5000`).
    pub listen: Listen,
    /// What the URLs in answers begin with; `None` makes them relative, which holds
    /// behind any proxy.
    pub host: Option<Url>,
    /// What goes before `/v2/` in every path: `/a/b/`, with both slashes, never only `/`.
    pub prefix: Option<String>,
    /// What tokens of our own are made with. `None`: a random one at each start.
    pub secret: Option<Secret>,
    /// `tls`: HTTPS instead of HTTP.
    pub tls: Option<Tls>,
    /// `http2`: whether HTTP/2 is offered with TLS (default true; the key is its opposite, `disabled`).
    pub http2: bool,
    /// `h2c.enabled`: whether clients that begin with HTTP/2 in the clear are understood (default false).
    pub h2c: bool,
    /// Headers added to every answer, valid as HTTP header names and values. A name may occur more than once.
    pub headers: Vec<(String, String)>,
    /// How long requests in flight may take to finish after a signal to stop (default 30s; zero: not at all).
    pub drain_timeout: Duration,
    /// `debug`: the second listener, for health and metrics.
    pub debug: Debug,
}

/// A place to listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// As written: `host:port`, with an empty host meaning every address.
    Tcp(String),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// `http.debug`: a second listener in the clear, which shows how the registry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debug {
    /// `addr`: where it listens, like [`Listen::Tcp`] (default nowhere).
    pub addr: Option<String>,
    /// `prometheus`: what it says in numbers.
    pub prometheus: Prometheus,
}

/// `http.debug.prometheus`: metrics on the second listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prometheus {
    /// `enabled` (default false).
    pub enabled: bool,
    /// `path`: where they are (default `/metrics`).
    pub path: String,
}

/// Reads `http`.
pub(super) fn read(root: &mut Section<'_>) -> Result<Http, ConfigError> {
    let mut http = root.section("http")?;
    let listen = listen(&mut http)?;
    let settings = Http {
        listen,
        host: http.get("host", Field::url)?,
        prefix: http.get("prefix", prefix)?.flatten(),
        secret: http.get("secret", Field::secret)?,
        tls: tls::read(http.section("tls")?)?,
        http2: !switch(http.section("http2")?, "disabled")?,
        h2c: switch(http.section("h2c")?, "enabled")?,
        headers: headers::read(http.section("headers")?)?,
        drain_timeout: http
            .get("draintimeout", Field::duration)?
            .unwrap_or(Duration::from_secs(30)),
        debug: debug(http.section("debug")?)?,
    };
    http.finish();
    Ok(settings)
}

fn listen(http: &mut Section<'_>) -> Result<Listen, ConfigError> {
    let words = [("tcp", false), ("unix", true)];
    let is_socket = http.get("net", |field| field.choice(&words))?;
    if is_socket == Some(true) {
        let path = http.required("addr", "/run/larder.sock", |field| {
            let wrong = field.error("with `net: unix` this is the path of the socket; write for example /run/larder.sock");
            let text = field.text()?;
            if text.contains('/') { Ok(text) } else { Err(wrong) }
        })?;
        return Ok(Listen::Unix(path.into()));
    }
    let addr = http.get("addr", address)?;
    Ok(Listen::Tcp(addr.unwrap_or_else(|| ":5000".to_owned())))
}

/// `host:port` to listen at.
fn address(field: Field<'_>) -> Result<String, ConfigError> {
    let place = field.clone();
    let text = field.text()?;
    let wrong = |text: &str| {
        let hint = if text.contains('/') {
            "; for a socket in the file system write `net: unix` beside it"
        } else {
            ""
        };
        let text = quoted(text);
        place.error(format!(
            "{text} is not an address to listen on; write for example :5000 or 127.0.0.1:5000{hint}"
        ))
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong(&text))?;
    // A host with a colon in it is IPv6, and ambiguous without brackets.
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let readable = match bare {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.contains([':', '/', ' ', '[', ']']),
    };
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    if !readable || !digits || port.parse::<u16>().is_err() {
        return Err(wrong(&text));
    }
    Ok(text)
}

/// `/a/b/`. Distribution wants both slashes, and answers nothing when one is missing: here it is added.
/// Only characters that every client and proxy sends as they are, so that there is one spelling.
fn prefix(field: Field<'_>) -> Result<Option<String>, ConfigError> {
    let place = field.clone();
    let text = field.text()?;
    let bare = text.strip_prefix('/').unwrap_or(&text);
    let bare = bare.strip_suffix('/').unwrap_or(bare);
    if bare.is_empty() {
        return Ok(None);
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let part = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(allowed);
    if bare.split('/').all(part) {
        Ok(Some(format!("/{bare}/")))
    } else {
        let text = quoted(&text);
        Err(place.error(format!(
            "{text} is not a prefix; write for example /registry/, of letters, digits, `-`, `.`, `_` and `~`"
        )))
    }
}

/// A section that is one switch, off by default.
fn switch(mut section: Section<'_>, key: &'static str) -> Result<bool, ConfigError> {
    let is_on = section.get(key, Field::bool)?;
    section.finish();
    Ok(is_on.unwrap_or(false))
}

fn debug(mut section: Section<'_>) -> Result<Debug, ConfigError> {
    let addr = section.get("addr", address)?;
    let mut prometheus = section.section("prometheus")?;
    let enabled = prometheus.get("enabled", Field::bool)?;
    let path = prometheus.get("path", |field| {
        let wrong = field.error("must be a path, beginning with /; write for example /metrics");
        let text = field.line()?;
        if text.starts_with('/') {
            Ok(text)
        } else {
            Err(wrong)
        }
    })?;
    prometheus.finish();
    section.finish();
    Ok(Debug {
        addr,
        prometheus: Prometheus {
            enabled: enabled.unwrap_or(false),
            path: path.unwrap_or_else(|| "/metrics".to_owned()),
        },
    })
}
