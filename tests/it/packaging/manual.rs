//! The manual and the completions, read by those for whom they are.

use std::collections::BTreeSet;
use std::fs;

use crate::support::programs::Workshop;
use crate::support::tree::files;

const LARDER: &str = env!("CARGO_BIN_EXE_larder");

/// The commands that `larder --help` lists, but `help` itself.
async fn commands(shop: &Workshop) -> BTreeSet<String> {
    let help = shop.run(LARDER, &["--help"]).await.expect_success();
    let listed = help.split_once("Commands:\n").expect("commands").1;
    let listed = listed.split_once("\n\n").expect("an end").0;
    let first = |line: &str| {
        line.strip_prefix("  ")?
            .split(' ')
            .next()
            .map(str::to_owned)
    };
    let names = listed.lines().filter_map(first);
    names
        .filter(|name| !name.is_empty() && name != "help")
        .collect()
}

#[tokio::test]
async fn the_help_of_every_command_has_examples_and_fits_a_terminal() {
    let shop = Workshop::new();
    for name in commands(&shop).await {
        let line = format!("stty cols 80 rows 24 && '{LARDER}' {name} --help");
        let shown = shop.run("script", &["-qec", &line, "/dev/null"]).await;
        let shown = shown.expect_success();
        assert!(shown.contains("Examples:"), "{name}: {shown}");
        for line in shown.lines() {
            assert!(line.trim_end().chars().count() <= 80, "{name}: {line}");
        }
    }
}

#[tokio::test]
async fn every_command_has_a_page_that_mandoc_accepts() {
    let shop = Workshop::new();
    let directory = shop.path("man");
    fs::create_dir(&directory).expect("a directory");
    let into = directory.to_str().expect("a plain name");
    shop.run(LARDER, &["man", "--into", into])
        .await
        .expect_success();
    let mut wanted: BTreeSet<String> = commands(&shop)
        .await
        .iter()
        .map(|name| format!("larder-{name}.1"))
        .collect();
    assert!(wanted.contains("larder-garbage-collect.1") && wanted.len() > 8);
    wanted.insert("larder.1".to_owned());
    let pages = files(&directory);
    let names = pages.iter().map(|page| page.file_name().unwrap());
    let names: BTreeSet<String> = names.map(|it| it.to_str().unwrap().to_owned()).collect();
    assert_eq!(names, wanted);
    for page in pages {
        // Its warnings are about blank lines that clap makes, but for the one about the heading.
        let mut lint = shop.command("mandoc", &["-T", "lint", "-W", "warning"]);
        lint.arg(&page);
        let linted = shop.finish(lint).await.stdout;
        let is_serious = |line: &&str| !line.contains("skipping paragraph macro");
        let complaints: Vec<_> = linted.lines().filter(is_serious).collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
        let mut shown = shop.command("mandoc", &["-T", "html"]);
        shown.arg(&page);
        let shown = shop.finish(shown).await.expect_success();
        assert!(shown.contains("id=\"SYNOPSIS\""), "{shown}");
    }
    let main = shop.run(LARDER, &["man"]).await.expect_success();
    assert_eq!(
        main,
        fs::read_to_string(directory.join("larder.1")).unwrap()
    );
    assert!(main.contains("larder\\-garbage\\-collect(1)"), "{main}");
    let one = shop.run(LARDER, &["man", "warm"]).await.expect_success();
    let file = fs::read_to_string(directory.join("larder-warm.1")).unwrap();
    assert_eq!(one, file);
    let none = shop.run(LARDER, &["man", "cook"]).await;
    assert!(!none.success && none.stderr.contains("there is no command \"cook\""));
}

/// What bash makes of a line whose last word is being typed.
async fn completed(shop: &Workshop, line: &str) -> BTreeSet<String> {
    let script = r#"
        source "$1"
        shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
        function=$(complete -p larder | grep -o -- '-F [^ ]*' | cut -d' ' -f2)
        "$function" larder "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let file = shop.path("larder.bash");
    let mut bash = shop.command("bash", &["-c", script, "bash"]);
    bash.arg(file).args(line.split(' '));
    let said = shop.finish(bash).await;
    assert_eq!(said.stderr, "", "{line}");
    let said = said.expect_success();
    said.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn bash_completes_commands_and_options() {
    let shop = Workshop::new();
    let text = shop.run(LARDER, &["completions", "bash"]).await;
    fs::write(shop.path("larder.bash"), text.expect_success()).expect("a file");
    let words = |text: &str| -> BTreeSet<String> { text.split(' ').map(str::to_owned).collect() };
    assert_eq!(
        completed(&shop, "larder ga").await,
        words("garbage-collect")
    );
    assert_eq!(
        completed(&shop, "larder verify --rep").await,
        words("--repair")
    );
    assert_eq!(completed(&shop, "larder completions z").await, words("zsh"));
    let all = completed(&shop, "larder ").await;
    assert!(commands(&shop).await.is_subset(&all), "{all:?}");
}

#[tokio::test]
async fn other_shells_are_served_too() {
    let shop = Workshop::new();
    for (shell, sign) in [("zsh", "#compdef larder"), ("fish", "complete -c larder")] {
        let text = shop.run(LARDER, &["completions", shell]).await;
        let text = text.expect_success();
        assert!(text.contains(sign) && text.contains("garbage-collect"));
    }
    let unknown = shop.run(LARDER, &["completions", "cmd.exe"]).await;
    assert!(
        !unknown.success && unknown.stderr.contains("zsh"),
        "{unknown:?}"
    );
}
