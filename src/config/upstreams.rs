//! The registries that larder mirrors: `upstreams`, and `proxy`, which is Distribution's way to name one.
//!
//! Owns what an upstream may be called, where well-known ones are found, which one is the default, and
//! where credentials come from. Knows nothing of requests: what is done with all this is `crate::upstream`'s.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use url::Url;

use super::dockerconfig;
use super::notice::ConfigError;
use super::reader::{Field, Section, quoted};
use super::secret::Secret;
use super::source::Origin;

/// `upstreams` and `proxy`: the registries that are mirrored. Empty for a plain registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upstreams {
    /// The upstream that a name without a registry belongs to. It is the one `proxy.remoteurl` names; else
    /// `docker.io`, if it is listed; else none, even if only one is listed. A daemon that has larder among its
    /// `registry-mirrors` means Docker Hub by such a name, and `org/app` of another registry would be the
    /// wrong image under the right name; who wants that anyway says so with `proxy.remoteurl`.
    pub default: Option<UpstreamName>,
    /// All of them, the default included.
    pub all: BTreeMap<UpstreamName, Upstream>,
}

/// One registry that is mirrored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Where it is: scheme, host, port, and a path that goes before `/v2/` (without a slash at its end,
    /// unless it is `/`). Default: `https://` and the name, with Docker Hub at `registry-1.docker.io`.
    pub url: Url,
    /// Who to log in as; `None` means anonymous.
    pub credentials: Option<Credentials>,
    /// A PEM file with certificates to trust besides the system's, for this upstream only.
    pub ca: Option<PathBuf>,
    /// Hosts, with port if not the scheme's own, that may be asked for tokens, and given the credentials for it,
    /// besides the host of `url`. Lower case, sorted.
    pub token_hosts: Vec<String>,
}

/// A user name and a password or access token. There is never one without the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password or access token.
    pub password: Secret,
}

/// What an upstream is called: a registry's host, with its port if it has one, in lower case.
/// `index.docker.io` and `registry-1.docker.io` are `docker.io`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpstreamName(String);

impl UpstreamName {
    /// Docker Hub's name, whatever it was called.
    pub const DOCKER_HUB: &'static str = "docker.io";

    /// Reads `host` or `host:port`. The error says what is wrong, without the place.
    pub fn parse(text: &str) -> Result<Self, String> {
        // As long as a file name may be, with room for a suffix.
        const LONGEST: usize = 240;
        let name = text.to_ascii_lowercase();
        let (host, port) = name
            .split_once(':')
            .map_or((name.as_str(), None), |(host, port)| (host, Some(port)));
        let label = |label: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            !label.is_empty()
                && label.bytes().all(allowed)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // A leading zero would be another spelling of the same port, hence another directory.
        let number = |port: &str| {
            port.bytes().all(|byte| byte.is_ascii_digit())
                && !port.starts_with('0')
                && port.parse::<u16>().is_ok()
        };
        if name.len() > LONGEST || !host.split('.').all(label) || !port.is_none_or(number) {
            return Err(format!(
                "{} is not the name of a registry; write a host name like ghcr.io or lab.example.com:5000",
                quoted(text)
            ));
        }
        Ok(match name.as_str() {
            "index.docker.io" | "registry-1.docker.io" => Self(Self::DOCKER_HUB.to_owned()),
            _ => Self(name),
        })
    }

    /// The name as it stands before a repository's: `ghcr.io`, `lab:5000`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory under `repositories/` that holds this upstream's: a colon is not allowed there. No two names
    /// share a directory, because no name contains a `_`.
    pub fn directory(&self) -> String {
        self.0.replace(':', "_")
    }

    /// Whether this is Docker Hub, whose official images have `library/` before their name.
    pub fn is_docker_hub(&self) -> bool {
        self.0 == Self::DOCKER_HUB
    }

    /// The name a registry at `url` gets when it is given none.
    fn of(url: &Url) -> Option<Self> {
        let host = url.host_str()?;
        let name = url
            .port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Self::parse(&name).ok()
    }

    /// Where the registry is, if nothing else is said.
    fn default_url(&self) -> Result<Url, url::ParseError> {
        if self.is_docker_hub() {
            Url::parse("https://registry-1.docker.io")
        } else {
            Url::parse(&format!("https://{self}"))
        }
    }
}

