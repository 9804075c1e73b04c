//! This machine: where others reach it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// What containers and virtual machines are connected by: nobody else reaches these.
const INNER: [&str; 9] = [
    "docker", "br-", "veth", "virbr", "cni", "flannel", "podman", "cali", "lxc",
];

/// Whether that means every address of this machine.
pub(super) fn is_any(host: &str) -> bool {
    ["", "0.0.0.0", "[::]", "::"].contains(&host)
}

/// The addresses under which others may reach this machine, as they stand in a URL: the one that
/// leads to the world first, those of IPv4 before those of IPv6.
pub(super) fn addresses() -> Vec<String> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let four = ipv4(&read("/proc/net/fib_trie"), &read("/proc/net/route"));
    let six = ipv6(&read("/proc/net/if_inet6"));
    let first = outward().filter(|it| !it.is_loopback());
    let mut seen = BTreeSet::new();
    let all = first.into_iter().map(|it| match it {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    });
    all.chain(four.iter().map(ToString::to_string))
        .chain(six.iter().map(|it| format!("[{it}]")))
        .filter(|it| seen.insert(it.clone()))
        .collect()
}

/// The address from which this machine would send to the world. Nothing is sent: the addresses are
/// those of documentation (RFC 5737, RFC 3849), and connecting a datagram socket only looks up the
/// route.
fn outward() -> Option<IpAddr> {
    let routed = |from: &str, to: &str| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    routed("0.0.0.0:0", "192.0.2.1:9").or_else(|| routed("[::]:0", "[2001:db8::1]:9"))
}

/// Its own addresses, out of the kernel's tables, but for those inside it.
fn ipv4(trie: &str, routes: &str) -> BTreeSet<Ipv4Addr> {
    let inner: Vec<_> = routes.lines().filter_map(inner_network).collect();
    let mut found = BTreeSet::new();
    let mut last = None;
    for line in trie.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line.starts_with("/32 host LOCAL") {
            found.extend(last);
        }
    }
    let is_inner = |it: &Ipv4Addr| inner.iter().any(|(to, mask)| it.to_bits() & mask == *to);
    found.retain(|it| !it.is_loopback() && !it.is_link_local() && !is_inner(it));
    found
}

/// A network and its mask, of a line of /proc/net/route, if only this machine is in it.
fn inner_network(line: &str) -> Option<(u32, u32)> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let interface = fields.first()?;
    // In the byte order of the machine; what is written is the network's.
    let number = |at: usize| {
        u32::from_str_radix(fields.get(at)?, 16)
            .ok()
            .map(u32::to_be)
    };
    let (network, mask) = (number(1)?, number(7)?);
    let is_inner = INNER.iter().any(|it| interface.starts_with(it));
    (is_inner && mask != 0).then_some((network, mask))
}

fn ipv6(table: &str) -> BTreeSet<Ipv6Addr> {
    let address = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let bits = u128::from_str_radix(fields.first()?, 16).ok()?;
        let interface = fields.get(5)?;
        let address = Ipv6Addr::from_bits(bits);
        let is_inner = INNER.iter().any(|it| interface.starts_with(it));
        // 00: the whole world may reach it, as far as the kernel knows.
        let is_global = *fields.get(3)? == "00";
        (is_global && !is_inner && !address.is_loopback()).then_some(address)
    };
    table.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIE: &str = "Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
           |-- 127.0.0.1
              /32 host LOCAL
        +-- 172.17.0.0/16 2 0 2
           |-- 172.17.0.1
              /32 host LOCAL
     +-- 192.168.1.0/24 2 0 2
           |-- 192.168.1.10
              /32 host LOCAL
           |-- 192.168.1.255
              /32 link BROADCAST
";
    const ROUTES: &str =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
";

    #[test]
    fn addresses_are_those_that_others_reach() {
        let found: Vec<_> = ipv4(TRIE, ROUTES).into_iter().collect();
        let expected: Vec<Ipv4Addr> = vec!["192.168.1.10".parse().unwrap()];
        assert_eq!(found, expected);
        let table = "00000000000000000000000000000001 01 80 10 80       lo
fe80000000000000021122fffe334455 02 40 20 80     eth0
20010db8000000000000000000000007 02 40 00 80     eth0
20010db8000000000000000000000008 03 40 00 80  docker0
";
        let found: Vec<_> = ipv6(table).into_iter().map(|it| it.to_string()).collect();
        assert_eq!(found, ["2001:db8::7"]);
        assert!(ipv4("", "").is_empty() && ipv6("junk").is_empty());
    }
}
