//! File systems of a few megabytes, to be filled and made read-only.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A file system of its own. Needs root, as the tests with dockerd do.
pub(crate) struct Disk {
    path: TempDir,
}

impl Disk {
    /// One of so many bytes, as `mount` takes them: `16m`.
    pub(crate) fn of(size: &str) -> Self {
        Self::with(&format!("size={size}"))
    }

    /// One with these options of tmpfs.
    pub(crate) fn with(options: &str) -> Self {
        let path = tempfile::tempdir().expect("a directory");
        run(
            "mount",
            &["-t", "tmpfs", "-o", options, "larder-test"],
            path.path(),
        );
        Self { path }
    }

    /// A data directory on it.
    pub(crate) fn root(&self) -> PathBuf {
        self.path.path().join("root")
    }

    /// Uses up its space, but for so many bytes.
    pub(crate) fn fill_but(&self, left: u64) {
        let mut file = fs::File::create(self.ballast()).expect("a file");
        let chunk = vec![0; 4096];
        while file.write_all(&chunk).is_ok() {}
        let used = file.metadata().expect("a file").len();
        file.set_len(used.saturating_sub(left))
            .expect("a shorter file");
    }

    /// Uses up its inodes, but for so many.
    pub(crate) fn use_inodes_but(&self, left: usize) {
        let directory = self.path.path().join("inodes");
        fs::create_dir_all(&directory).expect("a directory");
        let made = (0..).map(|at| directory.join(at.to_string()));
        let made: Vec<_> = made
            .take_while(|path| fs::File::create(path).is_ok())
            .collect();
        for path in made.iter().take(left) {
            fs::remove_file(path).expect("a file");
        }
    }

    /// Gives all of it back.
    pub(crate) fn empty(&self) {
        drop(fs::remove_file(self.ballast()));
        drop(fs::remove_dir_all(self.path.path().join("inodes")));
    }

    /// Makes it take no writes, or take them again.
    pub(crate) fn read_only(&self, yes: bool) {
        let options = if yes { "remount,ro" } else { "remount,rw" };
        run("mount", &["-o", options], self.path.path());
    }

    fn ballast(&self) -> PathBuf {
        self.path.path().join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &["--lazy"], self.path.path());
    }
}

fn run(program: &str, arguments: &[&str], path: &Path) {
    let mut command = Command::new(program);
    let status = command.args(arguments).arg(path).status();
    let succeeded = status.is_ok_and(|status| status.success());
    assert!(succeeded, "{program} {arguments:?}: this needs root");
}
