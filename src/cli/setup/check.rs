//! Whether a client pulls through larder: its files say so, larder answers as the client asks, and
//! where the client itself is at hand it does it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::HumanBytes;

use crate::config::Config;
use crate::oci::{Digest, Hasher, Image, Reference, RepositoryName, Role, Walk};
use crate::setup::{About, Client, ClientText};
use crate::upstream::{Credentials, Settings, Timeouts, Upstream, UpstreamError};

use super::super::{images, say};
use super::{Arguments, apply, client};

/// What is pulled where nobody says what: the smallest image that Docker Hub is sure to have.
const SMALL: &str = "hello-world";

/// What was found, line by line.
#[derive(Default)]
pub(super) struct Findings {
    failures: usize,
}

impl Findings {
    pub(super) fn bad(&mut self, line: &str) {
        self.failures += 1;
        say(&format!("FAIL  {line}"));
    }
}

/// Says that something is as it should be.
pub(super) fn good(line: &str) {
    say(&format!("ok    {line}"));
}

/// Says what was not tried.
pub(super) fn unknown(line: &str) {
    say(&format!("-     {line}"));
}

/// An image, and the registry that it is of.
pub(super) struct Wanted {
    /// `docker.io`; `None`: it is larder's own.
    pub(super) upstream: Option<String>,
    /// Without the registry.
    pub(super) name: RepositoryName,
    pub(super) reference: Reference,
}

pub(super) fn check(
    arguments: &Arguments,
    config: &Config,
    about: &About,
    text: &ClientText,
) -> Result<(), String> {
    let mut findings = Findings::default();
    files(&mut findings, text, &arguments.root);
    let wanted = wanted(arguments.image.as_ref(), config, about);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let client = arguments.client;
    match &wanted {
        Some(wanted) => {
            let ca = arguments.ca.as_deref().or_else(|| own_certificate(config));
            let asked = runtime.block_on(ask(client, about, ca, wanted));
            match asked {
                Ok(line) => good(&line),
                Err(line) => findings.bad(&line),
            }
        }
        None => unknown("nothing is pulled: no image is named (--image)"),
    }
    if arguments.root == Path::new("/") {
        client::run(&mut findings, client, about, wanted.as_ref());
    }
    match findings.failures {
        0 => Ok(()),
        1 => Err("1 of these is not as it should be".to_owned()),
        count => Err(format!("{count} of these are not as they should be")),
    }
}

fn own_certificate(config: &Config) -> Option<&Path> {
    let tls = config.http.tls.as_ref()?;
    tls.lets_encrypt
        .is_none()
        .then_some(tls.certificate.as_path())
        .filter(|path| path.is_file())
}

fn files(findings: &mut Findings, text: &ClientText, root: &Path) {
    let name = text.name;
    for file in &text.files {
        match apply::plan(file, root) {
            Ok(change) if change.is_none() => {
                good(&format!("{} names larder", change.path.display()));
            }
            Ok(change) => findings.bad(&format!(
                "{} does not say what it should: larder setup {name} --apply",
                change.path.display(),
            )),
            Err(problem) => findings.bad(&String::from(problem)),
        }
    }
    for addition in &text.additions {
        let without = &addition.without;
        match apply::plan(&addition.file, root) {
            Ok(change) if !change.is_there() => unknown(&format!(
                "{} is not there, and {without}; larder setup {name} says what goes there",
                change.path.display()
            )),
            Ok(change) if change.is_none() => {
                good(&format!("{} needs nothing more", change.path.display()));
            }
            Ok(change) => findings.bad(&format!(
                "{}: {without}: larder setup {name} --apply",
                change.path.display()
            )),
            Err(apply::Problem::Unreadable(text) | apply::Problem::Conflict(text)) => {
                findings.bad(&text);
            }
        }
    }
}

