//! The real larder, on a port of its own, with a data directory that outlives its processes.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::hub::Hub;
use super::super::tree;
use super::daemon::Daemon;
use super::{Output, command, new_home, run, write};

/// Stopping may take as long as the answers under way; tests have none that take this long.
const STOP_LIMIT: Duration = Duration::from_secs(45);

/// How to start larder.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    config: Value,
    root: Option<PathBuf>,
    environment: Vec<(String, String)>,
    trusted: Option<String>,
}

/// A running larder, and its data directory.
pub(crate) struct Larder {
    daemon: Daemon,
    config: Value,
    environment: Vec<(String, String)>,
    address: String,
    root: PathBuf,
    scheme: &'static str,
    trusted: Option<String>,
    client: reqwest::Client,
    home: TempDir,
}

/// A larder that is not running: its configuration and its data directory.
pub(crate) struct Resting {
    config: Value,
    environment: Vec<(String, String)>,
    root: PathBuf,
    home: TempDir,
}

/// How a larder ended that could not start.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Its exit status.
    pub(crate) status: Option<i32>,
    /// What it wrote.
    pub(crate) log: String,
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// The headers.
    pub(crate) headers: reqwest::header::HeaderMap,
    /// The body, as far as it came.
    pub(crate) body: Vec<u8>,
    /// Whether the body came to its announced end.
    pub(crate) complete: bool,
}

impl Answer {
    /// A header's value, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// How the answer was made.
    pub(crate) fn cache(&self) -> &str {
        self.header("x-cache")
    }

