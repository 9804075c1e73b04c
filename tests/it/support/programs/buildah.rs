//! buildah, which needs no daemon either.

use tempfile::TempDir;

use super::archive::File;
use super::{Output, REGISTRIES, containers_command, new_home, run, write, write_containers_files};

/// buildah with a configuration and an image store of its own.
pub(crate) struct Buildah {
    home: TempDir,
}

impl Buildah {
    /// One that knows no mirrors.
    pub(crate) fn new() -> Self {
        Self::with_mirrors(&[])
    }

    /// One with mirrors, as (registry, the mirror's location): `("docker.io",
    /// "127.0.0.1:5000/docker.io")`.
    pub(crate) fn with_mirrors(mirrors: &[(&str, &str)]) -> Self {
        let home = new_home("buildah");
        write_containers_files(home.path(), mirrors);
        Self { home }
    }

    /// One with this registries.conf.
    pub(crate) fn with_registries(text: &str) -> Self {
        let own = Self::new();
        write(&own.home.path().join(REGISTRIES), text);
        own
    }

    /// Runs any buildah command.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        let path = self.home.path();
        let mut buildah = containers_command("buildah", path);
        buildah
            .arg("--root")
            .arg(path.join("root"))
            .arg("--runroot")
            .arg(path.join("runroot"))
            .args(["--storage-driver", "vfs"])
            .args(arguments);
        run(buildah, b"").await
    }

    /// Makes an image with one layer of files, without ever running a container; returns its
    /// identity, the digest of its configuration.
    pub(crate) async fn build_scratch_image(&self, name: &str, files: &[File<'_>]) -> String {
        let container = self.succeed(&["from", "scratch"]).await;
        let source = self.home.path().join("source").join(&container);
        for (path, content) in files {
            let file = source.join(path);
            std::fs::create_dir_all(file.parent().expect("a file in a directory"))
                .expect("a directory for an image's files");
            std::fs::write(&file, content).expect("one of an image's files");
        }
        let source = source
            .to_str()
            .expect("a temporary directory with a plain name");
        self.succeed(&["copy", "--quiet", &container, source, "/"])
            .await;
        let id = self
            .succeed(&["commit", "--quiet", "--rm", &container, name])
            .await;
        format!("sha256:{id}")
    }

    /// `buildah push` of an image to `127.0.0.1:5000/team/app:1`, which may fail.
    pub(crate) async fn try_push(&self, image: &str, to: &str) -> Output {
        let policy = self.policy();
        self.run(&[
            "push",
            "--tls-verify=false",
            &policy,
            image,
            &format!("docker://{to}"),
        ])
        .await
    }

    /// `buildah push`, which must not fail.
    pub(crate) async fn push(&self, image: &str, to: &str) {
        self.try_push(image, to).await.expect_success();
    }

    /// `buildah pull`, always from the registry, which may fail.
    pub(crate) async fn try_pull(&self, image: &str) -> Output {
        let policy = self.policy();
        self.run(&[
            "pull",
            "--tls-verify=false",
            "--policy",
            "always",
            &policy,
            image,
        ])
        .await
    }

    /// `buildah pull`, always from the registry, which must not fail; returns the image's identity.
    pub(crate) async fn pull(&self, image: &str) -> String {
        let said = self.try_pull(image).await.expect_success();
        format!("sha256:{}", said.trim())
    }

    async fn succeed(&self, arguments: &[&str]) -> String {
        self.run(arguments).await.expect_success().trim().to_owned()
    }

    fn policy(&self) -> String {
        format!(
            "--signature-policy={}",
            self.home.path().join("policy.json").display()
        )
    }
}
