//! What larder says when it starts: what it does, where, and how it is used from here on.

use crate::config::{Challenge, Config};
use crate::http::Server;

use super::machine;
use super::place::Listening;
use super::setup::about;

/// Says it in the log, which a terminal shows too. The last line is the one that says that larder
/// listens.
pub(super) fn greet(config: &Config, server: &Server) -> Result<(), String> {
    let names = config.upstreams.all.keys();
    let mirrored: Vec<String> = names.map(ToString::to_string).collect();
    let mirrored = if mirrored.is_empty() {
        "nothing".into()
    } else {
        mirrored.join(", ")
    };
    tracing::info!("mirroring {mirrored}");
    tracing::info!("storing in {}", whole(config).display());
    if config.cache.offline {
        tracing::warn!("offline, by cache.offline: no registry is asked, what is here is served");
    }
    if let Some(url) = url(config, server.port()) {
        if config.upstreams.default.is_some() {
            tracing::info!(
                "to use it from docker, put {{\"registry-mirrors\": [\"{url}\"]}} into /etc/docker/daemon.json; `larder setup docker` says it all, and other clients have theirs: `larder setup --help`"
            );
        } else {
            tracing::info!(
                "to use it: `larder setup docker`, and other clients have theirs: `larder setup --help`"
            );
        }
        let others = others(config, server.port(), &url);
        if !others.is_empty() {
            tracing::info!("it is also reached at {}", others.join(", "));
        }
        tracing::info!("to look at it with a browser: {url}/");
    }
    let is_mirror = !config.upstreams.all.is_empty();
    let asks_nobody = config.auth.challenge == Challenge::Auto && !config.auth.anonymous.is_empty();
    if is_mirror && asks_nobody {
        tracing::info!(
            "docker is not asked for a password at /v2/, since it would send the one for Docker Hub: name a host in auth.challenge under which docker can log in and push"
        );
    }
    let url = server.url().map_err(|error| error.to_string())?;
    tracing::info!("listening on {url}");
    Ok(())
}

/// The data directory as it is found from anywhere.
fn whole(config: &Config) -> std::path::PathBuf {
    let root = &config.storage.root;
    std::path::absolute(root).unwrap_or_else(|_| root.clone())
}

/// The address that clients use, as far as it is known.
fn url(config: &Config, port: Option<u16>) -> Option<String> {
    let (place, https, _) = about::public(config, port).ok()?;
    let scheme = if https { "https" } else { "http" };
    Some(format!("{scheme}://{place}"))
}

/// Under which other addresses it is reached where it listens on all of them.
fn others(config: &Config, port: Option<u16>, url: &str) -> Vec<String> {
    // A certificate is for names, and http.host says which one is meant.
    let (Some(port), None, None) = (port, &config.http.tls, &config.http.host) else {
        return Vec::new();
    };
    if !Listening::of(config).is_some_and(|it| it.is_everywhere()) {
        return Vec::new();
    }
    let all = machine::addresses()
        .into_iter()
        .chain(["localhost".to_owned()]);
    all.map(|host| format!("http://{host}:{port}"))
        .filter(|other| other != url)
        .collect()
}
