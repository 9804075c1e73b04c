//! skopeo, which needs no daemon.

use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use super::{Output, REGISTRIES, containers_command, new_home, run, write, write_containers_files};

/// skopeo with a configuration of its own.
pub(crate) struct Skopeo {
    home: TempDir,
}

impl Skopeo {
    /// One that knows no mirrors.
    pub(crate) fn new() -> Self {
        Self::with_mirrors(&[])
    }

    /// One with mirrors, as (registry, the mirror's location): `("docker.io",
    /// "127.0.0.1:5000/docker.io")`.
    pub(crate) fn with_mirrors(mirrors: &[(&str, &str)]) -> Self {
        let home = new_home("skopeo");
        write_containers_files(home.path(), mirrors);
        Self { home }
    }

    /// One with this registries.conf.
    pub(crate) fn with_registries(text: &str) -> Self {
        let own = Self::new();
        write(&own.home.path().join(REGISTRIES), text);
        own
    }

    /// Runs any skopeo command.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        let mut skopeo = containers_command("skopeo", self.home.path());
        skopeo
            .arg("--policy")
            .arg(self.home.path().join("policy.json"))
            .arg("--tmpdir")
            .arg(self.home.path())
            .args(arguments);
        run(skopeo, b"").await
    }

    /// `skopeo copy` with more options (`--all`, `--src-creds`), which may fail.
    pub(crate) async fn try_copy(&self, options: &[&str], from: &str, to: &str) -> Output {
        let arguments = [
            &["copy", "--src-tls-verify=false", "--dest-tls-verify=false"],
            options,
            &[from, to],
        ]
        .concat();
        self.run(&arguments).await
    }

    /// `skopeo copy` from one `docker://…`, `dir:…` or `oci:…` to another, which must not fail.
    pub(crate) async fn copy(&self, from: &str, to: &str) {
        self.try_copy(&[], from, to).await.expect_success();
    }

    /// The manifest or index of an image, byte for byte.
    pub(crate) async fn raw_manifest(&self, image: &str) -> String {
        self.run(&["inspect", "--raw", "--tls-verify=false", image])
            .await
            .expect_success()
    }

    /// What `skopeo inspect` says: `Digest`, `Layers`, `RepoTags`, …
    pub(crate) async fn inspect(&self, image: &str) -> Value {
        let said = self
            .run(&["inspect", "--tls-verify=false", image])
            .await
            .expect_success();
        serde_json::from_str(&said).expect("skopeo inspect speaks JSON")
    }

    /// The tags of a repository (`docker://127.0.0.1:5000/team/app`).
    pub(crate) async fn list_tags(&self, repository: &str) -> Vec<String> {
        let said = self
            .run(&["list-tags", "--tls-verify=false", repository])
            .await
            .expect_success();
        let said: Value = serde_json::from_str(&said).expect("skopeo list-tags speaks JSON");
        serde_json::from_value(said["Tags"].clone()).expect("a list of tags")
    }

    /// A place in its directory for a `dir:` or `oci:` image.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
}
