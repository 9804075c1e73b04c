//! curl, which says which version of HTTP it was answered in.

use std::path::PathBuf;

use tempfile::TempDir;

use super::{Output, command, new_home, run, write};

/// curl with a directory of its own.
pub(crate) struct Curl {
    home: TempDir,
    trusted: bool,
}

/// What curl got.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// Its exit status and what it said.
    pub(crate) output: Output,
    /// `1.1`, `2`, or `0` where there was no answer.
    pub(crate) version: String,
    /// The status, `000` where there was no answer.
    pub(crate) status: String,
    /// The body, as far as it came.
    pub(crate) body: Vec<u8>,
}

impl Curl {
    /// One that trusts this issuer of certificates only, if any.
    pub(crate) fn trusting(issuer: Option<&str>) -> Self {
        let curl = Self {
            home: new_home("curl"),
            trusted: issuer.is_some(),
        };
        if let Some(issuer) = issuer {
            write(&curl.file("ca.pem"), issuer);
        }
        curl
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A request with these options.
    pub(crate) async fn fetch(&self, url: &str, options: &[&str]) -> Fetched {
        let body = self.file("body");
        write(&body, "");
        let mut curl = command("curl", self.home.path());
        curl.args(["--silent", "--show-error", "--output"])
            .arg(&body)
            .args(["--write-out", "%{http_version} %{http_code}", "--max-time"])
            .arg("60");
        if self.trusted {
            curl.arg("--cacert").arg(self.file("ca.pem"));
        }
        curl.args(options).arg(url);
        let output = run(curl, b"").await;
        let said = output.stdout.split_once(' ');
        let (version, status) = said.unwrap_or(("", ""));
        Fetched {
            version: version.to_owned(),
            status: status.to_owned(),
            body: std::fs::read(&body).expect("curl's output"),
            output,
        }
    }
}
