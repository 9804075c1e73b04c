//! What is to be known of a larder to tell clients of it: out of its configuration, and this machine.

use std::path::Path;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use url::Url;

use crate::acme::Validity;
use crate::config::{AuthScheme, Config, Tls, Upstream, UpstreamName};
use crate::setup::{About, Mirrored};

use super::super::machine;
use super::super::place::{self, Listening, with_port};

/// An address that somebody typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    https: Option<bool>,
    /// Host, and port if it was written.
    place: String,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let typed = place::typed(text)?;
        if typed.url.path() != "/" {
            return Err(format!(
                "{text:?} has a path, and clients ask below /v2/ only: write a host and a port"
            ));
        }
        Ok(Self {
            https: typed.says_scheme.then_some(typed.url.scheme() == "https"),
            place: place::of_url(&typed.url),
        })
    }
}

/// What is known, and what about it is a guess.
pub(crate) struct Known {
    pub(crate) about: About,
    pub(crate) notes: Vec<String>,
}

/// What a configuration, and what was typed beside it, say.
pub(crate) fn about(
    config: &Config,
    address: Option<&Address>,
    ca: Option<&Path>,
) -> Result<Known, String> {
    if let (Some(prefix), None) = (&config.http.prefix, address) {
        return Err(format!(
            "http.prefix is {prefix}, and docker and others ask below /v2/ only: let something in front of larder serve /v2/, and name that with --address"
        ));
    }
    let mut notes = Vec::new();
    let tls = config.http.tls.as_ref();
    let (place, https) = if let Some(address) = address {
        let https = address.https.unwrap_or(tls.is_some());
        (address.place.clone(), https)
    } else {
        let (place, https, note) = public(config, None)?;
        notes.extend(note);
        (place, https)
    };
    let ca = match ca {
        Some(path) => Some(read(path)?),
        None if https => tls.and_then(|tls| own_ca(tls, &mut notes)),
        None => None,
    };
    let upstreams = config.upstreams.all.iter();
    let default = config.upstreams.default.as_ref();
    Ok(Known {
        about: About {
            address: place,
            https,
            ca,
            upstreams: upstreams
                .map(|(name, upstream)| mirrored(name, upstream))
                .collect(),
            default: default.map(ToString::to_string),
            asks_who: !matches!(config.auth.scheme, AuthScheme::Open),
        },
        notes,
    })
}

fn place_of(url: &Url) -> Result<String, String> {
    if url.path() != "/" {
        return Err(format!(
            "http.host has a path ({url}), and docker and others ask below /v2/ only: name an address without one with --address"
        ));
    }
    Ok(place::of_url(url))
}

/// Where clients reach larder by its configuration, whether by HTTPS, and what about that is a guess.
/// `port` is where it really listens, if that is known.
pub(crate) fn public(
    config: &Config,
    port: Option<u16>,
) -> Result<(String, bool, Option<String>), String> {
    if let Some(url) = &config.http.host {
        return Ok((place_of(url)?, url.scheme() == "https", None));
    }
    let Some(listening) = Listening::of(config) else {
        return Err(
            "larder listens on a socket in the file system: name the address that clients use with --address"
                .to_owned(),
        );
    };
    let tls = config.http.tls.as_ref();
    let standard = if tls.is_some() { 443 } else { 80 };
    let port = Some(port.unwrap_or(listening.port)).filter(|port| *port != standard);
    if !listening.is_everywhere() {
        return Ok((with_port(listening.host, port), tls.is_some(), None));
    }
    let found = tls.and_then(certified_name);
    let found = found.or_else(|| machine::addresses().into_iter().next());
    let note = match &found {
        Some(host) => format!(
            "{host} is taken from {}. --address names another; http.host in the configuration does for good.",
            if tls.is_some() {
                "the certificate"
            } else {
                "this machine"
            }
        ),
        None => {
            "This machine has no address that others reach: connect it, or name one with --address."
                .to_owned()
        }
    };
    let host = found.unwrap_or_else(|| "localhost".to_owned());
    Ok((with_port(&host, port), tls.is_some(), Some(note)))
}

/// The first name that the certificate is for.
fn certified_name(tls: &Tls) -> Option<String> {
    if let Some(acme) = &tls.lets_encrypt {
        return acme.hosts.first().cloned();
    }
    let chain = chain(&tls.certificate).ok()?;
    let first = webpki::EndEntityCert::try_from(chain.first()?).ok()?;
    let name = first
        .valid_dns_names()
        .find(|name| !name.starts_with('*'))?;
    Some(name.to_owned())
}

