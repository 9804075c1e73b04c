//! What clients must be told so that they use this larder: which file, what in it, and how that goes
//! into a file that is there already.
//!
//! Pure: nothing here opens a file or a socket, so that the command line and a page can show the
//! same. What is written where is from docs/clients.md.

mod clients;
mod merge;

use serde::Serialize;

pub use merge::MergeError;
use merge::Wants;

/// What the texts say about a larder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Where clients reach it: a host, and a port unless it is the scheme's own, as in an image's
    /// name. Of the characters that names and addresses have; nothing is quoted.
    pub address: String,
    /// Whether it speaks HTTPS.
    pub https: bool,
    /// The certificate that clients must be given to trust it, PEM; `None` if they trust it anyway.
    pub ca: Option<String>,
    /// The registries that it mirrors.
    pub upstreams: Vec<Mirrored>,
    /// The name of the one that a name without a registry means, if there is one.
    pub default: Option<String>,
    /// Whether it asks for a password somewhere.
    pub asks_who: bool,
}

/// A registry that is mirrored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrored {
    /// `docker.io`, `ghcr.io`, `registry.lan:5000`
    pub name: String,
    /// Where it is itself: `https://registry-1.docker.io`
    pub server: String,
}

impl About {
    /// `http://larder:5000`
    pub fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The host without the port.
    pub fn host(&self) -> &str {
        match self.address.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => &self.address,
        }
    }

    /// Whether only this machine reaches it there. Docker takes plain HTTP from such an address.
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost" || host.starts_with("127.") || host == "[::1]"
    }

    fn mirrors_docker_hub(&self) -> bool {
        self.default.as_deref() == Some("docker.io")
    }
}

/// A program that pulls images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// dockerd.
    Docker,
    /// containerd, as ctr, nerdctl and Kubernetes use it.
    Containerd,
    /// podman, CRI-O, skopeo, buildah.
    Podman,
    /// buildkitd, as `docker buildx` starts it.
    Buildkit,
    /// k3s, and RKE2.
    K3s,
}

impl Client {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Docker,
        Self::Containerd,
        Self::Podman,
        Self::Buildkit,
        Self::K3s,
    ];

    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::Podman => "podman",
            Self::Buildkit => "buildkit",
            Self::K3s => "k3s",
        }
    }
}

/// What one client must be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClientText {
    /// [Its name](Client::name).
    pub name: &'static str,
    /// What it is, for people.
    pub title: &'static str,
    /// What goes where.
    pub files: Vec<FileText>,
    /// What is added to files that are there already, and written nowhere else.
    #[serde(skip)]
    pub additions: Vec<Addition>,
    /// What is typed afterwards, in order.
    pub commands: Vec<String>,
    /// What else there is to know, each a sentence or two.
    pub notes: Vec<String>,
}

/// What only some need, in a file that only some have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addition {
    /// The file. Where it is not there its text is what it could be.
    pub file: FileText,
    /// What is so without it.
    pub without: String,
    /// What is typed when it has been written, in order.
    pub commands: Vec<String>,
}

/// One file of a client's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileText {
    /// Where it is, from the root.
    pub path: String,
    /// `json`, `toml`, `yaml` or `pem`.
    pub language: &'static str,
    /// All of it, if there is nothing else to be in it. It ends in a newline.
    pub text: String,
    #[serde(skip)]
    wants: Wants,
}

impl FileText {
    /// The file with this in it: what was there stays, with its comments, its order and the ends of
    /// its lines. A file that says all of it already stays as it is, byte for byte.
    ///
    /// # Errors
    /// Where the file cannot be read, or says something that contradicts this. Nothing is guessed.
    pub fn merged(&self, before: &str) -> Result<String, MergeError> {
        if before
            .trim_matches(['\u{feff}', ' ', '\t', '\r', '\n'])
            .is_empty()
        {
            return Ok(self.text.clone());
        }
        let lines = before.matches('\n').count();
        if lines == 0 || before.matches("\r\n").count() < lines {
            return self.wants.merged(before, &self.text);
        }
        // Written on Windows, where all of its lines end so: they still do.
        let after = self
            .wants
            .merged(&before.replace("\r\n", "\n"), &self.text)?;
        Ok(after.replace('\n', "\r\n"))
    }
}

/// What each client must be told, in the order of [`Client::ALL`].
pub fn texts(about: &About) -> Vec<ClientText> {
    Client::ALL
        .into_iter()
        .map(|client| text(client, about))
        .collect()
}

/// What one client must be told.
pub fn text(client: Client, about: &About) -> ClientText {
    match client {
        Client::Docker => clients::docker(about),
        Client::Containerd => clients::containerd(about),
        Client::Podman => clients::podman(about),
        Client::Buildkit => clients::buildkit(about),
        Client::K3s => clients::k3s(about),
    }
}

#[cfg(test)]
mod cri_tests;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
