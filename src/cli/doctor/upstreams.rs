//! The upstreams, and the clock, which their answers tell.

use std::time::{Duration, Instant, SystemTime};

use futures_util::future::join_all;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use url::Url;

use crate::config::Config;
use crate::oci::Reference;
use crate::store::is_offline;
use crate::upstream::{Hello, Upstream, UpstreamError};

use super::super::parts;
use super::Finding;

/// As long as larder itself waits for a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// The clock may be off by so much without anybody noticing.
const NOTICED: Duration = Duration::from_secs(30);

/// Off by so much, tokens and certificates are refused.
const REFUSED: Duration = Duration::from_mins(5);

/// What Docker Hub has for those who want to know their limit; a HEAD of it does not count.
const PREVIEW: &str = "ratelimitpreview/test";

pub(super) async fn look(config: &Config) -> Vec<Finding> {
    if config.upstreams.all.is_empty() {
        return vec![Finding::fine("upstreams", "none are configured")];
    }
    let switch = is_offline(&config.storage.root);
    if config.cache.offline || switch {
        let by = if switch {
            "larder offline off"
        } else {
            "cache.offline in the configuration"
        };
        return vec![Finding::fine(
            "upstreams",
            format!("not asked: larder is offline ({by} changes that)"),
        )];
    }
    let upstreams = match parts::upstreams(config, &parts::Upstreams::new()) {
        Ok(upstreams) => upstreams,
        Err(error) => {
            let todo = "larder does not start with it: change what is named";
            return vec![Finding::broken("upstreams", error, todo)];
        }
    };
    let asking = upstreams
        .iter()
        .map(|(name, (settings, upstream))| ask(name, &settings.url, upstream));
    let asked = join_all(asking).await;
    let clock = asked.iter().find_map(|(_, skew)| *skew);
    let mut findings: Vec<_> = asked
        .into_iter()
        .flat_map(|(findings, _)| findings)
        .collect();
    findings.push(clock_finding(clock));
    findings
}

/// By how much the clock here is ahead, or behind.
#[derive(Clone, Copy, Debug)]
enum Skew {
    Ahead(Duration),
    Behind(Duration),
}

impl Skew {
    fn of(date: SystemTime, now: SystemTime) -> Self {
        match now.duration_since(date) {
            Ok(ahead) => Self::Ahead(ahead),
            Err(error) => Self::Behind(error.duration()),
        }
    }
}

fn clock_finding(skew: Option<Skew>) -> Finding {
    const CLOCK: &str = "clock";
    const TODO: &str = "set it, and keep it right: timedatectl set-ntp true";
    let (by, word) = match skew {
        None => {
            return Finding::fine(
                CLOCK,
                "nobody said what time it is: it could not be compared",
            );
        }
        Some(Skew::Ahead(by)) => (by, "ahead of"),
        Some(Skew::Behind(by)) => (by, "behind"),
    };
    // What a header says is whole seconds, and it was under way.
    let seconds = Duration::from_secs(by.as_secs());
    let seen = format!(
        "{} {word} the upstreams'",
        humantime::format_duration(seconds)
    );
    if by > REFUSED {
        let todo = format!("certificates and tokens are taken for too old or too new: {TODO}");
        Finding::broken(CLOCK, seen, todo)
    } else if by > NOTICED {
        Finding::doubtful(CLOCK, seen, TODO)
    } else {
        Finding::fine(CLOCK, "agrees with the upstreams'")
    }
}

async fn ask(name: &str, url: &Url, upstream: &Upstream) -> (Vec<Finding>, Option<Skew>) {
    let mut steps = Vec::new();
    if !is_by_proxy(url) {
        match connect(url).await {
            Ok(connected) => steps.push(connected),
            Err(finding) => return (vec![finding.about(name)], None),
        }
    }
    let hello = match upstream.hello().await {
        Ok(hello) => hello,
        Err(error) => return (vec![refusal(name, url, &error)], None),
    };
    let skew = hello.date.map(|date| Skew::of(date, SystemTime::now()));
    steps.push(spoken(url, &hello));
    let mut findings = vec![granted(name, url, upstream, steps).await];
    findings.extend(limit(name, upstream));
    (findings, skew)
}

impl Finding {
    fn about(mut self, name: &str) -> Self {
        name.clone_into(&mut self.about);
        self
    }
}

/// A proxy looks names up and connects itself.
fn is_by_proxy(url: &Url) -> bool {
    let own = if url.scheme() == "https" {
        "https_proxy"
    } else {
        "http_proxy"
    };
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let names = [own, "all_proxy"];
    let is_local = url
        .host_str()
        .is_some_and(|host| host == "localhost" || host.starts_with("127."));
    !is_local
        && names
            .iter()
            .any(|name| is_set(name) || is_set(&name.to_ascii_uppercase()))
}

