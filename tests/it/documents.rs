//! Every command in the README and in `docs/` is run, as a reader would type it, but for those in
//! [`NOT_RUN`]; those for the service manager are run in [`service`].
//!
//! Each page has a larder, two upstreams, a dockerd and a directory of its own. What a page names
//! that cannot be the same here, an address or a path, is replaced: [`World::translate`].

mod containers;
mod service;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;
use serde_json::{Value, json};

use self::containers::{Container, Wish};
use self::service::is_of_service;
use crate::support::hub::Hub;
use crate::support::image::Image;
use crate::support::programs::{
    Dockerd, Htpasswd, Larder, Options, Output, Podman, Running, Skopeo, Workshop,
};

/// What is not run, by what it holds, and why. Each is somewhere in the pages.
const NOT_RUN: &[(&str, &str)] = &[
    ("cargo ", "builds for minutes what is being tested"),
    ("make test", "is what runs this"),
    ("systemctl stop registry", "is another's service"),
    ("systemctl restart docker", "the same"),
    (
        "docker buildx ",
        "starts a container, of an image from afar",
    ),
    ("crane ", "not in Debian"),
    ("oras ", "not in Debian"),
    ("helm ", "not in Debian"),
];

/// What must hold after a command: its exit status does not say all.
const AFTER: &[(&str, &str)] = &[
    ("sudo install ", "test ! -L bin/larder && larder --version"),
    ("ln -s /usr/local/bin/larder", "registry --version"),
    (
        "install -o larder",
        r#"test "$(stat -c '%u %a' hooked/privkey.pem)" = "64123 400""#,
    ),
    (
        "larder setup docker --address larder.lan:5000 --apply",
        "grep registry-mirrors machine/etc/docker/daemon.json",
    ),
    (
        "| while read",
        "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=old larder ls | grep 'library/old:1 *docker.io'",
    ),
];

/// Services of other packages that the pages speak of.
const OTHERS_SERVICES: &[&str] = &["docker", "docker-registry", "registry", "containerd"];

/// A command, and where it stands.
#[derive(Clone, Debug)]
struct Step {
    page: String,
    text: String,
}

/// The pages, by their names.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents = fs::read_dir(root.join("docs")).expect("docs/");
    let documents = documents.map(|entry| entry.expect("an entry").path());
    let is_page = |path: &PathBuf| path.extension().is_some_and(|end| end == "md");
    let mut pages: Vec<_> = documents.filter(is_page).collect();
    pages.sort();
    pages.insert(0, root.join("README.md"));
    pages
}

/// The commands of a page. A block with a loop in it is one command.
fn steps(page: &Path) -> Vec<Step> {
    let text = fs::read_to_string(page).expect("a page");
    let name = page.file_name().expect("a name").to_string_lossy();
    let blocks = text.split("```sh\n").skip(1);
    let blocks = blocks.map(|rest| rest.split("```").next().expect("a block"));
    let mut steps = Vec::new();
    for block in blocks {
        let block = block.replace("\\\n", " ");
        // Each of these alone would be a mistake.
        let block = block.replace("\nREGISTRY_PROXY_USER", " REGISTRY_PROXY_USER");
        let block = block.replace("\nREGISTRY_PROXY_PASS", " REGISTRY_PROXY_PASS");
        let commands = if block.contains("\ndone\n") {
            vec![block.as_str()]
        } else {
            block.lines().collect()
        };
        let bare = commands.into_iter().map(without_comment);
        let bare = bare.filter(|text| !text.is_empty());
        steps.extend(bare.map(|text| Step {
            page: name.clone().into_owned(),
            text,
        }));
    }
    steps
}

fn without_comment(line: &str) -> String {
    if line.starts_with('#') {
        return String::new();
    }
    let code = if line.contains('\n') {
        line
    } else {
        line.split("  #").next().expect("a first part")
    };
    code.trim().to_owned()
}

fn is_run(step: &Step) -> bool {
    !NOT_RUN.iter().any(|(what, _)| step.text.contains(what))
}

/// What is made once for all pages: the program as it is packed, and the image of it.
struct Packed {
    program: PathBuf,
    image: PathBuf,
    _shop: Workshop,
}

impl Packed {
    async fn new() -> Self {
        let shop = Workshop::new();
        let (program, image) = (shop.stripped_larder().await, shop.path("larder.tar"));
        let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/image/build");
        let mut build = shop.command(build, &[]);
        build.arg(&program).arg(&image);
        shop.finish(build).await.expect_success();
        Self {
            program,
            image,
            _shop: shop,
        }
    }
}

/// Where the commands of one page are run.
struct World {
    containers: HashMap<String, Container>,
    shop: Workshop,
    larder: Larder,
    /// Another, which asks for passwords.
    guarded: Larder,
    docker: Dockerd,
    _hubs: [Hub; 2],
    _users: Htpasswd,
}

