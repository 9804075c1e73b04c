//! Apache's htpasswd, which makes the files that registries read their users from.

use std::path::{Path, PathBuf};

use super::{command, new_home, write};

/// A file of users and their passwords, hashed as cheaply as bcrypt can.
pub(crate) struct Htpasswd {
    home: tempfile::TempDir,
}

impl Htpasswd {
    /// A file with these names and passwords.
    pub(crate) fn new(users: &[(&str, &str)]) -> Self {
        let home = new_home("users");
        let file = Self { home };
        file.replace(users);
        file
    }

    /// The file.
    pub(crate) fn path(&self) -> PathBuf {
        self.home.path().join("htpasswd")
    }

    /// Puts another file in its place, as an editor does: by a rename.
    pub(crate) fn replace(&self, users: &[(&str, &str)]) {
        let lines: String = users
            .iter()
            .map(|(name, password)| line(self.home.path(), name, password))
            .collect();
        let new = self.home.path().join("new");
        write(&new, &lines);
        std::fs::rename(&new, self.path()).expect("the new file in place");
    }
}

fn line(home: &Path, name: &str, password: &str) -> String {
    let mut htpasswd = command("htpasswd", home);
    let output = htpasswd
        .args(["-nbB", "-C", "4", name, password])
        .output()
        .expect("htpasswd starts");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    format!("{}\n", text.trim())
}