/// What is pulled.
fn wanted(image: Option<&Image>, config: &Config, about: &About) -> Option<Wanted> {
    let configured = config.cache.warm.images.first();
    let small = SMALL.parse().ok();
    let small = small.filter(|_| about.default.as_deref() == Some("docker.io"));
    let image = image.cloned().or_else(|| configured.cloned()).or(small)?;
    let is_upstream = |name: &str| about.upstreams.iter().any(|it| it.name == name);
    let target = &image.target;
    let (upstream, name) = match (&target.host, target.name.split_first()) {
        (Some(host), _) => (Some(host.clone()), target.name.clone()),
        (None, (first, Some(rest))) if is_upstream(first) => (Some(first.to_owned()), rest),
        _ => (about.default.clone(), target.name.clone()),
    };
    let is_official = upstream.as_deref() == Some("docker.io") && name.is_single();
    let library: Option<RepositoryName> = "library".parse().ok();
    let name = match library.filter(|_| is_official) {
        Some(library) => name.under(&library),
        None => name,
    };
    Some(Wanted {
        upstream,
        name,
        reference: image.reference,
    })
}

impl Wanted {
    /// As it is typed.
    pub(super) fn shown(&self) -> String {
        let upstream = self.upstream.as_ref();
        let host = upstream.map_or_else(String::new, |upstream| format!("{upstream}/"));
        format!("{host}{}", self.image())
    }

    /// Without the registry.
    pub(super) fn image(&self) -> String {
        match &self.reference {
            Reference::Tag(tag) => format!("{}:{tag}", self.name),
            Reference::Digest(digest) => format!("{}@{digest}", self.name),
        }
    }

    /// The name on the wire, and what stands in `ns`.
    fn on_the_wire(&self, client: Client, about: &About) -> (RepositoryName, Option<String>) {
        let Some(upstream) = &self.upstream else {
            return (self.name.clone(), None);
        };
        let prefixed = || {
            let directory = upstream.replace(':', "_").parse();
            directory.map_or_else(|_| self.name.clone(), |it| self.name.under(&it))
        };
        match client {
            Client::Docker if about.default.as_ref() == Some(upstream) => (self.name.clone(), None),
            Client::Docker | Client::Podman | Client::Buildkit => (prefixed(), None),
            Client::Containerd | Client::K3s => (self.name.clone(), Some(upstream.clone())),
        }
    }
}

/// Pulls all of an image for this machine's platform, as the client would. Says what came.
async fn ask(
    client: Client,
    about: &About,
    ca: Option<&Path>,
    wanted: &Wanted,
) -> Result<String, String> {
    let url = about.url();
    let (name, ns) = wanted.on_the_wire(client, about);
    let parsed = url.parse().map_err(|error| format!("{url}: {error}"))?;
    let settings = Settings {
        name: "larder".to_owned(),
        url: parsed,
        credentials: credentials(),
        ca: ca.map(PathBuf::from),
        token_hosts: Vec::new(),
    };
    // It answers when its upstream has.
    let timeouts = Timeouts {
        headers: Duration::from_mins(2),
        exchange: Duration::from_mins(2),
        ..Timeouts::default()
    };
    let server = match ns {
        Some(ns) => Upstream::for_namespace(settings, timeouts, &ns),
        None => Upstream::with_timeouts(settings, timeouts),
    };
    let server = server.map_err(|error| error.to_string())?;
    let started = Instant::now();
    let came = pull(&server, &name, &wanted.reference).await;
    let came = came.map_err(|error| refused(&url, wanted, &error))?;
    let what = wanted.shown();
    let (parts, bytes) = (came.parts, HumanBytes(came.bytes));
    let took = started.elapsed();
    let how = came
        .how
        .map_or_else(String::new, |how| format!(", X-Cache: {how}"));
    Ok(format!(
        "{url} gives {what} as {} asks for it: {parts} parts, {bytes}, in {took:.1?}{how}",
        client.name()
    ))
}

fn credentials() -> Option<Credentials> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    Some(Credentials {
        username: variable("LARDER_USERNAME")?,
        password: variable("LARDER_PASSWORD")?,
    })
}

