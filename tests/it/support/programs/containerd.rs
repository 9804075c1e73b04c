//! containerd with the ctr command.

use serde_json::json;

use super::daemon::Daemon;
use super::{Output, command, new_home, run, write};

/// Plugins that the tests do not need, and that would use directories outside the daemon's own.
const DISABLED: [&str; 3] = [
    "io.containerd.grpc.v1.cri",
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.restart",
];

/// A running containerd. It can run no containers.
pub(crate) struct Containerd {
    daemon: Daemon,
}

impl Containerd {
    /// Starts one that asks `mirror`, a base URL, for the images of every registry, and waits until
    /// it answers.
    pub(crate) async fn with_mirror(mirror: &str) -> Self {
        let home = new_home("containerd");
        let path = home.path();
        // The values are JSON's, which are TOML's as well.
        let settings = [
            ("version", json!(2)),
            ("root", json!(path.join("root"))),
            ("state", json!(path.join("state"))),
            ("temp", json!(path.join("temp"))),
            ("plugin_dir", json!(path.join("plugins"))),
            ("disabled_plugins", json!(DISABLED)),
            ("grpc", json!(null)),
            ("address", json!(path.join("containerd.sock"))),
        ];
        let lines = settings.map(|(name, value)| {
            if value.is_null() {
                format!("[{name}]\n")
            } else {
                format!("{name} = {value}\n")
            }
        });
        write(&path.join("config.toml"), &lines.concat());
        let mut containerd = command("containerd", path);
        containerd.arg("--config").arg(path.join("config.toml"));
        let daemon = Daemon::start("containerd", containerd, home);
        daemon
            .ready(|line| {
                line.contains("containerd successfully booted")
                    .then_some(())
            })
            .await;
        let containerd = Self { daemon };
        containerd.set_hosts(
            "_default",
            &format!("[host.\"{mirror}\"]\ncapabilities = [\"pull\", \"resolve\"]\n"),
        );
        containerd
    }

    /// Writes the hosts.toml for `registry`, or for `_default`; it counts from the next command on.
    pub(crate) fn set_hosts(&self, registry: &str, toml: &str) {
        write(
            &self
                .daemon
                .home()
                .join("hosts")
                .join(registry)
                .join("hosts.toml"),
            toml,
        );
    }

    /// Runs any ctr command.
    pub(crate) async fn ctr(&self, arguments: &[&str]) -> Output {
        let mut ctr = command("ctr", self.daemon.home());
        ctr.arg("--address")
            .arg(self.daemon.home().join("containerd.sock"))
            .args(arguments);
        run(ctr, b"").await
    }

    /// `ctr images pull` of a full name (`docker.io/library/alpine:1`), which may fail.
    pub(crate) async fn try_pull(&self, image: &str) -> Output {
        let hosts = self.daemon.home().join("hosts");
        let hosts = hosts
            .to_str()
            .expect("a temporary directory with a plain name");
        // The native snapshotter works on every file system.
        self.ctr(&[
            "images",
            "pull",
            "--snapshotter",
            "native",
            "--hosts-dir",
            hosts,
            image,
        ])
        .await
    }

    /// `ctr images pull`, which must not fail; returns what it printed.
    pub(crate) async fn pull(&self, image: &str) -> String {
        self.try_pull(image)
            .await
            .expect_success_or(&self.daemon.log())
    }

    /// Removes an image and, before it returns, the content that only that image had.
    pub(crate) async fn remove(&self, image: &str) {
        self.succeed(&["images", "rm", "--sync", image]).await;
    }

    /// Whether a manifest, a configuration or a layer with this digest is there.
    pub(crate) async fn content_has(&self, digest: &str) -> bool {
        self.content().await.iter().any(|present| present == digest)
    }

    /// The digests of everything that is there.
    pub(crate) async fn content(&self) -> Vec<String> {
        self.succeed(&["content", "ls", "--quiet"])
            .await
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// Everything the daemon has logged so far.
    pub(crate) fn log(&self) -> String {
        self.daemon.written()
    }

    async fn succeed(&self, arguments: &[&str]) -> String {
        self.ctr(arguments)
            .await
            .expect_success_or(&self.daemon.log())
    }
}
