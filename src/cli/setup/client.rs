//! The client itself, where it is at hand.

use std::process::{Command, Output};

use crate::setup::{About, Client};

use super::check::{Findings, Wanted, good, unknown};

/// Has the client pull, if it is on this machine and can be asked without further ado.
pub(super) fn run(findings: &mut Findings, client: Client, about: &About, wanted: Option<&Wanted>) {
    match client {
        Client::Docker => docker(findings, about, wanted),
        Client::Podman => {
            let Some(wanted) = wanted else { return };
            // skopeo reads what podman, buildah and CRI-O read, and leaves nothing behind.
            let name = format!("docker://{}", wanted.shown());
            tool(findings, "skopeo", &["inspect", "--raw", &name]);
        }
        // ctr would leave the image in a namespace that nobody looks into; of the others' daemons
        // one cannot be asked for a pull alone.
        Client::Containerd | Client::Buildkit | Client::K3s => {}
    }
}

fn docker(findings: &mut Findings, about: &About, wanted: Option<&Wanted>) {
    let asked = command(
        "docker",
        &["info", "--format", "{{json .RegistryConfig.Mirrors}}"],
    );
    let mirrors = match asked {
        Ok(output) if output.status.success() => output.stdout,
        Ok(output) => {
            // Behind it docker complains about what it then could not print.
            let why = first_line(&output.stderr);
            unknown(&format!("docker itself is not tried: {why}"));
            return;
        }
        Err(error) => {
            unknown(&format!("docker itself is not tried: {error}"));
            return;
        }
    };
    let is_default = wanted.is_some_and(|it| it.upstream == about.default);
    if about.default.as_deref() == Some("docker.io") {
        let mirrors: Option<Vec<String>> = serde_json::from_slice(&mirrors).ok();
        let url = about.url();
        let is_ours = |it: &String| it.trim_end_matches('/') == url;
        if mirrors.is_some_and(|all| all.iter().any(is_ours)) {
            good(&format!("docker has {url} as its mirror"));
        } else {
            findings.bad(&format!(
                "docker does not have {url} as its mirror: systemctl restart docker"
            ));
        }
    }
    if let Some(wanted) = wanted {
        let name = if is_default {
            wanted.image()
        } else {
            format!("{}/{}", about.address, wanted.shown())
        };
        tool(findings, "docker", &["pull", "--quiet", &name]);
    }
}

fn tool(findings: &mut Findings, program: &str, arguments: &[&str]) {
    let shown = format!("{program} {}", arguments.join(" "));
    match command(program, arguments) {
        Ok(output) if output.status.success() => good(&shown),
        Ok(output) => findings.bad(&format!("{shown}: {}", last_line(&output.stderr))),
        Err(error) => unknown(&format!("{program} itself is not tried: {error}")),
    }
}

fn command(program: &str, arguments: &[&str]) -> Result<Output, String> {
    let output = Command::new(program).args(arguments).output();
    output.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "it is not here".to_owned(),
        _ => error.to_string(),
    })
}

/// What a program said last, which is why it failed.
fn last_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    shown(text.lines().rev().find(|line| !line.trim().is_empty()))
}

/// What a program said first.
fn first_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    shown(text.lines().find(|line| !line.trim().is_empty()))
}

fn shown(line: Option<&str>) -> String {
    let line = line.unwrap_or("it does not say why");
    line.chars().filter(|c| !c.is_control()).take(300).collect()
}
