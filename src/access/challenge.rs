//! `WWW-Authenticate`, as Distribution writes it.

use super::settings::Wanted;

/// Why a caller is challenged, which a Bearer challenge says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nobody said who they are.
    NoCredentials,
    /// The token is not good.
    InvalidToken,
    /// It is, but not for this.
    InsufficientScope,
}

/// Where the request was sent, as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedAt<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// With its port, if the client named one.
    pub host: &'a str,
}

impl AskedAt<'_> {
    pub(super) fn url(&self, path: &str) -> String {
        let Self { scheme, host } = self;
        format!("{scheme}://{host}{path}")
    }
}

/// RFC 7617 §2.
pub(super) fn basic(realm: &str) -> String {
    format!("Basic realm={}", quoted(realm))
}

/// The parameters in Distribution's order and without spaces, since clients exist that split at
/// commas.
pub(super) fn bearer(realm: &str, service: &str, wanted: &[Wanted<'_>], why: Why) -> String {
    let (realm, service) = (quoted(realm), quoted(service));
    let mut value = format!("Bearer realm={realm},service={service}");
    let scope = scope(wanted);
    if !scope.is_empty() {
        value = format!("{value},scope={}", quoted(&scope));
    }
    match why {
        Why::NoCredentials => {}
        Why::InvalidToken => value += ",error=\"invalid_token\"",
        Why::InsufficientScope => value += ",error=\"insufficient_scope\"",
    }
    value
}

/// `repository:team/app:pull,push repository:team/base:pull`: one for each resource, in the order in
/// which they are wanted.
fn scope(wanted: &[Wanted<'_>]) -> String {
    let mut scopes: Vec<(String, Vec<&str>)> = Vec::new();
    for wanted in wanted {
        let (resource, action) = match wanted {
            Wanted::Repository(name, action) => (format!("repository:{name}"), action.as_str()),
            Wanted::Catalog => ("registry:catalog".to_owned(), "*"),
        };
        match scopes.iter_mut().find(|(known, _)| *known == resource) {
            Some((_, actions)) if actions.contains(&action) => {}
            Some((_, actions)) => actions.push(action),
            None => scopes.push((resource, vec![action])),
        }
    }
    let scopes = scopes.iter();
    let scopes = scopes.map(|(resource, actions)| format!("{resource}:{}", actions.join(",")));
    scopes.collect::<Vec<_>>().join(" ")
}

/// A quoted string as Go's `%q` writes it, so that control characters never reach the header.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_ascii_control() => quoted.extend(format!("\\x{:02x}", u32::from(c)).chars()),
            c if c.is_control() => quoted.extend(format!("\\u{:04x}", u32::from(c)).chars()),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether `listed`, which may have no port, is the `host` that was asked.
pub(super) fn is_host(listed: &str, host: &str) -> bool {
    let (listed, host) = (listed.trim_end_matches('.'), host.trim_end_matches('.'));
    listed.eq_ignore_ascii_case(host) || listed.eq_ignore_ascii_case(without_port(host))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // The colons of an IPv6 address are within brackets.
        Some((name, port)) if !port.contains(']') => name.trim_end_matches('.'),
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::Action;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn challenges_are_distributions() {
        assert_eq!(basic("Registry Realm"), r#"Basic realm="Registry Realm""#);
        assert_eq!(basic("a \"b\" \\\n"), r#"Basic realm="a \"b\" \\\n""#);
        assert_eq!(
            bearer("https://auth/token", "reg", &[], Why::NoCredentials),
            r#"Bearer realm="https://auth/token",service="reg""#
        );
        let wanted = [
            Wanted::Repository("team/app", Action::Pull),
            Wanted::Repository("other", Action::Pull),
            Wanted::Repository("team/app", Action::Push),
            Wanted::Repository("team/app", Action::Pull),
        ];
        assert_eq!(
            bearer("r", "s", &wanted, Why::InvalidToken),
            r#"Bearer realm="r",service="s",scope="repository:team/app:pull,push repository:other:pull",error="invalid_token""#
        );
        assert_eq!(
            bearer("r", "s", &[Wanted::Catalog], Why::InsufficientScope),
            r#"Bearer realm="r",service="s",scope="registry:catalog:*",error="insufficient_scope""#
        );
    }

    #[test]
    fn a_host_is_listed_with_or_without_its_port() {
        for (listed, host, expected) in [
            ("reg.example.com", "reg.example.com", true),
            ("reg.example.com", "REG.example.com:5000", true),
            ("reg.example.com", "reg.example.com.:5000", true),
            ("reg.example.com:5000", "reg.example.com:5000", true),
            ("reg.example.com:5000", "reg.example.com:5001", false),
            ("reg.example.com:5000", "reg.example.com", false),
            ("example.com", "reg.example.com", false),
            ("[::1]", "[::1]:5000", true),
            ("[::1]", "[::1]", true),
            ("[::1]:5000", "[::1]:5000", true),
            ("[:", "[::1]", false),
        ] {
            assert_eq!(is_host(listed, host), expected, "{listed} {host}");
        }
    }

    proptest! {
        #[test]
        fn a_challenge_holds_no_control_characters(realm in "\\PC*|[\\x00-\\x7f]{0,20}") {
            let value = basic(&realm);
            prop_assert!(!value.chars().any(char::is_control));
            // No quote ends the text early.
            let inner = &value["Basic realm=\"".len()..value.len() - 1];
            prop_assert!(!inner.replace("\\\\", "").replace("\\\"", "").contains('"'));
        }
    }
}
