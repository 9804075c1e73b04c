//! podman. It pulls and pushes here, and runs nothing.

use tempfile::TempDir;

use super::{Output, REGISTRIES, command, new_home, run, write, write_containers_files};

/// podman with a configuration and an image store of its own.
pub(crate) struct Podman {
    home: TempDir,
}

impl Podman {
    /// What it needs to be by itself, and to do without what this machine may not have.
    pub(crate) const OPTIONS: [&str; 4] = [
        "--storage-driver=vfs",
        "--cgroup-manager=cgroupfs",
        "--events-backend=file",
        "--log-level=error",
    ];

    /// One with this registries.conf.
    pub(crate) fn with_registries(text: &str) -> Self {
        let home = new_home("podman");
        write_containers_files(home.path(), &[]);
        write(&home.path().join(REGISTRIES), text);
        Self { home }
    }

    /// Runs any podman command.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        let path = self.home.path();
        let mut podman = command("podman", path);
        podman
            .env("CONTAINERS_REGISTRIES_CONF", path.join(REGISTRIES))
            .env("REGISTRY_AUTH_FILE", path.join("auth.json"))
            .env("XDG_RUNTIME_DIR", path)
            .arg("--root")
            .arg(path.join("root"))
            .arg("--runroot")
            .arg(path.join("runroot"))
            .args(Self::OPTIONS)
            .args(arguments);
        run(podman, b"").await
    }
}
