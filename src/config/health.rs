//! `health`: what is looked at to tell whether the registry is well.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::headers;
use super::notice::ConfigError;
use super::reader::{Field, Section, quoted};
use super::secret::Secret;

/// What is looked at, and how often.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// `storagedriver`: whether the data can be reached; `None` when switched off, which is the default.
    pub storage: Option<Check>,
    /// `file`: files whose existence means that the registry is to be taken out of service.
    pub files: Vec<FileCheck>,
    /// `http`: servers that must answer.
    pub http: Vec<HttpCheck>,
    /// `tcp`: places that must accept connections.
    pub tcp: Vec<TcpCheck>,
}

/// How often something is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// The time between two looks (default 10s). Never zero.
    pub interval: Duration,
    /// How many failures in a row make it count as failing (default 0); 0 and 1 mean at once.
    pub threshold: u32,
}

/// A file that must not be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileCheck {
    /// The file.
    pub file: PathBuf,
    /// How often to look.
    pub check: Check,
}

/// A server that must answer a HEAD request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCheck {
    /// What is asked for; without a user name and password, which are in `headers`.
    pub uri: Url,
    /// Sent with the request, valid as HTTP headers.
    pub headers: Vec<(String, Secret)>,
    /// `statuscode`: what it must answer, 100 to 599 (default 200).
    pub status: u16,
    /// How long it may take (default 5s). Never zero.
    pub timeout: Duration,
    /// How often to look.
    pub check: Check,
}

/// A place that must accept connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpCheck {
    /// `host:port`.
    pub addr: String,
    /// How long it may take (default 5s). Never zero.
    pub timeout: Duration,
    /// How often to look.
    pub check: Check,
}

const TIMEOUT: Duration = Duration::from_secs(5);

/// Reads `health`.
pub(super) fn read(root: &mut Section<'_>) -> Result<Health, ConfigError> {
    let mut section = root.section("health")?;
    let mut storage = section.section("storagedriver")?;
    let enabled = storage.get("enabled", Field::bool)?.unwrap_or(false);
    let storage = finished(check, storage)?;
    let health = Health {
        storage: enabled.then_some(storage),
        files: list(&mut section, "file", file)?,
        http: list(&mut section, "http", http)?,
        tcp: list(&mut section, "tcp", tcp)?,
    };
    section.finish();
    Ok(health)
}

/// A list of sections, each read to its end.
fn list<'n, T>(
    section: &mut Section<'n>,
    key: &'static str,
    read: fn(&mut Section<'n>) -> Result<T, ConfigError>,
) -> Result<Vec<T>, ConfigError> {
    let fields = section.take(key).map_or_else(Vec::new, Field::items);
    let sections = fields.into_iter().map(Field::section);
    sections.map(|section| finished(read, section?)).collect()
}

fn finished<'n, T>(
    read: fn(&mut Section<'n>) -> Result<T, ConfigError>,
    mut section: Section<'n>,
) -> Result<T, ConfigError> {
    let value = read(&mut section)?;
    section.finish();
    Ok(value)
}

fn check(section: &mut Section<'_>) -> Result<Check, ConfigError> {
    Ok(Check {
        interval: section.duration_or("interval", Duration::from_secs(10))?,
        threshold: section.get("threshold", Field::count)?.unwrap_or(0),
    })
}

fn file(section: &mut Section<'_>) -> Result<FileCheck, ConfigError> {
    Ok(FileCheck {
        file: section.required("file", "/run/larder/maintenance", Field::path)?,
        check: check(section)?,
    })
}

fn http(section: &mut Section<'_>) -> Result<HttpCheck, ConfigError> {
    let (uri, headers) = headers::request(section, "uri")?;
    Ok(HttpCheck {
        uri,
        headers,
        status: section.get("statuscode", status)?.unwrap_or(200),
        timeout: section.duration_or("timeout", TIMEOUT)?,
        check: check(section)?,
    })
}

/// Zero means the default, as in Distribution.
fn status(field: Field<'_>) -> Result<u16, ConfigError> {
    let wrong = field.error("is not an HTTP status; write for example 200");
    match field.count()? {
        0 => Ok(200),
        code => u16::try_from(code)
            .ok()
            .filter(|code| (100..600).contains(code))
            .ok_or(wrong),
    }
}

fn tcp(section: &mut Section<'_>) -> Result<TcpCheck, ConfigError> {
    let addr = section.required("addr", "db.example.com:5432", |field| {
        let place = field.clone();
        let text = field.line()?;
        let is_address = text.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty()
                && !text.contains('/')
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if is_address {
            return Ok(text);
        }
        let text = quoted(&text);
        Err(place.error(format!(
            "{text} is not a host with a port; write for example db.example.com:5432"
        )))
    })?;
    Ok(TcpCheck {
        addr,
        timeout: section.duration_or("timeout", TIMEOUT)?,
        check: check(section)?,
    })
}