impl fmt::Display for UpstreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Registries whose tokens come from a host of another name. Keyed by the host that is asked and not by the
/// upstream's name: an upstream *called* docker.io but found elsewhere has no business with auth.docker.io.
const KNOWN_TOKEN_HOSTS: [(&str, &str); 4] = [
    ("registry-1.docker.io", "auth.docker.io"),
    ("lscr.io", "ghcr.io"),
    ("registry.gitlab.com", "gitlab.com"),
    ("docker.elastic.co", "docker-auth.elastic.co"),
];

/// Reads `upstreams` and `proxy`.
pub(super) fn read(root: &mut Section<'_>) -> Result<Upstreams, ConfigError> {
    let mut drafts = BTreeMap::new();
    for (name, field) in root.section_or_names("upstreams")?.into_fields() {
        if name == "default" {
            return Err(field.error(
                "not an upstream: docker.io is the default if it is listed, and proxy.remoteurl makes another one it",
            ));
        }
        let name = UpstreamName::parse(&name).map_err(|problem| field.error(problem))?;
        if drafts.contains_key(&name) {
            return Err(field.error(format!("{name} is listed twice; remove one")));
        }
        let draft = Draft::read(field.section()?)?;
        drafts.insert(name, draft);
    }
    let hub = UpstreamName(UpstreamName::DOCKER_HUB.to_owned());
    let listed_hub = drafts.contains_key(&hub).then_some(hub);
    let default = proxy(root, &mut drafts)?.or(listed_hub);
    let all = drafts
        .into_iter()
        .map(|(name, draft)| draft.finish(&name).map(|upstream| (name, upstream)))
        .collect::<Result<_, _>>()?;
    Ok(Upstreams { default, all })
}

/// An upstream as far as its own section goes; `proxy` may add to it.
struct Draft {
    origin: Origin,
    url: Option<Url>,
    credentials: Option<Credentials>,
    dockerconfig: Option<(PathBuf, Origin)>,
    ca: Option<PathBuf>,
    token_hosts: Vec<String>,
}

impl Draft {
    fn read(mut section: Section<'_>) -> Result<Self, ConfigError> {
        let dockerconfig = section.get("dockerconfig", |field| {
            let origin = field.origin().clone();
            Ok((field.path()?, origin))
        })?;
        let draft = Self {
            origin: section.origin().clone(),
            url: section.get("url", registry_url)?,
            credentials: credentials(&mut section)?,
            dockerconfig,
            ca: section.get("ca", Field::path)?,
            token_hosts: section.get("tokenhosts", token_hosts)?.unwrap_or_default(),
        };
        if draft.dockerconfig.is_some() && draft.credentials.is_some() {
            return Err(section.error(
                "has both a dockerconfig and a username: it is unclear which one counts; remove one",
            ));
        }
        section.finish();
        Ok(draft)
    }

    /// Fills in what is known of a registry of this name.
    fn finish(self, name: &UpstreamName) -> Result<Upstream, ConfigError> {
        let url = match self.url {
            Some(url) => url,
            None => name.default_url().map_err(|error| {
                // `999.1.1.1` is a name but not a host.
                let problem = format!("no host can be called so ({error}); write its url");
                ConfigError::new(&self.origin, &format!("upstreams.{name}"), problem)
            })?,
        };
        let credentials = match self.dockerconfig {
            None => self.credentials,
            Some((path, origin)) => {
                let hosts: Vec<_> = [Some(name.clone()), UpstreamName::of(&url)]
                    .into_iter()
                    .flatten()
                    .collect();
                let found = dockerconfig::credentials(&path, &hosts);
                let key = format!("upstreams.{name}.dockerconfig");
                Some(found.map_err(|problem| ConfigError::new(&origin, &key, problem))?)
            }
        };
        let mut token_hosts = self.token_hosts;
        let known = KNOWN_TOKEN_HOSTS
            .iter()
            .find(|(host, _)| url.host_str() == Some(host));
        token_hosts.extend(known.map(|(_, token_host)| (*token_host).to_owned()));
        token_hosts.sort();
        token_hosts.dedup();
        Ok(Upstream {
            url,
            credentials,
            ca: self.ca,
            token_hosts,
        })
    }
}

