//! The texts, client by client.

use std::fmt::Write as _;

use super::merge::{Buildkitd, Cri, Daemon, Hosts, Registries, Registry, Wants, Yaml, YamlWish};
use super::{About, Addition, Client, ClientText, FileText, Mirrored};

const JSON: &str = "json";
const TOML: &str = "toml";
const YAML: &str = "yaml";
const PEM: &str = "pem";

fn file(path: impl Into<String>, language: &'static str, text: String, wants: Wants) -> FileText {
    FileText {
        path: path.into(),
        language,
        text,
        wants,
    }
}

/// The file with larder's certificate, where there is one to be trusted.
fn certificate(about: &About, path: impl Into<String>) -> Option<FileText> {
    let pem = about.ca.as_deref()?;
    Some(file(path, PEM, format!("{}\n", pem.trim()), Wants::Pem))
}

/// What is said of every client, where it holds.
fn general(about: &About) -> Vec<String> {
    let mut notes = Vec::new();
    if about.upstreams.is_empty() {
        notes.push(
            "This larder mirrors nothing: it is used by its own name only. Put registries under upstreams in its configuration to mirror them."
                .to_owned(),
        );
    }
    if about.is_loopback() {
        let address = &about.address;
        notes.push(format!(
            "{address} is reached from this machine only. For others, let larder listen where they reach it (http.addr), and name that with larder setup --address."
        ));
    }
    notes
}

fn example(about: &About) -> String {
    let names = about
        .upstreams
        .iter()
        .map(|upstream| upstream.name.as_str());
    let mut other = names.filter(|name| *name != "docker.io");
    other.next().unwrap_or("docker.io").to_owned()
}

fn toml_list(items: &[&str]) -> String {
    let quoted: Vec<_> = items.iter().map(|item| format!("\"{item}\"")).collect();
    format!("[{}]", quoted.join(", "))
}

pub(super) fn docker(about: &About) -> ClientText {
    let address = &about.address;
    let mirror = about.mirrors_docker_hub().then(|| about.url());
    let insecure = (!about.https && !about.is_loopback()).then(|| address.clone());
    let lists = [
        ("registry-mirrors", &mirror),
        ("insecure-registries", &insecure),
    ];
    let lines = lists.into_iter().filter_map(|(key, value)| {
        let value = value.as_ref()?;
        Some(format!("  \"{key}\": [\"{value}\"]"))
    });
    let lines: Vec<_> = lines.collect();
    let mut files = Vec::new();
    if !lines.is_empty() {
        let text = format!("{{\n{}\n}}\n", lines.join(",\n"));
        let wants = Wants::Daemon(Daemon { mirror, insecure });
        files.push(file("/etc/docker/daemon.json", JSON, text, wants));
    }
    files.extend(certificate(
        about,
        format!("/etc/docker/certs.d/{address}/ca.crt"),
    ));
    let mut notes = general(about);
    let mut commands = Vec::new();
    if !lines.is_empty() {
        commands.push("systemctl restart docker".to_owned());
    }
    if about.mirrors_docker_hub() {
        commands.push("docker info --format '{{.RegistryConfig.Mirrors}}'".to_owned());
        notes.push(
            "Docker mirrors Docker Hub only; if larder cannot be reached, it goes to Docker Hub itself."
                .to_owned(),
        );
    }
    notes.push(format!(
        "Any other registry, and pushes: larder's name in front, as in docker pull {address}/{}/org/app.",
        example(about)
    ));
    if about.asks_who {
        notes.push(format!("To push: docker login {address}"));
    }
    ClientText {
        name: Client::Docker.name(),
        title: "Docker",
        files,
        additions: Vec::new(),
        commands,
        notes,
    }
}

