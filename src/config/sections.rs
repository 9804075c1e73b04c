//! The sections of the file that are read key by key: version, auth, log, storage, http, cache and limits.
//!
//! Owns their key names and defaults. Upstreams, which are read all together, have a module of their own.

use std::path::PathBuf;
use std::time::Duration;

use super::notice::ConfigError;
use super::reader::{Field, Section, quoted};
use super::{Cache, Http, Level, Log, LogFormat, Storage, UploadPurging};

const HOUR: Duration = Duration::from_hours(1);

/// `version: 0.1` marks the file as a registry's, and is mandatory as in Distribution.
pub(super) fn check_version(root: &mut Section<'_>) -> Result<(), ConfigError> {
    match root.take("version") {
        None => Err(root.error("the file has no version; write `version: 0.1` as its first line")),
        Some(field) => {
            let origin = field.origin().clone();
            match field.text()?.as_str() {
                "0.1" => Ok(()),
                other => Err(ConfigError::new(
                    &origin,
                    "version",
                    format!("{} is not supported; write 0.1", quoted(other)),
                )),
            }
        }
    }
}

/// There is no access control yet: whoever asks for it must not get a registry that is open to everyone.
pub(super) fn check_auth(root: &mut Section<'_>) -> Result<(), ConfigError> {
    let auth = root.section_or_names("auth")?;
    match auth.remaining().find(|(kind, _)| *kind != "none") {
        None => Ok(()),
        Some((kind, origin)) => Err(ConfigError::new(
            origin,
            &format!("auth.{kind}"),
            "larder cannot check passwords or tokens yet, and refuses to start open to everyone; put a reverse \
             proxy that checks them in front, and write `auth: none`",
        )),
    }
}

/// `log`, and the deprecated `loglevel`.
pub(super) fn log(root: &mut Section<'_>) -> Result<Log, ConfigError> {
    let deprecated = root.take("loglevel");
    let mut log = root.section("log")?;
    if let Some(field) = &deprecated {
        field.note(Level::Info, "is an old name: write log.level");
    }
    let level = log
        .take("level")
        .or(deprecated)
        .map_or(Ok(Level::Info), level)?;
    let format = log.get("formatter", format)?.unwrap_or(LogFormat::Text);
    log.finish();
    Ok(Log { level, format })
}

fn level(field: Field<'_>) -> Result<Level, ConfigError> {
    field.choice(&[
        ("info", Level::Info),
        ("error", Level::Error),
        ("warn", Level::Warn),
        ("debug", Level::Debug),
    ])
}

fn format(field: Field<'_>) -> Result<LogFormat, ConfigError> {
    field.choice(&[
        ("text", LogFormat::Text),
        ("json", LogFormat::Json),
        // Its lines are JSON too, with other names for two fields.
        ("logstash", LogFormat::Json),
    ])
}

/// `storage`. Distribution demands a driver; here the file system is understood.
pub(super) fn storage(root: &mut Section<'_>) -> Result<Storage, ConfigError> {
    let mut storage = root.section_or_names("storage")?;
    check_drivers(&storage)?;
    let mut filesystem = storage.section("filesystem")?;
    let directory = filesystem.get("rootdirectory", Field::path)?;
    filesystem.finish();
    let mut delete = storage.section("delete")?;
    let deletable = delete.get("enabled", Field::bool)?;
    delete.finish();
    let mut maintenance = storage.section("maintenance")?;
    let mut readonly = maintenance.section("readonly")?;
    let is_readonly = readonly.get("enabled", Field::bool)?;
    readonly.finish();
    let upload_purging = upload_purging(maintenance.section("uploadpurging")?)?;
    maintenance.finish();
    storage.finish();
    Ok(Storage {
        root: directory.unwrap_or_else(|| PathBuf::from("/var/lib/registry")),
        delete: deletable.unwrap_or(false),
        readonly: is_readonly.unwrap_or(false),
        upload_purging,
    })
}