/// `proxy`: names the default upstream, adding it to those listed or agreeing with one of them.
fn proxy(
    root: &mut Section<'_>,
    drafts: &mut BTreeMap<UpstreamName, Draft>,
) -> Result<Option<UpstreamName>, ConfigError> {
    let mut section = root.section("proxy")?;
    let remote = section.take("remoteurl");
    let credentials = credentials(&mut section)?;
    let Some(field) = remote else {
        if credentials.is_some() {
            section.note(
                "proxy.username and proxy.password have no effect: there is no proxy.remoteurl",
            );
        }
        section.finish();
        return Ok(None);
    };
    section.finish();
    let conflict = |what: &str| {
        field.error(format!(
            "disagrees with the {what} of the same registry under upstreams; remove one of them"
        ))
    };
    let url = registry_url(field.clone())?;
    // The name of the host; or the name that the very same place has under `upstreams`.
    let named = UpstreamName::of(&url).filter(|name| drafts.contains_key(name));
    let found = named.or_else(|| {
        let mut same = drafts
            .iter()
            .filter(|(_, draft)| draft.url.as_ref() == Some(&url));
        same.next().map(|(name, _)| name.clone())
    });
    let Some(name) = found.or_else(|| UpstreamName::of(&url)) else {
        return Err(field.error(
            "its host cannot be a name; list it under upstreams with a name of your choice and this url",
        ));
    };
    let draft = drafts.entry(name.clone()).or_insert_with(|| Draft {
        origin: field.origin().clone(),
        url: None,
        credentials: None,
        dockerconfig: None,
        ca: None,
        token_hosts: Vec::new(),
    });
    if draft.url.as_ref().is_some_and(|listed| *listed != url) {
        return Err(conflict("url"));
    }
    draft.url = Some(url);
    if let Some(credentials) = credentials {
        let listed = draft.credentials.replace(credentials);
        if draft.dockerconfig.is_some() || listed.is_some_and(|old| Some(old) != draft.credentials)
        {
            return Err(conflict("login"));
        }
    }
    Ok(Some(name))
}

/// `username` and `password`, which make sense together only.
fn credentials(section: &mut Section<'_>) -> Result<Option<Credentials>, ConfigError> {
    let username = section.get("username", Field::text)?;
    let Some(field) = section.take("password") else {
        return match username {
            None => Ok(None),
            Some(_) => Err(section.error("has a username but no password; write both or none")),
        };
    };
    let lonely = field.error("is a password without a username; write both or none");
    let password = field.secret()?;
    let username = username.ok_or(lonely)?;
    Ok(Some(Credentials { username, password }))
}

/// A registry's URL in the one form that [`Upstream::url`] has.
fn registry_url(field: Field<'_>) -> Result<Url, ConfigError> {
    let wrong = field.error("must end before /v2/, which is added to it");
    let mut url = field.url()?;
    let path = url.path().trim_end_matches('/').to_owned();
    if path == "/v2" || path.ends_with("/v2") {
        return Err(wrong);
    }
    url.set_path(&path);
    // People write what they call Docker Hub; this is where it is.
    let hub = UpstreamName::of(&url).filter(UpstreamName::is_docker_hub);
    match hub.map(|hub| hub.default_url()) {
        Some(Ok(hub)) if url.scheme() == "https" && path.is_empty() => Ok(hub),
        _ => Ok(url),
    }
}

fn token_hosts(field: Field<'_>) -> Result<Vec<String>, ConfigError> {
    let origin = field.clone();
    let parse = |text: String| {
        // Not through an alias: auth hosts are taken literally.
        UpstreamName::parse(&text)
            .map(|_| text.to_ascii_lowercase())
            .map_err(|problem| origin.error(problem))
    };
    field.texts()?.into_iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let table = [
            ("docker.io", Some("docker.io")),
            ("Index.Docker.IO", Some("docker.io")),
            ("registry-1.docker.io", Some("docker.io")),
            ("LAB:5000", Some("lab:5000")),
            ("10.0.0.7", Some("10.0.0.7")),
            ("", None),
            ("a..b", None),
            ("-a", None),
            ("a_b", None),
            ("a/b", None),
            ("a:", None),
            ("a:0", None),
            ("a:080", None),
            ("a:70000", None),
            ("a:1:2", None),
            ("..", None),
            ("é.de", None),
        ];
        for (text, expected) in table {
            let name = UpstreamName::parse(text).ok();
            assert_eq!(name.as_ref().map(UpstreamName::as_str), expected, "{text}");
        }
        let directory = UpstreamName::parse("lab:5000").map(|name| name.directory());
        assert_eq!(directory.as_deref(), Ok("lab_5000"));
    }
}