pub(crate) fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// A certificate that has signed itself is its own authority: it is what clients must be given.
fn own_ca(tls: &Tls, notes: &mut Vec<String>) -> Option<String> {
    if tls.lets_encrypt.is_some() {
        return None;
    }
    let chain = match chain(&tls.certificate) {
        Ok(chain) => chain,
        Err(error) => {
            notes.push(format!(
                "The certificate cannot be read ({error}): if clients do not trust it anyway, name the one that they are to trust with --ca."
            ));
            return None;
        }
    };
    let is_own = |it: &CertificateDer<'_>| Validity::of(it).is_some_and(|it| it.is_self_issued);
    if let [only] = chain.as_slice()
        && is_own(only)
    {
        return read(&tls.certificate).ok();
    }
    notes.push(
        "If the issuer of larder's certificate is not one that everybody trusts, name its certificate with --ca."
            .to_owned(),
    );
    None
}

/// The certificates of a PEM file, and nothing else that stands in it: a key, say.
fn read(path: &Path) -> Result<String, String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let blocks: Vec<_> = text
        .split(BEGIN)
        .skip(1)
        .filter_map(|block| block.split_once(END))
        .map(|(body, _)| format!("{BEGIN}{body}{END}"))
        .collect();
    chain(path)?;
    if blocks.is_empty() {
        let path = path.display();
        return Err(format!(
            "{path} has no certificate: it must be PEM, with BEGIN CERTIFICATE"
        ));
    }
    Ok(blocks.join("\n"))
}

/// Where a registry is itself, for clients that go there when larder does not answer.
fn mirrored(name: &UpstreamName, upstream: &Upstream) -> Mirrored {
    let url = &upstream.url;
    let own = place::of_url(url);
    let server = if name.is_docker_hub() {
        "https://registry-1.docker.io".to_owned()
    } else if own == name.as_str() {
        url.origin().ascii_serialization()
    } else {
        format!("https://{name}")
    };
    Mirrored {
        name: name.to_string(),
        server,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let file = (Path::new("c.yml"), format!("version: 0.1\n{text}"));
        Config::load(Some(file), std::iter::empty()).unwrap()
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (text, https, place) in [
            ("larder:5000", None, "larder:5000"),
            ("http://larder:5000/", Some(false), "larder:5000"),
            ("https://larder.lan", Some(true), "larder.lan"),
            ("https://larder.lan:443", Some(true), "larder.lan"),
            ("http://10.0.0.7:80", Some(false), "10.0.0.7"),
            ("[::1]:5000", None, "[::1]:5000"),
        ] {
            let place = place.to_owned();
            assert_eq!(text.parse(), Ok(Address { https, place }), "{text}");
        }
        for text in [
            "",
            ":5000",
            "a b",
            "ftp://a",
            "a:5000/v2",
            "a:x",
            "u@a",
            "a\"b",
            "é b",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_address_is_the_one_that_the_configuration_names() {
        for (http, url) in [
            ("{ host: 'https://larder.lan' }", "https://larder.lan"),
            (
                "{ host: 'http://larder.lan:5000' }",
                "http://larder.lan:5000",
            ),
            ("{ addr: '10.0.0.7:5000' }", "http://10.0.0.7:5000"),
            ("{ addr: '10.0.0.7:80' }", "http://10.0.0.7"),
            (
                "{ addr: 'a.lan:443', tls: { certificate: /no/c, key: k } }",
                "https://a.lan",
            ),
        ] {
            let known = about(&config(&format!("http: {http}")), None, None).unwrap();
            assert_eq!(known.about.url(), url, "{http}");
        }
        let typed = Some("b:7".parse::<Address>().unwrap());
        let known = about(&config("http: { addr: ':5000' }"), typed.as_ref(), None).unwrap();
        assert_eq!(known.about.url(), "http://b:7");
        let socket = config("http: { net: unix, addr: /run/larder.sock }");
        assert!(about(&socket, None, None).is_err_and(|it| it.contains("--address")));
        let prefix = config("http: { prefix: /a/ }");
        assert!(about(&prefix, None, None).is_err_and(|it| it.contains("--address")));
    }

    #[test]
    fn registries_are_where_their_names_say() {
        let config = config(
            "upstreams:\n  docker.io:\n  ghcr.io: { url: 'https://cache.lan' }\n  a.lan:5000: { url: 'http://a.lan:5000' }",
        );
        let known = about(&config, None, None).unwrap();
        let servers = known.about.upstreams.into_iter();
        let servers: Vec<_> = servers.map(|it| it.server).collect();
        assert_eq!(
            servers,
            [
                "http://a.lan:5000",
                "https://registry-1.docker.io",
                "https://ghcr.io"
            ]
        );
    }
}
