//! Debian's `docker-registry`, CNCF Distribution 2.8, as an upstream and as another reader of the
//! same tree.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::daemon::Daemon;
use super::{Output, command, new_home, run, write};

/// Who may read and write: whoever brings a token of this service.
#[derive(Clone, Debug)]
pub(crate) struct TokenAuth {
    /// The token service's URL.
    pub(crate) realm: String,
    /// The name under which tokens are for this registry.
    pub(crate) service: String,
    /// Who has to have signed them.
    pub(crate) issuer: String,
    /// The certificates, as PEM, of the keys that may sign them.
    pub(crate) root_cert_bundle: PathBuf,
}

/// How to start a `docker-registry`.
#[derive(Clone, Debug, Default)]
pub(crate) struct DistributionOptions {
    /// The storage's root directory; one of its own, if there is none.
    pub(crate) root: Option<PathBuf>,
    /// The port to listen on; 0 for any that is free.
    pub(crate) port: u16,
    /// Whether manifests and blobs may be deleted.
    pub(crate) delete: bool,
    /// Token authentication.
    pub(crate) token_auth: Option<TokenAuth>,
    /// Basic authentication, with this file of users with bcrypt hashes.
    pub(crate) htpasswd: Option<PathBuf>,
    /// Be a pull-through mirror of the registry with this URL.
    pub(crate) proxy: Option<String>,
}

/// A running `docker-registry`.
pub(crate) struct Distribution {
    daemon: Daemon,
    address: String,
    root: PathBuf,
}

impl Distribution {
    /// Starts one, and waits until it listens.
    pub(crate) async fn start(options: &DistributionOptions) -> Self {
        let home = new_home("distribution");
        let root = options
            .root
            .clone()
            .unwrap_or_else(|| home.path().join("root"));
        let file = home.path().join("config.yml");
        // JSON is YAML.
        write(&file, &configuration(options, &root).to_string());
        let mut registry = command("docker-registry", home.path());
        registry.arg("serve").arg(&file);
        let daemon = Daemon::start("docker-registry", registry, home);
        let address = daemon.ready(listening_on).await;
        Self {
            daemon,
            address,
            root,
        }
    }

    /// Host and port, as in an image's name.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The base URL, without a slash at its end.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The storage's root directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The requests that it has answered so far, as `GET /v2/ 200`. It logs an answer after it has
    /// sent it, so the last may be missing.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.daemon.written().lines().filter_map(request).collect()
    }

    /// Everything it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.daemon.written()
    }

    /// Ends it; the storage stays, if it was given.
    pub(crate) fn stop(self) {
        drop(self);
    }

    /// Runs Distribution's own garbage collector over a tree that nobody serves meanwhile.
    pub(crate) async fn garbage_collect(root: &Path, arguments: &[&str]) -> Output {
        let home = new_home("distribution");
        let file = home.path().join("config.yml");
        write(
            &file,
            &configuration(
                &DistributionOptions {
                    delete: true,
                    ..DistributionOptions::default()
                },
                root,
            )
            .to_string(),
        );
        let mut collector: Command = command("docker-registry", home.path());
        collector.arg("garbage-collect").arg(&file).args(arguments);
        run(collector, b"").await
    }
}

fn configuration(options: &DistributionOptions, root: &Path) -> Value {
    let mut configuration = json!({
        "version": "0.1",
        "log": { "level": "info" },
        "storage": {
            "filesystem": { "rootdirectory": root },
            "delete": { "enabled": options.delete },
        },
        "http": { "addr": format!("127.0.0.1:{}", options.port), "secret": "larder" },
    });
    if let Some(auth) = &options.token_auth {
        configuration["auth"] = json!({ "token": {
            "realm": auth.realm,
            "service": auth.service,
            "issuer": auth.issuer,
            "rootcertbundle": auth.root_cert_bundle,
        } });
    } else if let Some(path) = &options.htpasswd {
        configuration["auth"] = json!({ "htpasswd": { "realm": "larder's tests", "path": path } });
    }
    if let Some(url) = &options.proxy {
        configuration["proxy"] = json!({ "remoteurl": url });
    }
    configuration
}

/// The address in `msg="listening on 127.0.0.1:40001"`.
fn listening_on(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("listening on ")?;
    rest.split('"').next().map(str::to_owned)
}

/// Method, target and status of a line of the access log: `127.0.0.1 - - [date] "GET /v2/ HTTP/1.1"
/// 200 2 "" "skopeo"`.
fn request(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("] \"")?;
    let (request, rest) = rest.split_once(" HTTP/1.1\" ")?;
    Some(format!("{request} {}", rest.split(' ').next()?))
}