pub(super) fn containerd(about: &About) -> ClientText {
    const DIRECTORY: &str = "/etc/containerd/certs.d";
    const CA: &str = "/etc/containerd/certs.d/larder.crt";
    let ca = about.ca.is_some().then_some(CA);
    let hosts = |upstream: &Mirrored| {
        let wants = Hosts {
            server: upstream.server.clone(),
            url: about.url(),
            ca: ca.map(str::to_owned),
        };
        let path = format!("{DIRECTORY}/{}/hosts.toml", upstream.name);
        file(path, TOML, wants.text(), Wants::Hosts(wants))
    };
    let mut files: Vec<_> = about.upstreams.iter().map(hosts).collect();
    files.extend(certificate(about, CA));
    let mut notes = general(about);
    let own = if about.https { "" } else { "--plain-http " };
    notes.extend([
        "ctr reads these files when told: ctr images pull --hosts-dir /etc/containerd/certs.d NAME. A registry that larder does not mirror is not touched."
            .to_owned(),
        "For Kubernetes, containerd must read the directory: set config_path = \"/etc/containerd/certs.d\" in /etc/containerd/config.toml, below [plugins.\"io.containerd.cri.v1.images\".registry] (containerd 2, version = 3) or [plugins.\"io.containerd.grpc.v1.cri\".registry] (containerd 1, version = 2), then systemctl restart containerd. --apply does it where that file is there."
            .to_owned(),
        "The files of docker 29 with the containerd image store are the same, below /etc/docker/certs.d."
            .to_owned(),
        format!("To push: ctr images push {own}{}/team/app:1.0", about.address),
    ]);
    ClientText {
        name: Client::Containerd.name(),
        title: "containerd (ctr, nerdctl, Kubernetes)",
        files,
        additions: if about.upstreams.is_empty() {
            Vec::new()
        } else {
            vec![config_path(DIRECTORY)]
        },
        commands: Vec::new(),
        notes,
    }
}

/// That containerd's CRI plugin reads the directory. ctr reads it when told, and nerdctl anyway.
fn config_path(directory: &str) -> Addition {
    let wants = Cri {
        directory: directory.to_owned(),
    };
    Addition {
        file: file(
            "/etc/containerd/config.toml",
            TOML,
            wants.text(),
            Wants::Cri(wants),
        ),
        without: format!(
            "without config_path = \"{directory}\" in it Kubernetes reads none of these files"
        ),
        commands: vec!["systemctl restart containerd".to_owned()],
    }
}

pub(super) fn podman(about: &About) -> ClientText {
    let address = &about.address;
    let mirrored = about.upstreams.iter().map(|upstream| Registry {
        location: upstream.name.clone(),
        mirror: Some(format!("{address}/{}", upstream.name)),
        insecure: !about.https,
    });
    let own = (!about.https).then(|| Registry {
        location: address.clone(),
        mirror: None,
        insecure: true,
    });
    let registries = Registries(mirrored.chain(own).collect());
    let mut files = Vec::new();
    if !registries.0.is_empty() {
        let text = registries.text();
        let wants = Wants::Registries(registries);
        files.push(file("/etc/containers/registries.conf", TOML, text, wants));
    }
    files.extend(certificate(
        about,
        format!("/etc/containers/certs.d/{address}/ca.crt"),
    ));
    let mut notes = general(about);
    notes.push(
        "Nothing needs to be restarted, but for CRI-O: systemctl reload crio. A file in /etc/containers/registries.conf.d that names the same registry replaces what stands here."
            .to_owned(),
    );
    if about.asks_who {
        notes.push(format!("To push: podman login {address}"));
    }
    ClientText {
        name: Client::Podman.name(),
        title: "Podman, CRI-O, skopeo, buildah",
        files,
        additions: Vec::new(),
        commands: Vec::new(),
        notes,
    }
}

pub(super) fn buildkit(about: &About) -> ClientText {
    const FILE: &str = "/etc/buildkit/buildkitd.toml";
    const CA: &str = "/etc/buildkit/larder.crt";
    let address = &about.address;
    let mirrors = about.upstreams.iter().map(|upstream| {
        let mirror = format!("{address}/{}", upstream.name);
        (upstream.name.clone(), mirror)
    });
    let wants = Buildkitd {
        mirrors: mirrors.collect(),
        own: address.clone(),
        http: !about.https,
        ca: about.ca.is_some().then(|| CA.to_owned()),
    };
    let text = wants.text();
    let mut files = Vec::new();
    if !text.is_empty() {
        files.push(file(FILE, TOML, text, Wants::Buildkitd(wants)));
    }
    files.extend(certificate(about, CA));
    let mut notes = general(about);
    notes.push(
        "The builder inside dockerd uses docker's own mirrors; this is for builders of the driver docker-container. Older versions of buildx call the option --config."
            .to_owned(),
    );
    ClientText {
        name: Client::Buildkit.name(),
        title: "BuildKit (docker buildx)",
        files,
        additions: Vec::new(),
        commands: vec![format!(
            "docker buildx create --use --buildkitd-config {FILE}"
        )],
        notes,
    }
}