async fn connect(url: &Url) -> Result<String, Finding> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(443);
    let started = Instant::now();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let looked_up = timeout(PATIENCE, lookup_host((bare, port))).await;
    let addresses: Vec<_> = match looked_up {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => {
            return Err(Finding::broken(
                "",
                format!("{host} has no address: {error}"),
                "see /etc/resolv.conf and the network; without network, larder offline on",
            ));
        }
        Err(_) => {
            return Err(Finding::broken(
                "",
                format!("no name server answers for {host}"),
                "see /etc/resolv.conf and the network; without network, larder offline on",
            ));
        }
    };
    let dns = started.elapsed();
    let started = Instant::now();
    let connecting = timeout(PATIENCE, TcpStream::connect(addresses.as_slice())).await;
    let why = match connecting {
        Ok(Ok(stream)) => {
            let address = stream.peer_addr().map(|it| it.to_string());
            return Ok(format!(
                "DNS {dns:.1?}, TCP {:.1?} to {}",
                started.elapsed(),
                address.unwrap_or_default()
            ));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer in {PATIENCE:?}"),
    };
    let first = addresses.first().map(ToString::to_string);
    Err(Finding::broken(
        "",
        format!(
            "no connection to {host} ({}): {why}",
            first.unwrap_or_default()
        ),
        "see its url in the configuration, and whether a firewall or a proxy (HTTPS_PROXY) is between",
    ))
}

fn spoken(url: &Url, hello: &Hello) -> String {
    let how = if url.scheme() == "https" {
        "TLS and an answer"
    } else {
        "an answer"
    };
    format!("{how} {:.1?}", hello.took)
}

/// Whether it lets us in. There need not be such a repository: that it says so is enough.
async fn granted(name: &str, url: &Url, upstream: &Upstream, mut steps: Vec<String>) -> Finding {
    let probe = if name == "docker.io" {
        PREVIEW
    } else {
        "larder/doctor"
    };
    let (Ok(repository), Ok(tag)) = (probe.parse(), "latest".parse()) else {
        return Finding::fine(name, steps.join(", "));
    };
    let started = Instant::now();
    let asked = upstream
        .head_manifest(&repository, &Reference::Tag(tag))
        .await;
    match asked {
        // A registry says denied, and not unknown, of what is not there.
        Ok(_) | Err(UpstreamError::NotFound | UpstreamError::Denied) => {
            steps.push(format!("let in {:.1?}", started.elapsed()));
            Finding::fine(name, steps.join(", "))
        }
        Err(error) => refusal(name, url, &error),
    }
}

fn refusal(name: &str, url: &Url, error: &UpstreamError) -> Finding {
    let host = url.host_str().unwrap_or_default();
    let (seen, todo) = match error {
        UpstreamError::CredentialsRefused => (
            "it refuses its username and password".to_owned(),
            format!("check upstreams.{name}.username and .password; tokens run out"),
        ),
        UpstreamError::RateLimited { retry_after } => {
            let wait = humantime::format_duration(Duration::from_secs(retry_after.as_secs()));
            return Finding::doubtful(
                name,
                format!("it limits our requests: not before {wait}"),
                format!(
                    "what is cached is served meanwhile; upstreams.{name}.username and .password give more pulls"
                ),
            );
        }
        UpstreamError::Timeout { what } => (
            format!("no answer in time: {what}"),
            "is there a captive portal, a firewall, or a slow proxy?".to_owned(),
        ),
        UpstreamError::Unreachable { reason } if reason.contains("ertificate") => (
            format!("its certificate is not trusted: {reason}"),
            format!(
                "if that is as it should be, set upstreams.{name}.ca to the PEM file of its issuer; else see the clock, and who is between"
            ),
        ),
        UpstreamError::Unreachable { reason } => (
            format!("{host} cannot be asked: {reason}"),
            format!("see upstreams.{name}.url in the configuration, and the network"),
        ),
        UpstreamError::Failed { status } => (
            format!("it answers {status}"),
            "it has troubles of its own: try later. What is cached is served".to_owned(),
        ),
        error => (
            error.to_string(),
            format!("see upstreams.{name}.url in the configuration: is that a registry?"),
        ),
    };
    Finding::broken(name, seen, todo)
}

fn limit(name: &str, upstream: &Upstream) -> Option<Finding> {
    let budget = upstream.budget()?;
    let window = budget.window.map_or_else(String::new, |window| {
        format!(" in {}", humantime::format_duration(window))
    });
    let seen = format!(
        "{} of {} pulls{window} are left",
        budget.remaining, budget.limit
    );
    let few = budget.remaining * 10 <= budget.limit;
    Some(if few {
        Finding::doubtful(
            name,
            seen,
            format!(
                "upstreams.{name}.username and .password give more; mirrored tags are asked for less often meanwhile"
            ),
        )
    } else {
        Finding::fine(name, seen)
    })
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn a_clock_is_judged_by_how_far_it_is_off() {
        let now = SystemTime::now();
        for (seconds, state) in [
            (0, State::Fine),
            (31, State::Doubtful),
            (301, State::Broken),
        ] {
            let by = Duration::from_secs(seconds);
            for date in [now - by, now + by] {
                let finding = clock_finding(Some(Skew::of(date, now)));
                assert_eq!(finding.state, state, "{finding:?}");
            }
        }
        assert_eq!(clock_finding(None).state, State::Fine);
    }
}
