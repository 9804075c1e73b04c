//! The Debian package: what is in it, and installed into a system of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{configuration, packaged, source};
use crate::support::programs::{Options, Output, Running, Workshop, client_trusting};
use crate::support::tree::files;

async fn build(shop: &Workshop, program: &Path, name: &str) -> PathBuf {
    let package = shop.path(name);
    let mut build = shop.command(source("packaging/debian/build"), &[]);
    build.arg(program).arg(&package);
    build.env("SOURCE_DATE_EPOCH", "1700000000");
    build.env("COMPRESSION", "none");
    shop.finish(build).await.expect_success();
    package
}

async fn dpkg_deb(shop: &Workshop, option: &str, package: &Path, more: &[&str]) -> String {
    let mut dpkg = shop.command("dpkg-deb", &[option]);
    dpkg.arg(package).args(more);
    shop.finish(dpkg).await.expect_success()
}

#[tokio::test]
async fn the_package_has_everything_in_its_place() {
    let shop = Workshop::new();
    let program = shop.stripped_larder().await;
    let package = build(&shop, &program, "larder.deb").await;
    let again = build(&shop, &program, "again.deb").await;
    assert!(fs::read(&package).unwrap() == fs::read(again).unwrap());
    let field = async |name: &str| {
        let text = dpkg_deb(&shop, "--field", &package, &[name]).await;
        text.trim().to_owned()
    };
    assert_eq!(field("Package").await, "larder");
    assert_eq!(field("Version").await, env!("CARGO_PKG_VERSION"));
    // The program under test is not static.
    assert!(field("Depends").await.contains("libc6 (>= 2."));
    let size: u64 = field("Installed-Size").await.parse().expect("kilobytes");
    assert!(size * 1024 >= fs::metadata(&program).unwrap().len());

    let root = shop.path("root");
    let to = root.to_str().expect("a plain name");
    dpkg_deb(&shop, "--raw-extract", &package, &[to]).await;
    for wanted in [
        "usr/bin/larder",
        "usr/lib/systemd/system/larder.service",
        "usr/lib/systemd/system/larder.socket",
        "usr/lib/sysusers.d/larder.conf",
        "usr/lib/tmpfiles.d/larder.conf",
        "usr/share/man/man1/larder.1.gz",
        "usr/share/man/man1/larder-garbage-collect.1.gz",
        "usr/share/bash-completion/completions/larder",
        "usr/share/zsh/vendor-completions/_larder",
        "usr/share/fish/vendor_completions.d/larder.fish",
        "usr/share/doc/larder/copyright",
        "usr/share/doc/larder/changelog.gz",
        "usr/share/doc/larder/CHANGELOG.md",
        "usr/share/doc/larder/examples/team.yml",
    ] {
        let length = fs::metadata(root.join(wanted)).map(|found| found.len());
        assert!(length.is_ok_and(|length| length > 0), "{wanted}");
    }
    let conffiles = fs::read_to_string(root.join("DEBIAN/conffiles")).unwrap();
    assert_eq!(conffiles, "/etc/larder/config.yml\n");
    let text = fs::read_to_string(root.join("etc/larder/config.yml")).unwrap();
    assert_eq!(text, packaged(&shop, "/var/lib/larder").await);
    configuration(&shop, &text, &[]).await;
    for file in files(&root) {
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o022, 0, "{} is others' to write", file.display());
    }
    let listed = dpkg_deb(&shop, "--contents", &package, &[]).await;
    for line in listed.lines() {
        assert!(line.contains(" root/root "), "{line}");
    }
    let mut sums = shop.command("md5sum", &["--check", "--quiet", "DEBIAN/md5sums"]);
    sums.current_dir(&root);
    shop.finish(sums).await.expect_success();
    for script in ["postinst", "prerm", "postrm"] {
        let script = root.join("DEBIAN").join(script);
        let mut parsed = shop.command("sh", &["-n"]);
        parsed.arg(script);
        shop.finish(parsed).await.expect_success();
    }
}

/// A system with nothing on it, and dpkg at work on it from outside.
struct System<'a> {
    shop: &'a Workshop,
    root: PathBuf,
}

impl<'a> System<'a> {
    fn new(shop: &'a Workshop) -> Self {
        let root = shop.path("system");
        for directory in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "etc"] {
            fs::create_dir_all(root.join(directory)).expect("a directory");
        }
        fs::write(root.join("var/lib/dpkg/status"), "").expect("a file");
        Self { shop, root }
    }

    async fn dpkg(&self, arguments: &[&str]) -> Output {
        let mut dpkg = self.shop.command("dpkg", &[]);
        dpkg.arg(format!("--root={}", self.root.display()));
        // There is no shell in it, and none of what a system has.
        dpkg.args(["--force-script-chrootless", "--force-depends"]);
        dpkg.args(arguments);
        self.shop.finish(dpkg).await
    }
}

#[tokio::test]
async fn the_package_installs_runs_and_goes_and_leaves_the_data() {
    let shop = Workshop::new();
    let program = shop.stripped_larder().await;
    let package = build(&shop, &program, "larder.deb").await;
    let package = package.to_str().expect("a plain name");
    let system = System::new(&shop);
    let installed = system.dpkg(&["--install", package]).await.expect_success();
    assert!(installed.contains("systemctl enable --now larder"));
    let users = fs::read_to_string(system.root.join("etc/passwd")).expect("users");
    let user = users.lines().find(|line| line.starts_with("larder:"));
    assert!(user.is_some_and(|user| user.contains(":/var/lib/larder:")));
    let data = system.root.join("var/lib/larder");
    assert_eq!(
        fs::metadata(&data).unwrap().permissions().mode() & 0o777,
        0o750
    );

    let config = system.root.join("etc/larder/config.yml");
    let larder = system.root.join("usr/bin/larder");
    let mut served = shop.command(&larder, &["serve"]);
    served.arg(&config);
    served.env("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", &data);
    served.env("REGISTRY_HTTP_ADDR", "127.0.0.1:0");
    let running = Running::start("installed", served);
    let address = running.address().await;
    let client = client_trusting(None).build().expect("a client");
    let answer = client.get(format!("http://{address}/v2/")).send().await;
    assert_eq!(answer.expect("an answer").status(), 200);
    assert!(running.stop().await.success());
    let there = Options::registry().on(&data).start().await;
    there.push_blob("team/app", b"kept").await;
    there.finish().await;

    // What was changed stays through an upgrade, and what was pushed through everything.
    let changed = fs::read_to_string(&config).unwrap() + "# mine\n";
    fs::write(&config, &changed).unwrap();
    let upgraded = system.dpkg(&["--install", package]).await.expect_success();
    assert!(!upgraded.contains("systemctl enable"), "{upgraded}");
    assert_eq!(fs::read_to_string(&config).unwrap(), changed);
    system.dpkg(&["--remove", "larder"]).await.expect_success();
    assert!(config.exists() && !larder.exists());
    let purged = system.dpkg(&["--purge", "larder"]).await.expect_success();
    assert!(purged.contains("the images stay"), "{purged}");
    assert!(!config.exists() && data.join("docker/registry/v2").is_dir());
}