fn refused(url: &str, wanted: &Wanted, error: &Problem) -> String {
    let what = wanted.shown();
    match error {
        Problem::Damaged(digest) => format!("{url} sends something else than {digest} of {what}"),
        Problem::Image(reason) => format!("{url}: {what} cannot be understood: {reason}"),
        Problem::Upstream(UpstreamError::Unreachable { reason }) => format!(
            "{url} cannot be reached from here: {reason}. Does larder run, and does the firewall let its port in?"
        ),
        Problem::Upstream(UpstreamError::Timeout { what }) => {
            format!("{url} does not answer in time ({what}): does the firewall let its port in?")
        }
        Problem::Upstream(UpstreamError::NotFound) => format!(
            "{url} does not have {what} and cannot get it: its log says why; --image names another"
        ),
        Problem::Upstream(UpstreamError::Denied | UpstreamError::CredentialsRefused) => {
            format!("{url} denies {what}: LARDER_USERNAME and LARDER_PASSWORD say who asks")
        }
        Problem::Upstream(UpstreamError::Failed { status }) => {
            format!("{url} answers {status} for {what}: its log says why")
        }
        Problem::Upstream(error) => format!("{url}: {what}: {error}"),
    }
}

/// Why a pull came to nothing.
enum Problem {
    Upstream(UpstreamError),
    Damaged(Digest),
    Image(String),
}

impl From<UpstreamError> for Problem {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(error)
    }
}

/// What came.
#[derive(Default)]
struct Came {
    parts: usize,
    bytes: u64,
    /// What larder says of how it made the first answer.
    how: Option<String>,
}

/// Reads an image to its last layer: every byte is hashed, none is kept.
async fn pull(
    server: &Upstream,
    name: &RepositoryName,
    reference: &Reference,
) -> Result<Came, Problem> {
    let mut came = Came::default();
    let top = server.get_manifest(name, reference).await?;
    came.how.clone_from(&top.from_cache);
    let digest = match reference {
        Reference::Digest(digest) => digest.clone(),
        Reference::Tag(_) => Digest::of(&top.bytes),
    };
    let mut walk = Walk::new(&[images::this_machine()], digest.clone());
    while let Some(ask) = walk.ask() {
        let wanted = &ask.part.digest;
        let bytes = if *wanted == digest {
            top.bytes.to_vec()
        } else if ask.role == Role::Config {
            blob(server, name, wanted).await?
        } else {
            let reference = Reference::Digest(wanted.clone());
            server.get_manifest(name, &reference).await?.bytes.to_vec()
        };
        walk.found(ask, Some(&bytes));
    }
    let anatomy = walk.finish();
    if let Some(fault) = anatomy.fault {
        return Err(Problem::Image(fault.to_string()));
    }
    if let Some(missing) = anatomy.unlisted.first() {
        return Err(Problem::Image(format!("it does not come for {missing}")));
    }
    for part in &anatomy.parts {
        came.parts += 1;
        came.bytes += part.part.size;
    }
    for part in anatomy.blobs() {
        blob_read(server, name, &part.part.digest, |_| {}).await?;
    }
    Ok(came)
}

async fn blob(
    server: &Upstream,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    blob_read(server, name, digest, |more| bytes.extend_from_slice(more)).await?;
    Ok(bytes)
}

async fn blob_read(
    server: &Upstream,
    name: &RepositoryName,
    digest: &Digest,
    mut each: impl FnMut(&[u8]),
) -> Result<(), Problem> {
    let mut stream = server.get_blob(name, digest, 0).await?;
    let mut hasher = Hasher::new(digest.algorithm());
    while let Some(bytes) = stream.next().await? {
        hasher.update(&bytes);
        each(&bytes);
    }
    if hasher.finish() == *digest {
        Ok(())
    } else {
        Err(Problem::Damaged(digest.clone()))
    }
}
