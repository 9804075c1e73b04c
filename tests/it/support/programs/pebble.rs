//! Pebble, Let's Encrypt's ACME server for tests, and a name server that calls every name loopback.

use std::net::TcpListener;

use serde_json::json;

use super::super::authority::{Authority, Pair};
use super::daemon::Daemon;
use super::{command, new_home, write};

/// Where one is to be, and by which certificate it is known.
pub(crate) struct Pebble {
    authority: Authority,
    pair: Pair,
    port: u16,
    registry_port: u16,
}

/// A running one; it forgets everything when it is dropped.
pub(crate) struct RunningPebble {
    daemon: Daemon,
    _names: Daemon,
}

impl Pebble {
    /// One that looks for registries at this port of loopback. It does not run yet.
    pub(crate) fn looking_at(registry_port: u16) -> Self {
        let authority = Authority::new("pebble's own");
        let pair = Pair::new(&authority.issue());
        std::fs::write(pair.home().join("ca.pem"), authority.certificate()).expect("a file");
        let port = free_port();
        Self {
            authority,
            pair,
            port,
            registry_port,
        }
    }

    /// The URL of its directory.
    pub(crate) fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.port)
    }

    /// The file with whom to trust to talk to it.
    pub(crate) fn trusted(&self) -> String {
        assert!(!self.authority.certificate().is_empty());
        self.pair.home().join("ca.pem").display().to_string()
    }

    /// Starts it.
    pub(crate) async fn start(&self) -> RunningPebble {
        let home = new_home("names");
        let (dns, management) = (free_port(), free_port());
        let mut names = command("pebble-challtestsrv", home.path());
        let dns = format!("127.0.0.1:{dns}");
        names.args(["-dns01", &dns, "-management"]);
        names.arg(format!("127.0.0.1:{management}"));
        names.args(["-defaultIPv6", "", "-defaultIPv4", "127.0.0.1"]);
        names.args(["-http01", "", "-https01", "", "-tlsalpn01", ""]);
        let names = Daemon::start("pebble-challtestsrv", names, home);
        let home = new_home("pebble");
        let settings = json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{}", self.port),
            "managementListenAddress": format!("127.0.0.1:{}", free_port()),
            "certificate": self.pair.certificate(),
            "privateKey": self.pair.key(),
            "httpPort": 1,
            "tlsPort": self.registry_port,
        }});
        let file = home.path().join("pebble.json");
        write(&file, &settings.to_string());
        let mut pebble = command("pebble", home.path());
        pebble
            .env("PEBBLE_VA_NOSLEEP", "1")
            .arg("-config")
            .arg(file);
        pebble.args(["-dnsserver", &dns]);
        let daemon = Daemon::start("pebble", pebble, home);
        let listening = |line: &str| line.contains("ACME directory available").then_some(());
        daemon.ready(listening).await;
        RunningPebble {
            daemon,
            _names: names,
        }
    }
}

impl RunningPebble {
    /// Everything it wrote.
    pub(crate) fn log(&self) -> String {
        self.daemon.written()
    }
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}