/// Data must not silently go to a local directory when the file says it belongs in a bucket.
fn check_drivers(storage: &Section<'_>) -> Result<(), ConfigError> {
    const OTHERS: [&str; 8] = [
        "s3", "s3aws", "gcs", "azure", "inmemory", "oss", "swift", "rados",
    ];
    const OURS: [&str; 3] = ["filesystem", "delete", "maintenance"];
    for (name, origin) in storage.remaining() {
        let problem = if OTHERS.contains(&name) && storage.has("filesystem") {
            "this is a second storage driver beside filesystem: only one can hold the data, and larder has only \
             filesystem; remove the other"
        } else if OTHERS.contains(&name) || !(OURS.contains(&name) || storage.has("filesystem")) {
            "larder keeps its data in files only; write `filesystem: {rootdirectory: /var/lib/registry}` instead"
        } else {
            continue;
        };
        return Err(ConfigError::new(
            origin,
            &format!("storage.{name}"),
            problem,
        ));
    }
    Ok(())
}

/// Distribution fails to start unless all keys are there; here each has a default.
fn upload_purging(mut section: Section<'_>) -> Result<Option<UploadPurging>, ConfigError> {
    let enabled = section.get("enabled", Field::bool)?.unwrap_or(true);
    let purging = UploadPurging {
        age: section.get("age", positive)?.unwrap_or(168 * HOUR),
        interval: section.get("interval", positive)?.unwrap_or(24 * HOUR),
        dry_run: section.get("dryrun", Field::bool)?.unwrap_or(false),
    };
    section.finish();
    Ok(enabled.then_some(purging))
}

fn positive(field: Field<'_>) -> Result<Duration, ConfigError> {
    let zero = field.error("must not be zero; write for example 24h");
    match field.duration()? {
        Duration::ZERO => Err(zero),
        duration => Ok(duration),
    }
}

/// `http`.
pub(super) fn http(root: &mut Section<'_>) -> Result<Http, ConfigError> {
    let mut http = root.section("http")?;
    http.get("net", |field| field.choice(&[("tcp", ())]))?;
    let addr = http.get("addr", address)?;
    let host = http.get("host", Field::url)?;
    let headers = headers(http.section("headers")?)?;
    let drain_timeout = http.get("draintimeout", Field::duration)?;
    http.finish();
    Ok(Http {
        addr: addr.unwrap_or_else(|| ":5000".to_owned()),
        host,
        headers,
        drain_timeout: drain_timeout.unwrap_or(Duration::from_secs(30)),
    })
}

fn address(field: Field<'_>) -> Result<String, ConfigError> {
    let place = field.clone();
    let text = field.text()?;
    let wrong = |text: &str| {
        let text = quoted(text);
        place.error(format!(
            "{text} is not an address to listen on; write for example :5000 or 127.0.0.1:5000"
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

/// `http.headers`: each name with a list of values. Checked here so that nothing can fail, or be smuggled
/// into an answer, later.
fn headers(section: Section<'_>) -> Result<Vec<(String, String)>, ConfigError> {
    // Each of these tells where an answer ends, and only the server knows.
    const OWN: [&str; 5] = [
        "connection",
        "content-length",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let mut headers = Vec::new();
    for (name, field) in section.into_fields() {
        if !is_token(&name) {
            return Err(field.error("is not the name of an HTTP header"));
        }
        if OWN.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(field.error("is set by the server itself; remove it"));
        }
        let wrong = field.error("must be printable ASCII, on one line");
        for value in field.texts()? {
            if !value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
                return Err(wrong);
            }
            headers.push((name.clone(), value));
        }
    }
    Ok(headers)
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

/// `cache`, which Distribution does not have.
pub(super) fn cache(root: &mut Section<'_>) -> Result<Cache, ConfigError> {
    let mut section = root.section("cache")?;
    let cache = Cache {
        fresh_for: section
            .get("freshfor", Field::duration)?
            .unwrap_or(Duration::from_mins(5)),
        offline: section.get("offline", Field::bool)?.unwrap_or(false),
        keep_for: section.get("keepfor", |field| not_yet(field).duration())?,
        max_size: section.get("maxsize", |field| not_yet(field).size())?,
        min_free: section.get("minfree", |field| not_yet(field).min_free())?,
    };
    section.finish();
    Ok(cache)
}

fn not_yet(field: Field<'_>) -> Field<'_> {
    field.note(
        Level::Warn,
        "not effective yet in this version: nothing is evicted",
    );
    field
}

/// `catalog.maxentries` and `tags.maxtags`. Zero means the default, as in Distribution.
pub(super) fn page_limit(
    root: &mut Section<'_>,
    section: &'static str,
    key: &'static str,
) -> Result<usize, ConfigError> {
    let mut section = root.section(section)?;
    let limit = section.get(key, Field::integer)?;
    section.finish();
    Ok(limit.filter(|limit| *limit > 0).unwrap_or(1000))
}
