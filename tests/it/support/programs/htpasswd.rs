//! Apache's htpasswd, which makes the files that registries read their users from.

use std::path::PathBuf;

use super::{command, new_home, write};

/// A file of users and their passwords, hashed as cheaply as bcrypt can.
pub(crate) struct Htpasswd {
    home: tempfile::TempDir,
    cost: &'static str,
}

impl Htpasswd {
    /// A file with these names and passwords.
    pub(crate) fn new(users: &[(&str, &str)]) -> Self {
        Self::of_cost("4", users)
    }

    /// The same, hashed at the cost that people take.
    pub(crate) fn costly(users: &[(&str, &str)]) -> Self {
        Self::of_cost("10", users)
    }

    fn of_cost(cost: &'static str, users: &[(&str, &str)]) -> Self {
        let home = new_home("users");
        let file = Self { home, cost };
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
            .map(|(name, password)| self.line(name, password))
            .collect();
        let new = self.home.path().join("new");
        write(&new, &lines);
        std::fs::rename(&new, self.path()).expect("the new file in place");
    }

    fn line(&self, name: &str, password: &str) -> String {
        let mut htpasswd = command("htpasswd", self.home.path());
        let output = htpasswd
            .args(["-nbB", "-C", self.cost, name, password])
            .output()
            .expect("htpasswd starts");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        format!("{}\n", text.trim())
    }
}
