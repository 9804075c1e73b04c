//! `log`: what is logged, and how.

use super::notice::ConfigError;
use super::reader::{Field, Section};

/// `log`: what is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The least important level that is written (default info).
    pub level: Level,
    /// How a line looks (default text).
    pub format: LogFormat,
    /// `fields`: what every line carries besides, name and value (default nothing).
    pub fields: Vec<(String, String)>,
    /// `accesslog.disabled`, turned round: a line for each request, in Apache's combined format (default true for a
    /// file, as in Distribution; false without one).
    pub access_log: bool,
}

/// How important a message is, the most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something needs attention.
    Warn,
    /// Something happened.
    Info,
    /// For those who look for a fault.
    Debug,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// `log`, and the deprecated `loglevel`.
pub(super) fn read(root: &mut Section<'_>) -> Result<Log, ConfigError> {
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
    let fields = log.section("fields")?.into_fields().into_iter();
    let fields = fields.map(|(name, field)| Ok((name, field.line()?)));
    let fields = fields.collect::<Result<_, _>>()?;
    let mut access = log.section("accesslog")?;
    let disabled = access.get("disabled", Field::bool)?;
    access.finish();
    log.finish();
    Ok(Log {
        level,
        format,
        fields,
        access_log: !disabled.unwrap_or(false),
    })
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
