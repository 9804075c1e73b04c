//! What the pages say of services is run by systemd, on a machine of its own, with the units, the
//! user and the configuration that the packages bring.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use regex::Regex;

use super::{OTHERS_SERVICES, Step, pages, steps};
use crate::packaging::source;
use crate::support::programs::Machine;

/// What must hold after a command: its exit status does not say all.
const AFTER: &[(&str, &str)] = &[
    (
        "systemctl enable --now larder",
        "systemctl is-active larder && curl -sSf http://localhost:5000/v2/",
    ),
    (
        "systemctl reload larder",
        "until journalctl -u larder | grep 'has been read again'; do sleep 0.1; done",
    ),
    (
        "journalctl -u larder",
        "journalctl -u larder | grep listening",
    ),
    (
        "systemctl edit larder.socket",
        "systemctl cat larder.socket | grep ListenStream=443",
    ),
    (
        "systemctl enable --now larder.socket larder",
        "curl -sSf http://localhost:443/v2/ && systemctl restart larder && curl -sSf http://localhost:443/v2/",
    ),
];

/// Whether a command is for the service manager, and of larder.
pub(super) fn is_of_service(step: &Step) -> bool {
    let words: Vec<&str> = step.text.split_whitespace().collect();
    let manager = words
        .first()
        .is_some_and(|it| ["systemctl", "journalctl"].contains(it));
    manager && !words.iter().any(|word| OTHERS_SERVICES.contains(word))
}

/// What the Debian package brings, and an editor into which somebody types what the page says.
fn install(root: &Path, typed: &str) {
    let copies = [
        (env!("CARGO_BIN_EXE_larder").into(), "usr/bin/larder"),
        (
            source("packaging/systemd/larder.service"),
            "usr/lib/systemd/system/larder.service",
        ),
        (
            source("packaging/systemd/larder.socket"),
            "usr/lib/systemd/system/larder.socket",
        ),
        (
            source("packaging/systemd/larder.sysusers"),
            "usr/lib/sysusers.d/larder.conf",
        ),
    ];
    for (from, to) in copies {
        let to = root.join(to);
        fs::create_dir_all(to.parent().expect("a directory")).expect("a directory");
        fs::copy(from, to).expect("a file");
    }
    let configuration = Command::new(source("packaging/config"))
        .arg("/var/lib/larder")
        .output();
    let configuration = configuration.expect("a configuration");
    assert!(configuration.status.success(), "{configuration:?}");
    fs::create_dir_all(root.join("etc/larder")).expect("a directory");
    fs::write(root.join("etc/larder/config.yml"), configuration.stdout).expect("a file");
    let editor = root.join("usr/bin/editor-of-the-test");
    fs::write(
        &editor,
        format!("#!/bin/sh\ncat > \"$1\" <<'END'\n{typed}END\n"),
    )
    .expect("a file");
    fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).expect("a mode");
}

/// What a page says that one types into `systemctl edit`: after the command, line by line.
fn typed(page: &str) -> String {
    let said = Regex::new(r"systemctl edit larder\.socket +# (.*)").expect("a pattern");
    let said = said
        .captures(page)
        .map_or("", |said| said.get(1).expect("a group").as_str());
    said.split(", ").flat_map(|line| [line, "\n"]).collect()
}

/// Types a line, and says what went wrong.
async fn failure(machine: &Machine, line: &str) -> Option<String> {
    let quoted = line.replace('\'', "'\\''");
    let output = machine.run(&format!("timeout 30 sh -c '{quoted}'")).await;
    if output.success {
        return None;
    }
    let state = "systemctl status larder larder.socket; journalctl -n 50";
    let state = machine.run(state).await.stdout;
    Some(format!("{line}\n{}{state}", output.stdout))
}

#[tokio::test]
async fn every_command_for_the_service_manager_works() {
    let (mut failures, mut checked) = (Vec::new(), HashSet::new());
    for page in pages() {
        let steps: Vec<Step> = steps(&page).into_iter().filter(is_of_service).collect();
        if steps.is_empty() {
            continue;
        }
        let text = fs::read_to_string(&page).expect("a page");
        let machine = Machine::boot(|root| install(root, &typed(&text))).await;
        for Step { page, text } in steps {
            let (what, check) = AFTER
                .iter()
                .find(|(what, _)| text == *what)
                .unwrap_or_else(|| panic!("{page}: what shows that `{text}` worked?"));
            checked.insert(what);
            let typed = format!("SYSTEMD_EDITOR=editor-of-the-test {text}");
            for line in [typed.as_str(), check] {
                let failed = failure(&machine, line).await;
                failures.extend(failed.map(|failed| format!("{page}: {failed}")));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(checked.len(), AFTER.len(), "{checked:?}");
}
