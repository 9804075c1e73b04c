//! What outlives the process: one file, for larder's eyes only.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::store::write_secret;

use super::Settings;

/// The file's name where a directory is given, as it is for registry:3.
const NAME: &str = "larder-acme.json";

/// What is kept. Holds keys: no `Debug`.
#[derive(Deserialize, Serialize)]
pub(super) struct Kept {
    directory: String,
    hosts: Vec<String>,
    /// The account, as the client writes it.
    pub(super) account: Option<serde_json::Value>,
    pub(super) pair: Option<Pair>,
}

/// A certificate, those that it is certified by, and its key, PEM.
#[derive(Deserialize, Serialize)]
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Kept {
    pub(super) fn new(settings: &Settings, account: serde_json::Value, pair: Pair) -> Self {
        Self {
            directory: settings.directory.to_string(),
            hosts: settings.hosts.clone(),
            account: Some(account),
            pair: Some(pair),
        }
    }
}

fn path(settings: &Settings) -> PathBuf {
    if settings.cache.is_dir() {
        settings.cache.join(NAME)
    } else {
        settings.cache.clone()
    }
}

/// What was kept and is still wanted. What cannot be read is named, and will be replaced.
pub(super) fn read(settings: &Settings) -> Option<Kept> {
    let text = match std::fs::read(path(settings)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            complain(settings, &error.to_string());
            return None;
        }
    };
    // The parser's message would quote what it found: keys.
    let Ok(mut kept) = serde_json::from_slice::<Kept>(&text) else {
        complain(settings, "it was not written by larder, or is damaged");
        return None;
    };
    if kept.directory != settings.directory.as_str() {
        return None;
    }
    if kept.hosts != settings.hosts {
        kept.pair = None;
    }
    Some(kept)
}

/// Says that the file is of no use.
pub(super) fn complain(settings: &Settings, problem: &str) {
    let file = path(settings);
    let file = file.display();
    tracing::warn!(%file, problem, "the file of http.tls.letsencrypt.cachefile cannot be used: a new certificate will be got, and the file replaced");
}

/// Keeps it. Without the file the next start asks for another certificate.
pub(super) fn write(settings: &Settings, kept: &Kept) {
    let file = path(settings);
    let written = serde_json::to_vec_pretty(kept).map_err(|error| error.to_string());
    let written = written.and_then(|text| save(&file, &text));
    if let Err(error) = written {
        tracing::error!(error, "the certificate cannot be kept for the next start");
    }
}

fn save(file: &Path, text: &[u8]) -> Result<(), String> {
    write_secret(file, text).map_err(|error| error.to_string())
}
