//! Containers, as far as they come here: dockerd makes each, of its image and with every option that
//! was typed, but cannot start any. So their program is started from their files, as its image
//! says, with another root.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;

use super::World;
use crate::support::programs::{Output, Running, free_port};

/// Where the image keeps its configuration.
const CONFIG: &str = "etc/docker/registry/config.yml";

/// What a page wants of one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish<'a> {
    /// To be made by this command, and started.
    Run { make: String, show: Option<String> },
    /// To run a program beside its own.
    Exec { show: String, program: Vec<&'a str> },
    /// A signal.
    Signal { name: &'a str },
    /// To end, and then what docker makes of the line.
    Stop { name: &'a str },
}

/// One that has been started.
pub(super) struct Container {
    root: PathBuf,
    environment: BTreeMap<String, String>,
    running: Running,
}

impl<'a> Wish<'a> {
    /// What a line wants; none where docker can do it all.
    pub(super) fn of(line: &'a str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match &words[..] {
            ["docker", "run", "-d", ..] => Some(Self::Run {
                make: line.replacen("run -d", "create", 1),
                show: None,
            }),
            ["docker", "exec", name, program @ ..] => Some(Self::Exec {
                show: format!("echo {name}"),
                program: program.to_vec(),
            }),
            ["docker", "kill", "-s", "HUP", name] => Some(Self::Signal { name }),
            ["docker", "stop", name, ..] => Some(Self::Stop { name }),
            _ => Self::of_compose(line, &words),
        }
    }

    fn of_compose(line: &'a str, words: &[&'a str]) -> Option<Self> {
        let at = words.iter().position(|word| *word == "docker-compose")?;
        let ["docker-compose", "-f", file, rest @ ..] = &words[at..] else {
            return None;
        };
        let (before, _) = line.split_once(file)?;
        let show = format!("{before}{file} ps -a -q larder");
        match rest {
            // Networks are the kernel's, too.
            ["up", "-d"] => Some(Self::Run {
                make: format!("{before}{file} -f alone.yml up --no-start"),
                show: Some(show),
            }),
            ["exec", "larder", program @ ..] => Some(Self::Exec {
                show,
                program: program.to_vec(),
            }),
            _ => None,
        }
    }
}

impl World {
    /// Does what is wanted.
    pub(super) async fn grant(&mut self, wish: Wish<'_>, line: &str) -> Output {
        match wish {
            Wish::Run { make, show } => {
                let made = self.run(&make).await;
                if !made.success {
                    return made;
                }
                let show = show.unwrap_or_else(|| format!("echo {}", made.stdout.trim()));
                let (id, container) = self.launch(&show).await;
                self.containers.insert(id, container);
                made
            }
            Wish::Exec { show, program } => {
                let id = self.identity(&show).await;
                let container = &self.containers[&id];
                let command = self.inside(&container.root, &container.environment, &program);
                self.shop.finish(command).await
            }
            Wish::Signal { name } => {
                let id = self.identity(&format!("echo {name}")).await;
                let container = self.containers.get_mut(&id).expect("one that runs");
                container.running.signal(Signal::HUP);
                container.running.logged("has been read again").await;
                self.run("true").await
            }
            Wish::Stop { name } => {
                let id = self.identity(&format!("echo {name}")).await;
                if let Some(container) = self.containers.remove(&id) {
                    assert!(container.running.stop().await.success(), "{line}");
                }
                self.run(line).await
            }
        }
    }

    /// The id of the container whose name this command writes.
    async fn identity(&self, show: &str) -> String {
        let show = format!("docker inspect -f '{{{{.Id}}}}' $({show})");
        let id = self.run(&show).await.expect_success();
        id.trim().to_owned()
    }

    /// Starts the program of a container that has been made.
    async fn launch(&self, show: &str) -> (String, Container) {
        let id = self.identity(show).await;
        let told = self.run(&format!("docker inspect {id}")).await;
        let told: Value = serde_json::from_str(&told.expect_success()).expect("JSON");
        let told = &told[0];
        let root = self.shop.path("containers").join(&id);
        self.lay_out(&id, told, &root).await;
        let config = &told["Config"];
        let texts = |list: &Value| -> Vec<String> {
            serde_json::from_value(list.clone()).expect("a list of texts")
        };
        let pair = |entry: &String| {
            let (name, value) = entry.split_once('=').expect("a variable");
            (name.to_owned(), value.to_owned())
        };
        let mut environment: BTreeMap<_, _> = texts(&config["Env"]).iter().map(pair).collect();
        // The port is the machine's, and may be taken.
        for (name, value) in [
            (
                "REGISTRY_HTTP_ADDR",
                format!("127.0.0.1:{}", free_port()).as_str(),
            ),
            (
                "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY",
                "/var/lib/registry",
            ),
        ] {
            environment.insert(name.to_owned(), value.to_owned());
        }
        let arguments = [texts(&config["Entrypoint"]), texts(&config["Cmd"])].concat();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let command = self.inside(&root, &environment, &arguments);
        let running = Running::start("container", command);
        running.address().await;
        let container = Container {
            root,
            environment,
            running,
        };
        (id, container)
    }

    /// Writes out its files, with those that are mounted.
    async fn lay_out(&self, id: &str, told: &Value, root: &Path) {
        fs::create_dir_all(root).expect("a directory");
        let to = root.display();
        let unpack = format!("docker export {id} | tar -x -C {to}");
        self.run(&unpack).await.expect_success();
        // The image's own mirrors registries that are not here.
        let ours = self.shop.path("world.yml");
        fs::copy(ours, root.join(CONFIG)).expect("a file");
        for mount in told["Mounts"].as_array().expect("mounts") {
            let text = |name: &str| mount[name].as_str().expect("a text");
            if text("Type") == "bind" {
                let (from, at) = (text("Source"), format!("{to}{}", text("Destination")));
                let copy = format!("mkdir -p $(dirname {at}); cp -rT {from} {at}");
                self.run(&copy).await.expect_success();
            }
        }
    }

    fn inside(
        &self,
        root: &Path,
        environment: &BTreeMap<String, String>,
        program: &[&str],
    ) -> std::process::Command {
        let root = root.to_str().expect("a plain name");
        let mut command = self.shop.command("chroot", &[root]);
        command.args(program).env_clear().envs(environment);
        command
    }
}

#[test]
fn a_container_is_made_by_what_was_typed_but_for_starting_it() {
    let run = "docker run -d --name larder -p 5000:5000 larder:0.1.0";
    let make = "docker create --name larder -p 5000:5000 larder:0.1.0".to_owned();
    assert_eq!(Wish::of(run), Some(Wish::Run { make, show: None }));
    let up = "A=b docker-compose -f x/ci.yml up -d";
    let (make, show) = (
        "A=b docker-compose -f x/ci.yml -f alone.yml up --no-start".to_owned(),
        "A=b docker-compose -f x/ci.yml ps -a -q larder".to_owned(),
    );
    let show = Some(show);
    assert_eq!(Wish::of(up), Some(Wish::Run { make, show }));
    assert_eq!(Wish::of("docker inspect larder"), None);
}