    /// The body as JSON; a panic with the body if it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The first error code of an error body.
    pub(crate) fn code(&self) -> String {
        self.json()["errors"][0]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

impl Options {
    /// A plain registry that allows deleting.
    pub(crate) fn registry() -> Self {
        Self {
            config: json!({
                "version": 0.1,
                "storage": { "delete": { "enabled": true } },
                "http": { "addr": "127.0.0.1:0" },
                // However full the disk is that the tests run on.
                "cache": { "minfree": "0" },
            }),
            root: None,
            environment: Vec::new(),
            trusted: None,
        }
    }

    /// The same, mirroring the hub as docker.io.
    pub(crate) fn mirror_of(hub: &Hub) -> Self {
        Self::registry().upstream("docker.io", hub)
    }

    /// With one more upstream: a hub, under that name.
    pub(crate) fn upstream(self, name: &str, hub: &Hub) -> Self {
        let settings = json!({ "url": hub.url(), "tokenhosts": [hub.token_host()] });
        self.set(&["upstreams", name], settings)
    }

    /// With a username and password for an upstream.
    pub(crate) fn login(self, upstream: &str, username: &str, password: &str) -> Self {
        self.set(&["upstreams", upstream, "username"], json!(username))
            .set(&["upstreams", upstream, "password"], json!(password))
    }

    /// With a key of config.yml set.
    pub(crate) fn set(mut self, path: &[&str], value: Value) -> Self {
        let mut place = &mut self.config;
        for key in path {
            place = &mut place[*key];
        }
        *place = value;
        self
    }

    /// With tags that are asked for again each time.
    pub(crate) fn never_fresh(self) -> Self {
        self.set(&["cache", "freshfor"], json!("0s"))
    }

    /// On a data directory that is already there.
    pub(crate) fn on(mut self, root: &Path) -> Self {
        self.root = Some(root.to_owned());
        self
    }

    /// With an environment variable.
    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With HTTPS by this certificate and key, whose issuer the requests of the test trust.
    pub(crate) fn tls(mut self, certificate: &Path, key: &Path, issuer: &str) -> Self {
        self.trusted = Some(issuer.to_owned());
        self.set(&["http", "tls", "certificate"], json!(certificate))
            .set(&["http", "tls", "key"], json!(key))
    }

    /// Runs a command that takes its configuration with `-c`, on a data directory.
    pub(crate) async fn tool(&self, root: &Path, arguments: &[&str]) -> Output {
        let (command, _home) = self.tool_command(root, arguments);
        run(command, b"").await
    }

    /// The same as a command that a test starts, and the directory that it needs as long.
    pub(crate) fn tool_command(&self, root: &Path, arguments: &[&str]) -> (Command, TempDir) {
        let mut config = self.config.clone();
        config["storage"]["filesystem"]["rootdirectory"] = json!(root);
        tool(&config, &self.environment, arguments)
    }

    /// Starts a larder that ends by itself, and says how.
    pub(crate) async fn fail(mut self) -> Failure {
        let (home, data) = (new_home("larder"), new_home("data"));
        let root = self.root.take();
        let root = root.unwrap_or_else(|| data.path().join("root"));
        self.config["storage"]["filesystem"]["rootdirectory"] = json!(root);
        let command = larder(&self.config, &self.environment, &home, &["serve"]);
        let mut daemon = Daemon::start("larder", command, home);
        let status = daemon.ended(STOP_LIMIT).await.code();
        Failure {
            status,
            log: daemon.written(),
        }
    }

    /// Starts nothing: for commands that work alone.
    pub(crate) fn rest(self) -> Resting {
        let home = new_home("data");
        let root = self.root.unwrap_or_else(|| home.path().join("root"));
        let mut config = self.config;
        config["storage"]["filesystem"]["rootdirectory"] = json!(root);
        Resting {
            config,
            environment: self.environment,
            root,
            home,
        }
    }

    /// Starts larder, and waits until it listens.
    pub(crate) async fn start(self) -> Larder {
        let home = new_home("data");
        let root = self.root.unwrap_or_else(|| home.path().join("root"));
        let mut config = self.config;
        config["storage"]["filesystem"]["rootdirectory"] = json!(root);
        let (daemon, address) = launch(&config, &self.environment).await;
        let client = client_trusting(self.trusted.as_deref());
        Larder {
            daemon,
            scheme: scheme(&config),
            config,
            environment: self.environment,
            address,
            root,
            client: client.build().expect("a client"),
            trusted: self.trusted,
            home,
        }
    }
}

impl Resting {
    /// The data directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The tree in the data directory.
    pub(crate) fn tree(&self) -> PathBuf {
        self.root.join("docker/registry/v2")
    }

    /// A directory for a test's own files.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// A larder on the same data directory, yet to be started. It must not outlive this.
    pub(crate) fn options(&self) -> Options {
        Options {
            config: self.config.clone(),
            root: Some(self.root.clone()),
            environment: self.environment.clone(),
            trusted: None,
        }
    }

    /// Runs a command that takes its configuration as `-c`.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        let (command, _home) = self.command(arguments);
        run(command, b"").await
    }

    /// The same with something on its standard input.
    pub(crate) async fn run_with_input(&self, arguments: &[&str], input: &str) -> Output {
        let (command, _home) = self.command(arguments);
        run(command, input.as_bytes()).await
    }

    /// The same as a command that a test starts, and the directory that it needs as long.
    pub(crate) fn command(&self, arguments: &[&str]) -> (Command, TempDir) {
        let home = new_home("command");
        let arguments = [arguments, &["-c"]].concat();
        let command = larder(&self.config, &self.environment, &home, &arguments);
        (command, home)
    }
}

fn tool(
    config: &Value,
    environment: &[(String, String)],
    arguments: &[&str],
) -> (Command, TempDir) {
    let home = new_home("tool");
    let arguments = [arguments, &["-c"]].concat();
    let command = larder(config, environment, &home, &arguments);
    (command, home)
}

async fn launch(config: &Value, environment: &[(String, String)]) -> (Daemon, String) {
    let home = new_home("larder");
    let command = larder(config, environment, &home, &["serve"]);
    let daemon = Daemon::start("larder", command, home);
    let address = daemon.ready(listening_on).await;
    (daemon, address)
}

fn larder(
    config: &Value,
    environment: &[(String, String)],
    home: &TempDir,
    arguments: &[&str],
) -> Command {
    let file = home.path().join("config.yml");
    // JSON is YAML.
    write(&file, &config.to_string());
    let mut larder = command("sh", home.path());
    // Its proxy variables would keep larder from the hub's other host names.
    // A limit of open files can only be set by who starts it.
    larder
        .arg("-c")
        .arg(r#"[ -z "$LARDER_TEST_FILES" ] || ulimit -n "$LARDER_TEST_FILES"; exec "$0" "$@""#);
    larder
        .arg(env!("CARGO_BIN_EXE_larder"))
        .args(arguments)
        .arg(&file);
    larder.envs(environment.iter().map(|(name, value)| (name, value)));
    larder
}

/// The address in the line that says where a larder listens.
pub(super) fn listening_on(line: &str) -> Option<String> {
    let (_, url) = line.split_once("listening on http")?;
    let schemes = ["s://", "+unix://", "://"];
    let address = schemes.iter().find_map(|end| url.strip_prefix(end))?;
    // In JSON the line goes on after a quote.
    let mut words = address.split(|c: char| c.is_whitespace() || c == '"');
    Some(words.next()?.to_owned())
}

fn scheme(config: &Value) -> &'static str {
    if config["http"]["tls"].is_object() {
        "https"
    } else {
        "http"
    }
}

/// A client that talks to loopback only, follows nothing, decodes nothing, and trusts only this
/// issuer of certificates.
pub(crate) fn client_trusting(issuer: Option<&str>) -> reqwest::ClientBuilder {
    // The client insists on a TLS provider even if it never speaks TLS; a second one is refused.
    _ = rustls::crypto::ring::default_provider().install_default();
    let follow_nothing = reqwest::redirect::Policy::none();
    let issuer = issuer.map(|pem| reqwest::Certificate::from_pem(pem.as_bytes()));
    reqwest::Client::builder()
        .no_proxy()
        .redirect(follow_nothing)
        .tls_certs_only(issuer.map(|issuer| issuer.expect("a certificate")))
        .tls_info(true)
}

impl Larder {
    /// Host and port, as in an image's name.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The base URL, without a slash at its end.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// The data directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The tree in the data directory.
    pub(crate) fn tree(&self) -> PathBuf {
        self.root.join("docker/registry/v2")
    }

