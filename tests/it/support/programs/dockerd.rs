//! dockerd with the docker command.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::archive::{File, docker_archive};
use super::daemon::Daemon;
use super::{Output, command, new_home, run, write};

/// Where its configuration is, as on every machine, below its own directory.
const CONFIG: &str = "etc/docker/daemon.json";

/// How to start a dockerd.
#[derive(Default)]
pub(crate) struct DockerdOptions {
    /// `registry-mirrors`: base URLs, `http://127.0.0.1:5000`.
    pub(crate) mirrors: Vec<String>,
    /// `insecure-registries`; loopback is one anyway.
    pub(crate) insecure: Vec<String>,
    /// More of daemon.json, `max-download-attempts` for example.
    pub(crate) settings: Map<String, Value>,
    /// More of the environment, `SSL_CERT_FILE` for example.
    pub(crate) environment: Vec<(String, String)>,
}

/// A running dockerd, with everything it has pulled in a directory of its own. It can run no
/// containers.
pub(crate) struct Dockerd {
    daemon: Daemon,
}

impl Dockerd {
    /// Starts one, and waits until it answers.
    pub(crate) async fn start(options: &DockerdOptions) -> Self {
        let home = new_home("dockerd");
        let mut settings = own_settings(home.path());
        settings["registry-mirrors"] = json!(options.mirrors);
        settings["insecure-registries"] = json!(options.insecure);
        settings
            .as_object_mut()
            .expect("an object")
            .extend(options.settings.clone());
        write(&home.path().join(CONFIG), &settings.to_string());
        Self::launch(home, &options.environment).await
    }

    /// Starts one with the configuration that `amend` makes of one without mirrors. It is below
    /// the root that `amend` is given, where it is on every machine.
    pub(crate) async fn set_up(amend: impl AsyncFnOnce(&Path)) -> Self {
        let home = new_home("dockerd");
        let settings = own_settings(home.path());
        write(&home.path().join(CONFIG), &format!("{settings:#}\n"));
        amend(home.path()).await;
        Self::launch(home, &[]).await
    }

    async fn launch(home: TempDir, environment: &[(String, String)]) -> Self {
        let path = home.path();
        let mut dockerd = command("dockerd", path);
        // It starts a containerd of its own, unless the machine runs one: then it must not mix with
        // what is in there.
        dockerd
            .arg("--config-file")
            .arg(path.join(CONFIG))
            .args([
                "--containerd-namespace",
                "larder-tests",
                "--containerd-plugins-namespace",
                "larder-tests-plugins",
            ])
            .envs(environment.iter().map(|(name, value)| (name, value)));
        let daemon = Daemon::start("dockerd", dockerd, home);
        daemon
            .ready(|line| line.contains("API listen on").then_some(()))
            .await;
        Self { daemon }
    }

    /// One that knows no mirrors.
    pub(crate) async fn without_mirror() -> Self {
        Self::start(&DockerdOptions::default()).await
    }

    /// One that pulls Docker Hub's images through `mirror`.
    pub(crate) async fn with_mirror(mirror: &str) -> Self {
        Self::start(&DockerdOptions {
            mirrors: vec![mirror.to_owned()],
            ..DockerdOptions::default()
        })
        .await
    }

    /// Where it listens, for `docker -H`.
    pub(crate) fn host(&self) -> String {
        format!(
            "unix://{}",
            self.daemon.home().join("docker.sock").display()
        )
    }

    /// Runs any docker command.
    pub(crate) async fn docker(&self, arguments: &[&str]) -> Output {
        self.docker_with_input(arguments, b"").await
    }

