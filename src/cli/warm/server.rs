//! The larder that runs already: where it is, and how it is asked.

use std::path::Path;
use std::time::Duration;

use url::Url;

use crate::config::Config;
use crate::registry::WarmSource;
use crate::upstream::{Credentials, Settings, Timeouts, Upstream};

use super::super::own;
use super::super::place::{self, Listening};
use super::Target;

/// The server at an address that somebody typed.
pub(super) fn at(url: Url, ca: Option<&Path>) -> Result<Target, String> {
    let names = vec![place::of_url(&url)];
    asked(url, ca, names).map_err(|error| format!("--server: {error}"))
}

/// The server that holds the data directory, by its configuration.
pub(super) fn of(config: &Config, ca: Option<&Path>) -> Result<Target, String> {
    let url = url_of(config)?;
    // A certificate of one's own is usually signed by what stands in the same file, or by itself.
    let own = config
        .http
        .tls
        .as_ref()
        .map(|tls| tls.certificate.as_path());
    asked(url, ca.or(own), own::names(config))
}

fn asked(url: Url, ca: Option<&Path>, names: Vec<String>) -> Result<Target, String> {
    let shown = format!("the larder at {url}");
    let credentials = credentials()?;
    let settings = Settings {
        name: "the server".to_owned(),
        url,
        credentials,
        ca: ca.map(Path::to_owned),
        token_hosts: Vec::new(),
    };
    // It answers when its upstream has answered, which it waits for patiently, and it sends what
    // comes from there.
    let timeouts = Timeouts {
        headers: Duration::from_mins(5),
        exchange: Duration::from_mins(10),
        idle: Duration::from_mins(5),
        ..Timeouts::default()
    };
    let server = Upstream::with_timeouts(settings, timeouts).map_err(|error| error.to_string())?;
    Ok(Target {
        source: WarmSource::Server(server),
        own: None,
        names,
        shown,
    })
}

/// Who asks a server, as the environment says.
pub(in super::super) fn credentials() -> Result<Option<Credentials>, String> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (variable("LARDER_USERNAME"), variable("LARDER_PASSWORD")) {
        (Some(username), Some(password)) => Ok(Some(Credentials { username, password })),
        (None, None) => Ok(None),
        _ => Err("set both LARDER_USERNAME and LARDER_PASSWORD, or none".to_owned()),
    }
}

/// Where the server of this configuration can be reached from this machine.
pub(in super::super) fn url_of(config: &Config) -> Result<Url, String> {
    let http = &config.http;
    let Some(listening) = Listening::of(config) else {
        return Err(
            "the larder that uses the data directory listens on a socket: stop it, or give it an address and name that with --server"
                .to_owned(),
        );
    };
    let Listening { host, port } = listening;
    let public = http.host.as_ref().and_then(Url::host_str);
    let (scheme, host) = match (&http.tls, listening.is_everywhere()) {
        // A certificate is for the name that clients use.
        (Some(_), true) => ("https", public.unwrap_or("localhost")),
        (Some(_), false) => ("https", public.unwrap_or(host)),
        (None, true) => ("http", "127.0.0.1"),
        (None, false) => ("http", host),
    };
    let path = http.prefix.as_deref().unwrap_or("/");
    let text = format!("{scheme}://{host}:{port}{path}");
    text.parse().map_err(|error| {
        format!("{text} is no address ({error}): name the larder that runs with --server")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let file = (Path::new("c.yml"), format!("version: 0.1\n{text}"));
        Config::load(Some(file), std::iter::empty()).unwrap()
    }

    #[test]
    fn the_server_is_where_its_configuration_says() {
        for (http, url) in [
            ("{}", "http://127.0.0.1:5000/"),
            ("{ addr: '0.0.0.0:5001' }", "http://127.0.0.1:5001/"),
            ("{ addr: '[::]:5001' }", "http://127.0.0.1:5001/"),
            ("{ addr: '10.0.0.7:5000' }", "http://10.0.0.7:5000/"),
            ("{ addr: ':5000', prefix: /a/ }", "http://127.0.0.1:5000/a/"),
            (
                "{ addr: ':443', host: 'https://larder.lan', tls: { certificate: c, key: k } }",
                "https://larder.lan/",
            ),
            (
                "{ addr: ':5443', tls: { certificate: c, key: k } }",
                "https://localhost:5443/",
            ),
        ] {
            let config = config(&format!("http: {http}"));
            assert_eq!(
                url_of(&config).map(String::from).as_deref(),
                Ok(url),
                "{http}"
            );
        }
        let socket = config("http: { net: unix, addr: /run/larder.sock }");
        assert!(url_of(&socket).unwrap_err().contains("--server"));
    }
}