impl World {
    /// For a page.
    async fn new(page: &str, packed: &Packed) -> Self {
        let (hub, ghcr) = (Hub::start().await, Hub::start().await);
        for (seed, (name, tag)) in [
            ("library/nginx", "latest"),
            ("library/python", "3.12"),
            ("library/postgres", "16"),
            ("library/hello-world", "latest"),
            ("bitnami/app", "1"),
        ]
        .into_iter()
        .enumerate()
        {
            hub.push(name, tag, &Image::uniform(seed as u64, 2, 20_000));
        }
        for tag in ["1", "1.0", "latest"] {
            ghcr.push("org/app", tag, &Image::uniform(9, 1, 20_000));
        }
        let shop = Workshop::new();
        fs::create_dir(shop.path("bin")).expect("a directory");
        let options = Options::mirror_of(&hub).upstream("ghcr.io", &ghcr);
        let larder = options.on(&shop.path("data")).start().await;
        let mirror = format!("http://{}", larder.address());
        let docker = Dockerd::with_mirror(&mirror).await;
        let users = Htpasswd::new(&[("ann", "secret")]);
        let passwords = json!({ "realm": "team", "path": users.path() });
        let guarded = Options::registry().set(&["auth", "htpasswd"], passwords);
        let world = Self {
            containers: HashMap::new(),
            shop,
            larder,
            guarded: guarded.start().await,
            docker,
            _hubs: [hub, ghcr],
            _users: users,
        };
        world.prepare(&packed.program).await;
        world.prepare_for(page, &packed.image).await;
        world
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.shop.path(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    /// What a reader has by then: files, and images of his own.
    async fn prepare(&self, program: &Path) {
        let (command, _home) = self.larder.command(&["ls"]);
        let config = command.get_args().last().expect("a file");
        let config = fs::read_to_string(config).expect("the configuration");
        for name in ["world.yml", "classroom.yml"] {
            self.write(name, &config);
        }
        let mut config: Value = serde_json::from_str(&config).expect("JSON");
        config["cache"]["warm"] = json!({ "images": ["nginx"] });
        self.write("config.yml", &config.to_string());
        self.write(
            "class.txt",
            "# lesson 1\npython:3.12\nbitnami/app:1\nghcr.io/org/app:1\n",
        );
        self.write("compose.yml", "services:\n  db:\n    image: postgres:16\n");
        self.write("htpasswd", "");
        self.write("backup/docker/registry/v2/keep", "");
        self.write(
            ".config/containers/policy.json",
            r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
        );
        // He has the sources, and has built the program.
        let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
        for name in [
            "config",
            "packaging",
            "docs",
            "Makefile",
            "Cargo.toml",
            "CHANGELOG.md",
        ] {
            symlink(sources.join(name), self.shop.path(name)).expect("a link");
        }
        let built = self.shop.path("target/release/larder");
        fs::create_dir_all(built.parent().expect("a directory")).expect("a directory");
        symlink(program, built).expect("a link");
        let larder = self.shop.path("bin/larder");
        symlink(env!("CARGO_BIN_EXE_larder"), larder).expect("a link");
        self.write("Dockerfile", "FROM python:3.12\nCOPY class.txt /\n");
        self.write(".dockerignore", "*\n!class.txt\n");
        self.write(
            "alone.yml",
            "version: '3.7'\nservices: { larder: { network_mode: none } }\n",
        );
        let image = Image::uniform(20, 1, 20_000);
        for (name, tag) in [("team/app", "1"), ("ann/web", "0")] {
            self.larder.push(name, tag, &image).await;
        }
        let skopeo = Skopeo::new();
        let archive = self.shop.path("pushed.tar");
        let archive = format!("docker-archive:{}:team/app:1", archive.display());
        let pushed = format!("docker://{}/team/app:1", self.larder.address());
        skopeo.copy(&pushed, &archive).await;
        for line in [
            "docker load -i pushed.tar && docker tag team/app:1 app && docker tag app web",
            "docker save -o app.tar team/app:1",
            "docker tag app localhost:5000/team/app:1",
            "docker tag app localhost:5000/team/app:1.0",
            "larder warm -f class.txt --platform linux/amd64",
            "larder warm nginx postgres:16 --platform linux/amd64",
            "larder export -o friday.tar ghcr.io/org/app:1",
        ] {
            self.run(&self.translate(line)).await.expect_success();
        }
    }

    /// What only some pages speak of, and what takes its time.
    async fn prepare_for(&self, page: &str, image: &Path) {
        let load = format!("docker load -i {}", image.display());
        let mut lines = Vec::new();
        if page.contains("buildah push") {
            // With a store of their own.
            let store = "--root $HOME/store --runroot $HOME/run --storage-driver vfs";
            let find = "exec /usr/bin/env PATH=\"${PATH#*:}\"";
            let of_podman = Podman::OPTIONS.join(" ");
            for (program, options) in [("buildah", ""), ("podman", of_podman.as_str())] {
                let script = format!("#!/bin/sh\n{find} {program} {store} {options} \"$@\"\n");
                self.write(&format!("bin/{program}"), &script);
            }
            lines.extend([
                "chmod +x bin/buildah bin/podman",
                "buildah tag $(buildah pull --quiet docker-archive:app.tar) localhost/team/app",
            ]);
        }
        if page.contains("install -o larder") || page.contains("mkdir tls") {
            lines.extend([
                "mkdir live hooked",
                "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x \
                    -keyout live/privkey.pem -out live/fullchain.pem",
                "cp packaging/compose/private.yml .",
            ]);
        }
        if page.contains("docker run ") || page.contains("docker-compose ") {
            lines.push(&load);
        }
        // The container of an old registry, and the tree of an old cache.
        if page.contains("docker stop registry") {
            lines.extend([
                "docker create --name registry -v registry:/var/lib/registry larder:0.1.0",
                "docker cp config.yml registry:/etc/docker/registry/config.yml",
            ]);
            let old = Options::registry().on(&self.shop.path("old")).start().await;
            let image = Image::uniform(30, 1, 20_000);
            old.push("library/old", "1", &image).await;
            old.finish().await;
        }
        for line in lines {
            self.run(&self.translate(line)).await.expect_success();
        }
    }

    /// A page's words, as they are here.
    fn translate(&self, text: &str) -> String {
        let address = self.larder.address();
        let bin = format!("{}/", self.shop.path("bin").display());
        let guarded = self.guarded.address();
        let pid = self.larder.pid().to_string();
        let mut text = text.to_owned();
        for (there, here) in [
            ("10.0.0.5:5000", address),
            ("class.lan:5000", address),
            ("mirror.lan:5000", address),
            ("localhost:5000", address),
            ("//larder:5000", &format!("//{address}")),
            (" larder:5000", &format!(" {address}")),
            ("registry.example.com", address),
            ("larder.lan:5000", address),
            ("=:8080", "=127.0.0.1:0"),
            (" backup:/larder/", " backup/"),
            ("restored.yml", "config.yml"),
            ("<pid>", &pid),
            // The one that is here already, a reader does not have yet.
            ("--as team/app:1", "--as team/brought:1"),
            // The password comes from standard input, and not from a terminal.
            ("htpasswd -B", "htpasswd -i -B"),
            ("curl -u teacher ", "curl -u teacher:secret "),
            ("curl -u ann ", "curl -u ann:secret "),
            (
                &format!("docker login {address}"),
                &format!("docker login -u ann --password-stdin {guarded}"),
            ),
            // What has been built, in place of what takes minutes.
            ("make image", "make image BINARY=target/release/larder"),
            (
                "make deb",
                "make deb BINARY=target/release/larder COMPRESSION=none",
            ),
            ("mkdir tls", "mkdir tls && cp live/* tls"),
            // Who runs the tests is root already, and the machine is another.
            ("sudo ", ""),
            (" /usr/local/bin/", &format!(" {bin}")),
            ("--apply", "--apply --yes --root machine"),
            ("--check", "--check --root machine"),
            // The user that the package makes, and where the hook puts what it copies.
            ("install -o larder", "install -o 64123 -t hooked"),
        ] {
            text = text.replace(there, here);
        }
        // Paths in a container are as they are everywhere.
        if text.starts_with("docker ") {
            return text;
        }
        for (there, here) in [
            ("/etc/docker/registry/", ""),
            ("/etc/larder/", ""),
            ("/var/lib/larder/", "data/"),
            ("/var/lib/registry/", "old/"),
            ("/var/lib/docker/volumes/registry/_data", "volume"),
        ] {
            text = text.replace(there, here);
        }
        text
    }

    fn command(&self, line: &str) -> Command {
        let mut command = self.shop.command("sh", &["-e", "-c", line]);
        let bin = self.shop.path("bin");
        let path = std::env::var("PATH").expect("a PATH");
        command
            .env("PATH", format!("{}:{path}:/usr/sbin:/sbin", bin.display()))
            .env("DOCKER_HOST", self.docker.host())
            // The other builder is a plugin that Debian does not have everywhere.
            .env("DOCKER_BUILDKIT", "0")
            .env("RENEWED_LINEAGE", self.shop.path("live"))
            .env("REGISTRY_CONFIGURATION_PATH", self.shop.path("world.yml"));
        command
    }

    async fn run(&self, line: &str) -> Output {
        let mut command = self.command(&format!("{{ {line}\n}} <secret"));
        command.env("CI_COMMIT_SHA", "1");
        self.write("secret", "secret\n");
        self.shop.finish(command).await
    }

    /// A server runs until it listens, on a port and a directory of its own.
    async fn serve(&self, line: &str) {
        let mut command = self.command(&format!("exec env {line}"));
        command.env("REGISTRY_HTTP_ADDR", "127.0.0.1:0").env(
            "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY",
            self.shop.path("other"),
        );
        let running = Running::start("documented", command);
        running.address().await;
        assert!(running.stop().await.success(), "{line}");
    }

    /// Runs it, and says what went wrong.
    async fn take(&mut self, step: &Step) -> Option<String> {
        let line = self.translate(&step.text);
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_variable = |word: &&&str| word.starts_with("REGISTRY_") && word.contains('=');
        let variables = words.iter().take_while(is_variable).count();
        let rest: Vec<&str> = words[variables..].to_vec();
        let wish = Wish::of(&line);
        let output = match &rest[..] {
            _ if wish.is_some() => self.grant(wish.expect("a wish"), &line).await,
            // Variables alone; a value in quotes may have blanks in it.
            _ if rest.is_empty() || variables > 0 && line.contains("='") => {
                self.run(&format!("env {line} larder config config/default.yml"))
                    .await
            }
            ["larder"] | ["larder" | "registry", "serve", ..] => {
                self.serve(&line).await;
                return None;
            }
            _ => {
                // A reader does not write the same file twice.
                if let Some(at) = rest.iter().position(|word| *word == "-o") {
                    _ = fs::remove_file(self.shop.path(rest[at + 1]));
                }
                self.run(&line).await
            }
        };
        let mut output = output;
        for (_, check) in AFTER.iter().filter(|(what, _)| step.text.contains(what)) {
            if output.success {
                output = self.run(check).await;
            }
        }
        let Step { page, text } = step;
        let (out, complaints) = (&output.stdout, &output.stderr);
        (!output.success).then(|| format!("{page}: {text}\n{out}{complaints}"))
    }
}

/// Types what a page says, and returns what failed.
async fn follow(page: &Path, packed: &Packed) -> Vec<String> {
    let steps = steps(page);
    let is_ours = |step: &&Step| is_run(step) && !is_of_service(step);
    let steps: Vec<_> = steps.iter().filter(is_ours).collect();
    if steps.is_empty() {
        return Vec::new();
    }
    let text = fs::read_to_string(page).expect("a page");
    let mut world = World::new(&text, packed).await;
    let mut failures = Vec::new();
    for step in steps {
        failures.extend(world.take(step).await);
    }
    failures
}

#[tokio::test]
async fn every_command_of_the_readme_works() {
    let failures = follow(&pages()[0], &Packed::new().await).await;
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test]
async fn every_command_of_the_manual_works() {
    let packed = Packed::new().await;
    let mut failures = Vec::new();
    for page in pages().iter().skip(1) {
        failures.extend(follow(page, &packed).await);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn what_is_not_run_is_in_the_pages_and_most_is_run() {
    let all: Vec<Step> = pages().iter().flat_map(|page| steps(page)).collect();
    for (what, _) in NOT_RUN.iter().chain(AFTER) {
        let is_there = all.iter().any(|step| step.text.contains(what));
        assert!(is_there, "{what:?} is in no page any more");
    }
    let run = all.iter().filter(|step| is_run(step)).count();
    assert!(run > 160, "{run} of {}", all.len());
}

/// Also where it is named in the middle of a sentence, which nobody runs.
#[test]
fn every_unit_that_is_named_is_packaged_and_can_do_what_is_asked() {
    let asked =
        r#"(?:systemctl ([a-z]+)|journalctl -u|systemd-analyze security) (?:--now )?([^`#|;"\n]*)"#;
    let (asked, unit) = (
        Regex::new(asked).expect("a pattern"),
        Regex::new(r"^[a-z][a-z-]*(\.socket|\.service)?$").expect("a pattern"),
    );
    let packaged = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd");
    let mut seen = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        for asked in asked.captures_iter(&text) {
            let verb = asked.get(1).map_or("", |verb| verb.as_str());
            let names = asked[2].split_whitespace();
            for name in names.take_while(|word| unit.is_match(word)) {
                if OTHERS_SERVICES.contains(&name) {
                    continue;
                }
                let file = match name.rsplit_once('.') {
                    Some(_) => name.to_owned(),
                    None => format!("{name}.service"),
                };
                let said = format!("{}: {}", page.display(), &asked[0]);
                let unit = fs::read_to_string(packaged.join(file));
                let unit = unit.unwrap_or_else(|error| panic!("{said}: {error}"));
                assert!(verb != "reload" || unit.contains("ExecReload="), "{said}");
                seen += 1;
            }
        }
    }
    assert!(seen > 6, "{seen}");
}