    /// Runs any docker command that reads its standard input.
    pub(crate) async fn docker_with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        run(self.command(arguments), input).await
    }

    /// `docker pull`, which may fail.
    pub(crate) async fn try_pull(&self, image: &str) -> Output {
        self.docker(&["pull", image]).await
    }

    /// `docker pull`, which must not fail; returns what it printed.
    pub(crate) async fn pull(&self, image: &str) -> String {
        self.succeed(&["pull", image]).await
    }

    /// `docker push`, which may fail.
    pub(crate) async fn try_push(&self, image: &str) -> Output {
        self.docker(&["push", image]).await
    }

    /// `docker push`, which must not fail; returns what it printed.
    pub(crate) async fn push(&self, image: &str) -> String {
        self.succeed(&["push", image]).await
    }

    /// Gives an image one more name.
    pub(crate) async fn tag(&self, image: &str, name: &str) {
        self.succeed(&["tag", image, name]).await;
    }

    /// Removes one name of an image, and the image with its layers if that was the last, so that it
    /// has to be pulled again.
    pub(crate) async fn remove_image(&self, image: &str) {
        self.succeed(&["image", "rm", "--force", image]).await;
    }

    /// An image's identity, the digest of its configuration: the same wherever the image came from.
    pub(crate) async fn image_id(&self, image: &str) -> String {
        self.inspect(image, "{{.Id}}").await
    }

    /// The digest under which a registry gave or took an image of this repository.
    pub(crate) async fn repo_digests(&self, image: &str) -> Vec<String> {
        serde_json::from_str(&self.inspect(image, "{{json .RepoDigests}}").await)
            .expect("a list of names with digests")
    }

    /// What Go template `format` says about an image.
    pub(crate) async fn inspect(&self, image: &str, format: &str) -> String {
        self.succeed(&["image", "inspect", "--format", format, image])
            .await
            .trim()
            .to_owned()
    }

    /// Logs in, with credentials that are kept in this daemon's directory.
    pub(crate) async fn login(&self, registry: &str, user: &str, password: &str) {
        let arguments = ["login", "--username", user, "--password-stdin", registry];
        self.docker_with_input(&arguments, password.as_bytes())
            .await
            .expect_success_or(&self.daemon.log());
    }

    /// Credentials as a login that succeeded leaves them, without one.
    pub(crate) fn remember_login(&self, registry: &str, user: &str, password: &str) {
        use base64::Engine as _;
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let config = json!({ "auths": { registry: { "auth": pair } } });
        let path = self.daemon.home().join("client/config.json");
        write(&path, &config.to_string());
    }

    /// Makes an image with one layer of files, without any network or container; returns its
    /// identity.
    pub(crate) async fn build_scratch_image(&self, name: &str, files: &[File<'_>]) -> String {
        self.build_layered_image(name, &[files]).await
    }

    /// The same with several layers, the lowest first.
    pub(crate) async fn build_layered_image(&self, name: &str, layers: &[&[File<'_>]]) -> String {
        let archive = docker_archive(name, layers);
        self.docker_with_input(&["load", "--quiet"], &archive)
            .await
            .expect_success_or(&self.daemon.log());
        self.image_id(name).await
    }

    /// Everything the daemon has logged so far.
    pub(crate) fn log(&self) -> String {
        self.daemon.written()
    }

    async fn succeed(&self, arguments: &[&str]) -> String {
        self.docker(arguments)
            .await
            .expect_success_or(&self.daemon.log())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut docker = command("docker", self.daemon.home());
        docker
            .arg("--config")
            .arg(self.daemon.home().join("client"))
            .arg("--host")
            .arg(format!("unix://{}", self.socket().display()))
            .args(arguments);
        docker
    }

    /// The root below which its configuration is.
    pub(crate) fn root(&self) -> &Path {
        self.daemon.home()
    }

    /// `DOCKER_HOST`
    pub(crate) fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.daemon.home().join("docker.sock")
    }
}

/// What keeps a daemon to its own directory.
fn own_settings(path: &Path) -> Value {
    json!({
        "storage-driver": "vfs",
        "bridge": "none",
        "iptables": false,
        "ip6tables": false,
        "ip-forward": false,
        "data-root": path.join("data"),
        "exec-root": path.join("exec"),
        "pidfile": path.join("pid"),
        "hosts": [format!("unix://{}", path.join("docker.sock").display())],
        // It would ask a name server for Docker Hub's address before each pull, to compare it
        // with this list, if the name were not in it. It only matters for Windows' layers.
        "allow-nondistributable-artifacts": ["docker.io"],
    })
}