    /// The certificate of who issued its own, PEM; `None` where it speaks plain HTTP.
    pub(crate) fn trusted(&self) -> Option<&str> {
        self.trusted.as_deref()
    }

    /// Everything it wrote to its log since it was last started.
    pub(crate) fn log(&self) -> String {
        self.daemon.written()
    }

    /// Waits until a line of the log holds `text`.
    pub(crate) async fn logged(&self, text: &str) {
        self.daemon
            .ready(|line| line.contains(text).then_some(()))
            .await;
    }

    /// Sets a key (`null` removes it) in the file that the running larder was started with.
    /// Nothing happens until [`hang_up`](Self::hang_up).
    pub(crate) fn reconfigure(&mut self, path: &[&str], value: Value) {
        let (last, parents) = path.split_last().expect("a key");
        let mut place = &mut self.config;
        for key in parents {
            place = &mut place[*key];
        }
        if value.is_null() {
            place.as_object_mut().map(|section| section.remove(*last));
        } else {
            place[*last] = value;
        }
        let text = self.config.to_string();
        self.rewrite(&text);
    }

    /// Writes any text at all into that file.
    pub(crate) fn rewrite(&self, text: &str) {
        write(&self.daemon.home().join("config.yml"), text);
    }

    /// SIGHUP; returns what it logged until it was done, well or badly.
    pub(crate) async fn hang_up(&mut self) -> String {
        let before = self.log().len();
        self.signal(Signal::HUP);
        let is_done = |log: &str| {
            let new = &log[before..];
            let ends = ["has been read again\n", "the configuration stays as it was"];
            ends.iter().any(|end| new.contains(end))
        };
        self.daemon.wrote(is_done).await;
        self.log()[before..].to_owned()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// The processor time that it has used, in steps of 10 ms (`USER_HZ`, proc(5)).
    pub(crate) fn processor(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()));
        let stat = stat.expect("a running process");
        // Its name comes first, and may have anything in it.
        let (_, fields) = stat.rsplit_once(')').expect("a name");
        let fields = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = fields.map(|it| it.parse::<u64>().expect("ticks")).sum();
        Duration::from_millis(ticks * 10)
    }

