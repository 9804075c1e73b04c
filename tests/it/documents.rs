//! Every command in the README and in `docs/` is run, as a reader would type it, but for those in
//! [`NOT_RUN`].
//!
//! Each page has a larder, two upstreams, a dockerd and a directory of its own. What a page names
//! that cannot be the same here, an address or a path, is replaced: [`World::translate`].

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::hub::Hub;
use crate::support::image::Image;
use crate::support::programs::{Dockerd, Larder, Options, Output, Running, Skopeo, Workshop};

/// What is not run, by what it holds, and why. Each is somewhere in the pages.
const NOT_RUN: &[(&str, &str)] = &[
    (
        "REGISTRY_PROXY_",
        "they belong together; configuration/environment.rs sets them",
    ),
    ("cargo ", "builds for minutes what is being tested"),
    ("make ", "the same"),
    ("sudo ", "changes the machine"),
    ("systemctl ", "no service manager runs here"),
    (
        "larder setup docker --address larder.lan:5000 --",
        "changes the machine, and asks one that is not there; setup/clients.rs does both elsewhere",
    ),
    ("journalctl ", "no service manager runs here"),
    ("chown ", "the machine has no such user"),
    ("install -o larder", "the machine has no such user"),
    ("ln -s /usr/local/", "changes the machine"),
    ("ip -br addr", "looks at the machine's network"),
    (
        "docker run ",
        "dockerd runs no containers here; packaging/image.rs starts it",
    ),
    ("docker exec ", "the same"),
    ("docker kill ", "the same"),
    ("docker stop ", "the same"),
    ("docker cp ", "the same"),
    ("docker inspect ", "the same"),
    ("docker build ", "the same"),
    (
        "docker load ",
        "make image has not run; packaging/image.rs loads it",
    ),
    ("docker login ", "asks at a terminal; clients.rs logs in"),
    ("docker buildx ", "starts a container"),
    (
        "docker-compose ",
        "starts containers; packaging/compose.rs reads the files",
    ),
    (
        "podman ",
        "needs a store of its own; skopeo and buildah share its code",
    ),
    (
        "buildah ",
        "needs an image in its store; clients.rs pushes one",
    ),
    ("crane ", "not in Debian"),
    ("oras ", "not in Debian"),
    ("helm ", "not in Debian"),
    (
        "do\n",
        "a loop over the tree of an old cache, to be looked at by who types it",
    ),
];

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
        let commands = if block.contains("do\n") {
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

/// Where the commands of one page are run.
struct World {
    shop: Workshop,
    larder: Larder,
    docker: Dockerd,
    _hubs: [Hub; 2],
}

impl World {
    async fn new() -> Self {
        let (hub, ghcr) = (Hub::start().await, Hub::start().await);
        for (seed, (name, tag)) in [
            ("library/nginx", "latest"),
            ("library/python", "3.12"),
            ("library/postgres", "16"),
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
        let world = Self {
            shop,
            larder,
            docker,
            _hubs: [hub, ghcr],
        };
        world.prepare().await;
        world
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.shop.path(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    /// What a reader has by then: files, and images of his own.
    async fn prepare(&self) {
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
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
        symlink(config, self.shop.path("config")).expect("a link");
        for name in ["larder", "registry"] {
            let link = self.shop.path("bin").join(name);
            symlink(env!("CARGO_BIN_EXE_larder"), link).expect("a link");
        }
        let docker = self.docker.host();
        let docker = format!(
            "#!/bin/sh\nexec /usr/bin/env PATH=\"${{PATH#*:}}\" docker -H {docker} \"$@\"\n"
        );
        self.write("bin/docker", &docker);
        self.run("chmod +x bin/docker").await.expect_success();
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

    /// A page's words, as they are here.
    fn translate(&self, text: &str) -> String {
        let address = self.larder.address();
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
            ("=:8080", "=127.0.0.1:0"),
            ("/etc/docker/registry/", ""),
            ("/etc/larder/", ""),
            ("/var/lib/larder/", "data/"),
            ("/var/lib/docker/volumes/registry/_data", "volume"),
            (" backup:/larder/", " backup/"),
            ("restored.yml", "config.yml"),
            ("<pid>", &pid),
            // The one that is here already, a reader does not have yet.
            ("--as team/app:1", "--as team/brought:1"),
            // The password comes from standard input, and not from a terminal.
            ("htpasswd -B", "htpasswd -i -B"),
            ("curl -u teacher ", "curl -u teacher:secret "),
            ("curl -u ann ", "curl -u ann:secret "),
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
    async fn take(&self, step: &Step) -> Option<String> {
        let line = self.translate(&step.text);
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_variable = |word: &&&str| word.starts_with("REGISTRY_") && word.contains('=');
        let variables = words.iter().take_while(is_variable).count();
        let rest: Vec<&str> = words[variables..].to_vec();
        let output = match &rest[..] {
            // Variables alone; a value in quotes may have blanks in it.
            _ if rest.is_empty() || variables > 0 && line.contains("='") => {
                self.run(&format!("env {line} larder config")).await
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
        let Step { page, text } = step;
        let (out, complaints) = (&output.stdout, &output.stderr);
        (!output.success).then(|| format!("{page}: {text}\n{out}{complaints}"))
    }
}

/// Types what a page says, and returns what failed.
async fn follow(page: &Path) -> Vec<String> {
    let steps = steps(page);
    let steps: Vec<_> = steps.iter().filter(|step| is_run(step)).collect();
    if steps.is_empty() {
        return Vec::new();
    }
    let world = World::new().await;
    let mut failures = Vec::new();
    for step in steps {
        failures.extend(world.take(step).await);
    }
    failures
}

#[tokio::test]
async fn every_command_of_the_readme_works() {
    let failures = follow(&pages()[0]).await;
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test]
async fn every_command_of_the_manual_works() {
    let mut failures = Vec::new();
    for page in pages().iter().skip(1) {
        failures.extend(follow(page).await);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn what_is_not_run_is_in_the_pages_and_most_is_run() {
    let all: Vec<Step> = pages().iter().flat_map(|page| steps(page)).collect();
    for (what, _) in NOT_RUN {
        let is_there = all.iter().any(|step| step.text.contains(what));
        assert!(is_there, "{what:?} is in no page any more");
    }
    let run = all.iter().filter(|step| is_run(step)).count();
    assert!(run > 80, "{run} of {}", all.len());
}
