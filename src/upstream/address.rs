//! Which addresses an upstream may send us to.
//!
//! An upstream chooses redirects and token realms, so it must not choose hosts inside the network
//! that larder runs in (CVE-2026-2376, and the cloud's 169.254.169.254). Names are judged by what
//! they resolve to, at the moment of connecting, so that a second look-up cannot give another
//! answer than the one judged (DNS rebinding). It knows of no request and no token.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::error::UpstreamError;

/// From how far away an address can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Reach {
    /// From everywhere.
    Public,
    /// From inside one organisation.
    Private,
    /// From the same link, where clouds keep their metadata services.
    Link,
    /// From this machine.
    Loopback,
    /// No host's address.
    Nowhere,
}

impl Reach {
    const ALL: [Self; 5] = [
        Self::Public,
        Self::Private,
        Self::Link,
        Self::Loopback,
        Self::Nowhere,
    ];

    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    /// IANA's special-purpose registry, as far as something could listen there. 198.18.0.0/15
    /// is where local proxies put names they answer for; 100.64.0.0/10 is carriers' and VPNs'.
    fn of_v4(address: Ipv4Addr) -> Self {
        match address.octets() {
            [127, ..] => Self::Loopback,
            [169, 254, ..] => Self::Link,
            [10, ..]
            | [100, 64..=127, ..]
            | [172, 16..=31, ..]
            | [192, 168, ..]
            | [192, 0, 0, _]
            | [198, 18..=19, ..] => Self::Private,
            [0 | 224.., ..] => Self::Nowhere,
            _ => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        let embedded = |high: u16, low: u16| {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Self::of_v4(Ipv4Addr::new(a, b, c, d))
        };
        match address.segments() {
            _ if address.is_loopback() => Self::Loopback,
            // NAT64 (RFC 6052) and 6to4 (RFC 3056) lead to the IPv4 address they contain.
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
            // Unspecified, IPv4-mapped and IPv4-compatible; Teredo; multicast.
            [0 | 0xff00.., ..] | [0x2001, 0, ..] => Self::Nowhere,
            [0xfe80..=0xfebf, ..] => Self::Link,
            [0x64, 0xff9b, ..] | [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Self::Private,
            _ => Self::Public,
        }
    }

    /// Whether an upstream that is *here* may send us *there*: outwards always, inwards never.
    fn may_send_to(self, there: Self) -> bool {
        match there {
            Self::Public => true,
            Self::Private => matches!(self, Self::Private | Self::Link | Self::Loopback),
            Self::Link | Self::Loopback => self == there,
            Self::Nowhere => false,
        }
    }
}

/// A name that resolves only to addresses which this upstream may not send us to.
#[derive(Debug, thiserror::Error)]
#[error("{host} is at an address that this upstream may not send requests to")]
pub(super) struct Forbidden {
    host: String,
}

impl From<&Forbidden> for UpstreamError {
    fn from(forbidden: &Forbidden) -> Self {
        Self::misbehaved(forbidden.to_string())
    }
}

/// What one upstream may make us connect to.
#[derive(Debug)]
pub(super) struct Policy {
    own_host: String,
    /// The reach of the upstream's own address: known from the start when it is a literal,
    /// otherwise since its name was last resolved. A proxy may resolve it for us; it then counts
    /// as public.
    own: AtomicU8,
    proxies: Vec<String>,
}

impl Policy {
    /// The policy of the upstream at `url`, whose requests go through `proxies`, if any.
    pub(super) fn new(url: &Url, proxies: Vec<String>) -> Self {
        let own = literal(url).map_or(Reach::Public, Reach::of);
        Self {
            own_host: host_name(url),
            own: AtomicU8::new(own as u8),
            proxies,
        }
    }

    fn own(&self) -> Reach {
        let own = usize::from(self.own.load(Ordering::Relaxed));
        Reach::ALL.get(own).copied().unwrap_or(Reach::Public)
    }

    /// Whether the upstream is this machine, by the address it was given.
    pub(super) fn is_this_machine(&self) -> bool {
        self.own_host == "localhost" || self.own() == Reach::Loopback
    }

    /// Refuses what can be refused by looking at the address alone.
    pub(super) fn check(&self, url: &Url) -> Result<(), Forbidden> {
        let host = host_name(url);
        let allowed = host == self.own_host
            || match literal(url) {
                Some(address) => self.own().may_send_to(Reach::of(address)),
                // The resolver lets proxies' names through, as it cannot see what for.
                None => !self.proxies.contains(&host),
            };
        if allowed {
            Ok(())
        } else {
            Err(Forbidden { host })
        }
    }

    /// Keeps those addresses of `host` that may be connected to.
    fn admit(&self, host: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Forbidden> {
        let host = host.trim_end_matches('.');
        if host == self.own_host {
            let mut reaches = found.iter().map(|address| Reach::of(address.ip()));
            // An upstream that is also somewhere public is not trusted with what is inside.
            let own = match reaches.next() {
                Some(first) if reaches.all(|reach| reach == first) => first,
                _ => Reach::Public,
            };
            self.own.store(own as u8, Ordering::Relaxed);
            return Ok(found);
        }
        if self.proxies.iter().any(|proxy| proxy == host) {
            return Ok(found);
        }
        let own = self.own();
        let none_found = found.is_empty();
        let admitted: Vec<_> = found
            .into_iter()
            .filter(|address| own.may_send_to(Reach::of(address.ip())))
            .collect();
        if admitted.is_empty() && !none_found {
            return Err(Forbidden {
                host: host.to_owned(),
            });
        }
        Ok(admitted)
    }
}

fn host_name(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    host.trim_end_matches('.').to_owned()
}

/// The address, where the host is one. `url` has read decimal, octal and short forms by then.
fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}

/// The hosts of the proxies that the environment names, as reqwest reads it.
pub(super) fn proxies_of_environment() -> Vec<String> {
    ["ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY"]
        .into_iter()
        .flat_map(|name| [name.to_owned(), name.to_ascii_lowercase()])
        .filter_map(|name| std::env::var(name).ok())
        .filter_map(|value| proxy_host(&value))
        .collect()
}

/// A proxy may be given without a scheme, as in `proxy.example.com:3128`.
fn proxy_host(value: &str) -> Option<String> {
    let value = value.trim();
    let text = if value.contains("://") {
        value.to_owned()
    } else {
        format!("http://{value}")
    };
    let host = host_name(&Url::parse(&text).ok()?);
    (!host.is_empty()).then_some(host)
}

/// Looks names up as the system does, and drops what the policy forbids.
#[derive(Debug)]
pub(super) struct Resolver(pub(super) Arc<Policy>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = Arc::clone(&self.0);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let admitted = policy.admit(name.as_str(), found)?;
            Ok(Box::new(admitted.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(url: &str) -> Policy {
        Policy::new(&Url::parse(url).unwrap(), vec!["proxy.corp".to_owned()])
    }

    fn allows(policy: &Policy, url: &str) -> bool {
        policy.check(&Url::parse(url).unwrap()).is_ok()
    }

    fn resolved(policy: &Policy, host: &str, addresses: &[&str]) -> Option<usize> {
        let found = addresses
            .iter()
            .map(|it| SocketAddr::new(it.parse().unwrap(), 0));
        policy
            .admit(host, found.collect())
            .ok()
            .map(|admitted| admitted.len())
    }

    const INSIDE: [&str; 22] = [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f.0.0.1/",
        "http://0177.0.0.1/",
        "http://[::1]/",
        "http://0.0.0.0/",
        "http://[::]/",
        "http://169.254.169.254/latest/meta-data",
        "http://169.254.169.254./",
        "http://10.1.2.3/",
        "http://172.16.0.1/",
        "http://192.168.1.1/",
        "http://100.64.0.1/",
        "http://[::ffff:10.0.0.1]/",
        "http://[::ffff:8.8.8.8]/",
        "http://[::127.0.0.1]/",
        "http://[fe80::1]/",
        "http://[fd00::1]/",
        "http://[ff02::1]/",
        "http://224.0.0.1/",
        "http://[64:ff9b::a00:1]/",
    ];

    #[test]
    fn a_public_upstream_sends_nobody_inside() {
        let policy = policy("https://registry-1.docker.io");
        for url in INSIDE {
            assert!(!allows(&policy, url), "{url}");
        }
        for url in [
            "https://8.8.8.8/",
            "https://[2606:4700::1]/",
            "https://cdn.example.com/",
            "https://[64:ff9b::808:808]/",
            "https://172.32.0.1/",
            "https://registry-1.docker.io:8443/",
        ] {
            assert!(allows(&policy, url), "{url}");
        }
        assert!(!allows(&policy, "http://proxy.corp:3128/"));
    }

    #[test]
    fn a_name_is_what_it_resolves_to() {
        let policy = policy("https://registry-1.docker.io");
        assert_eq!(
            resolved(&policy, "cdn.example.com", &["1.2.3.4", "2606:4700::1"]),
            Some(2)
        );
        assert_eq!(
            resolved(&policy, "rebound.example.com", &["127.0.0.1"]),
            None
        );
        assert_eq!(
            resolved(&policy, "mixed.example.com", &["127.0.0.1", "1.2.3.4"]),
            Some(1)
        );
        assert_eq!(
            resolved(&policy, "metadata.internal", &["169.254.169.254"]),
            None
        );
        assert_eq!(resolved(&policy, "proxy.corp", &["10.0.0.1"]), Some(1));
        assert_eq!(resolved(&policy, "nothing.example.com", &[]), Some(0));
    }

    #[test]
    fn an_upstream_inside_may_send_where_it_is_itself() {
        let lab = policy("http://lab.example.com:5000");
        assert!(
            !allows(&lab, "http://10.0.0.8/"),
            "before it is known where the lab is"
        );
        assert_eq!(resolved(&lab, "lab.example.com", &["10.0.0.7"]), Some(1));
        assert!(allows(&lab, "http://10.0.0.8/"));
        assert_eq!(resolved(&lab, "minio.lab", &["192.168.0.5"]), Some(1));
        for url in [
            "http://127.0.0.1/",
            "http://169.254.169.254/",
            "http://0.0.0.0/",
        ] {
            assert!(!allows(&lab, url), "{url}");
        }
        let local = policy("http://127.0.0.1:5000");
        assert!(allows(&local, "http://127.0.0.1:9000/") && allows(&local, "http://10.0.0.1/"));
        assert!(!allows(&local, "http://169.254.169.254/"));
    }

    #[test]
    fn an_upstream_half_inside_counts_as_public() {
        let policy = policy("http://two.example.com");
        assert_eq!(
            resolved(&policy, "two.example.com", &["10.0.0.7", "1.2.3.4"]),
            Some(2)
        );
        assert!(!allows(&policy, "http://10.0.0.8/"));
    }

    #[test]
    fn proxies_are_read_with_and_without_a_scheme() {
        for (value, host) in [
            ("http://user:secret@proxy.corp:3128/", Some("proxy.corp")),
            ("proxy.corp:3128", Some("proxy.corp")),
            ("10.0.0.1:3128", Some("10.0.0.1")),
            ("", None),
        ] {
            assert_eq!(proxy_host(value).as_deref(), host, "{value}");
        }
    }
}