    /// A request, to be completed and sent with [`send`](Self::send).
    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().expect("a method");
        let url = if path.starts_with("http") {
            path.to_owned()
        } else {
            format!("{}{path}", self.url())
        };
        self.client.request(method, url)
    }

    /// Sends a request and reads the answer to its end, or to where it breaks.
    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let mut response = request.send().await.expect("an answer's head");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut body = Vec::new();
        let complete = loop {
            match response.chunk().await {
                Ok(Some(bytes)) => body.extend_from_slice(&bytes),
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        Answer {
            status,
            headers,
            body,
            complete,
        }
    }

    /// GET
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request("GET", path)).await
    }

    /// HEAD
    pub(crate) async fn head(&self, path: &str) -> Answer {
        self.send(self.request("HEAD", path)).await
    }

    /// Uploads a blob in one request after the POST; a panic if it is not taken.
    pub(crate) async fn push_blob(&self, name: &str, bytes: &[u8]) -> String {
        let digest = super::super::image::sha256(bytes);
        let started = self
            .send(self.request("POST", &format!("/v2/{name}/blobs/uploads/")))
            .await;
        assert_eq!(started.status, 202, "{started:?}");
        let location = format!("{}&digest={digest}", started.header("location"));
        let put = self.request("PUT", &location).body(bytes.to_vec());
        let stored = self.send(put).await;
        assert_eq!(stored.status, 201, "{stored:?}");
        digest
    }

    /// PUT of a manifest.
    pub(crate) async fn put_manifest(
        &self,
        name: &str,
        reference: &str,
        media_type: &str,
        bytes: impl Into<Vec<u8>>,
    ) -> Answer {
        let path = format!("/v2/{name}/manifests/{reference}");
        let put = self
            .request("PUT", &path)
            .header("content-type", media_type);
        self.send(put.body(bytes.into())).await
    }

    /// Pushes an image with all its blobs and children by the API.
    pub(crate) async fn push(&self, name: &str, tag: &str, image: &super::super::image::Image) {
        for (_, bytes) in image.blobs() {
            self.push_blob(name, &bytes).await;
        }
        for child in image.children() {
            Box::pin(self.push(name, &child.digest(), child)).await;
        }
        let pushed = self
            .put_manifest(
                name,
                tag,
                image.media_type(),
                image.manifest_bytes().to_vec(),
            )
            .await;
        assert_eq!(pushed.status, 201, "{pushed:?}");
    }

    /// Kills it with SIGKILL.
    pub(crate) async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.ended().await;
    }

    /// Sends it a signal.
    pub(crate) fn signal(&mut self, signal: Signal) {
        self.daemon.signal(signal);
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        self.daemon.ended(STOP_LIMIT).await
    }

    /// Starts it again on the same data directory and the same port.
    pub(crate) async fn start_again(&mut self) {
        self.config["http"]["addr"] = json!(self.address);
        let (daemon, address) = launch(&self.config, &self.environment).await;
        self.daemon = daemon;
        self.address = address;
        let client = client_trusting(self.trusted.as_deref());
        self.client = client.build().expect("a client");
    }

    /// Starts another one on the same data directory, and says how that ended.
    pub(crate) fn start_second(&self) -> std::process::Output {
        let home = new_home("second");
        let mut config = self.config.clone();
        config["http"]["addr"] = json!("127.0.0.1:0");
        larder(&config, &self.environment, &home, &["serve"])
            .output()
            .expect("larder starts")
    }

    /// Runs a command that takes its configuration as `-c`, on its data directory, whether it runs
    /// or not.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        self.run_as(&[], arguments).await
    }

    /// The same with more variables in its environment.
    pub(crate) async fn run_as(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
        let (mut command, _home) = self.command(arguments);
        command.envs(variables.iter().copied());
        run(command, b"").await
    }

    /// The same as a command that a test starts, and the directory that it needs as long.
    pub(crate) fn command(&self, arguments: &[&str]) -> (Command, TempDir) {
        let home = new_home("command");
        let mut config = self.config.clone();
        // Where it is, not where it was told to look for a port.
        config["http"]["addr"] = json!(self.address);
        let arguments = [arguments, &["-c"]].concat();
        let command = larder(&config, &self.environment, &home, &arguments);
        (command, home)
    }

    /// Runs `garbage-collect` on its data directory, whether it runs or not.
    pub(crate) async fn garbage_collect(&self, arguments: &[&str]) -> Output {
        let (command, _home) = self.collector(arguments);
        run(command, b"").await
    }

    /// The same as a command that a test starts, and the directory that it needs as long.
    pub(crate) fn collector(&self, arguments: &[&str]) -> (Command, TempDir) {
        let home = new_home("collect");
        let arguments = [&["garbage-collect"], arguments].concat();
        let command = larder(&self.config, &self.environment, &home, &arguments);
        (command, home)
    }

    /// A server with the configuration of this one, as a command that a test starts.
    pub(crate) fn server(&self) -> (Command, TempDir) {
        let home = new_home("server");
        let command = larder(&self.config, &self.environment, &home, &["serve"]);
        (command, home)
    }

    /// Runs a command that takes its configuration with `-c` beside it, on its data directory.
    pub(crate) async fn tool(&self, arguments: &[&str]) -> Output {
        let (command, _home) = self.tool_command(arguments);
        run(command, b"").await
    }

    /// The same as a command that a test starts, and the directory that it needs as long.
    pub(crate) fn tool_command(&self, arguments: &[&str]) -> (Command, TempDir) {
        tool(&self.config, &self.environment, arguments)
    }

    /// Asks it to stop, and checks that it leaves nothing behind: it exits with 0 (all its tasks
    /// have ended), nothing is staged, and the tree is sound.
    pub(crate) async fn finish(self) {
        let tree = self.tree();
        // The data directory goes with its larder, so it is kept until it has been looked at.
        let _home = self.stop().await;
        tree::assert_sound(&tree);
        tree::assert_nothing_staged(&tree);
    }

    /// The same where parts of blobs are left on purpose, to be continued.
    pub(crate) async fn finish_with_parts(self) {
        let tree = self.tree();
        let _home = self.stop().await;
        tree::assert_sound(&tree);
    }

    async fn stop(mut self) -> TempDir {
        self.signal(Signal::TERM);
        let status = self.ended().await;
        assert!(
            status.success(),
            "larder ended with {status}\n{}",
            self.daemon.log()
        );
        assert!(!self.log().contains("panicked"), "{}", self.daemon.log());
        self.home
    }
}