pub(super) fn k3s(about: &About) -> ClientText {
    const CA: &str = "/etc/rancher/larder.crt";
    let mut text = String::new();
    let mut wishes = Vec::new();
    if !about.upstreams.is_empty() {
        text.push_str("mirrors:\n");
    }
    for upstream in &about.upstreams {
        let (name, url) = (&upstream.name, about.url());
        // Writing to a String does not fail.
        _ = write!(text, "  \"{name}\":\n    endpoint:\n      - \"{url}\"\n");
        let path = ["mirrors", name, "endpoint"].map(str::to_owned).to_vec();
        wishes.push(YamlWish::First(path, url));
    }
    if about.ca.is_some() {
        let address = &about.address;
        _ = write!(
            text,
            "configs:\n  \"{address}\":\n    tls:\n      ca_file: \"{CA}\"\n"
        );
        let path = ["configs", address, "tls", "ca_file"].map(str::to_owned);
        wishes.push(YamlWish::Is(path.to_vec(), CA.to_owned()));
    }
    let mut files = Vec::new();
    if !wishes.is_empty() {
        let wants = Wants::Yaml(Yaml(wishes));
        files.push(file("/etc/rancher/k3s/registries.yaml", YAML, text, wants));
    }
    files.extend(certificate(about, CA));
    let mut notes = general(about);
    notes.extend([
        "On every node; on agents the service is called k3s-agent. RKE2 has the same file as /etc/rancher/rke2/registries.yaml.".to_owned(),
        "The registry itself is tried last. When a pull fails, the message that is shown is the registry's, not larder's.".to_owned(),
    ]);
    ClientText {
        name: Client::K3s.name(),
        title: "k3s and RKE2",
        files,
        additions: Vec::new(),
        commands: vec!["systemctl restart k3s".to_owned()],
        notes,
    }
}

impl Hosts {
    /// The whole file.
    pub(super) fn text(&self) -> String {
        format!("server = \"{}\"\n\n{}", self.server, self.block())
    }

    /// larder's part of it.
    pub(super) fn block(&self) -> String {
        let capabilities = toml_list(&["pull", "resolve"]);
        let mut text = format!("[host.\"{}\"]\n  capabilities = {capabilities}\n", self.url);
        if let Some(ca) = &self.ca {
            _ = writeln!(text, "  ca = \"{ca}\"");
        }
        text
    }
}

impl Registries {
    pub(super) fn text(&self) -> String {
        let blocks: Vec<_> = self.0.iter().map(Registry::block).collect();
        blocks.join("\n")
    }
}

impl Registry {
    pub(super) fn block(&self) -> String {
        let mut text = format!("[[registry]]\nlocation = \"{}\"\n", self.location);
        if let Some(mirror) = &self.mirror {
            _ = write!(text, "[[registry.mirror]]\nlocation = \"{mirror}\"\n");
        }
        if self.insecure {
            text.push_str("insecure = true\n");
        }
        text
    }
}

impl Buildkitd {
    pub(super) fn text(&self) -> String {
        let mirrors = self.mirrors.iter();
        let mut blocks: Vec<_> = mirrors
            .map(|(name, mirror)| Self::mirror_block(name, mirror))
            .collect();
        blocks.extend(self.own_block());
        blocks.join("\n")
    }

    pub(super) fn mirror_block(name: &str, mirror: &str) -> String {
        let mirrors = toml_list(&[mirror]);
        format!("[registry.\"{name}\"]\n  mirrors = {mirrors}\n")
    }

    pub(super) fn own_block(&self) -> Option<String> {
        let mut text = format!("[registry.\"{}\"]\n", self.own);
        if self.http {
            text.push_str("  http = true\n");
        }
        if let Some(ca) = &self.ca {
            _ = writeln!(text, "  ca = {}", toml_list(&[ca]));
        }
        (self.http || self.ca.is_some()).then_some(text)
    }
}
