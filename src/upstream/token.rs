//! Tokens on the wire: where one is asked for, who is shown the credentials, and what comes back.
//! Distribution, "Token Authentication Specification". Pure.
//!
//! The realm of a challenge is the upstream's choice, so it does not decide where the password
//! goes (CVE-2026-33540): that is for the configuration, and elsewhere tokens are asked for
//! anonymously.

use std::time::Duration;

use http::HeaderValue;
use serde::Deserialize;
use url::Url;

use super::challenge::{Bearer, Challenge};
use super::credentials::secret;
use super::error::UpstreamError;
use crate::oci::RepositoryName;

/// The specification's default.
const UNSAID_LIFETIME: f64 = 60.0;
/// Nobody's token lives longer, and clocks of long-running processes are not to be trusted.
const MAX_LIFETIME: f64 = 86_400.0;
/// Tokens are fetched anew when this much of their life is over.
const USABLE: f64 = 0.8;

impl Challenge {
    /// The same challenge for another repository.
    pub(super) fn adapted(&self, from: &RepositoryName, to: &RepositoryName) -> Self {
        let Self::Bearer(bearer) = self else {
            return self.clone();
        };
        let (from, to) = (format!("repository:{from}:"), format!("repository:{to}:"));
        let scope = bearer.scope.as_ref().map(|scope| scope.replace(&from, &to));
        Self::Bearer(Bearer {
            scope,
            ..bearer.clone()
        })
    }
}

pub(super) fn realm(bearer: &Bearer) -> Result<Url, UpstreamError> {
    let mut url = Url::parse(&bearer.realm)
        .map_err(|_| UpstreamError::misbehaved("the realm of its challenge is no address"))?;
    url.set_fragment(None);
    Ok(url)
}

/// Whether a token service may see the upstream's credentials: at the upstream's own host and
/// port, or at a host that the configuration names; there at the scheme's own port, unless it
/// names another. That the scheme is not downgraded was checked before.
pub(super) fn is_trusted(realm: &Url, upstream: &Url, hosts: &[String]) -> bool {
    let (Some(host), Some(port)) = (realm.host_str(), realm.port_or_known_default()) else {
        return false;
    };
    let at_home =
        upstream.host_str() == Some(host) && upstream.port_or_known_default() == Some(port);
    at_home
        || hosts.iter().any(|trusted| {
            let trusted = trusted.to_ascii_lowercase();
            trusted == format!("{host}:{port}") || (realm.port().is_none() && trusted == host)
        })
}

pub(super) fn token_url(realm: &Url, bearer: &Bearer, name: &RepositoryName) -> Url {
    let mut url = realm.clone();
    let mut query = url.query_pairs_mut();
    if let Some(service) = &bearer.service {
        query.append_pair("service", service);
    }
    let default = format!("repository:{name}:pull");
    // A list of scopes is a parameter for each, as all clients do it.
    for scope in bearer
        .scope
        .as_ref()
        .unwrap_or(&default)
        .split_ascii_whitespace()
    {
        query.append_pair("scope", scope);
    }
    drop(query);
    url
}

/// A token as it came.
pub(super) struct Token {
    /// The `Authorization` header.
    pub(super) header: HeaderValue,
    seconds: f64,
}

impl Token {
    pub(super) fn parse(body: &[u8]) -> Result<Self, UpstreamError> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
            expires_in: Option<serde_json::Value>,
        }
        let answer: Answer = serde_json::from_slice(body)
            .map_err(|_| UpstreamError::misbehaved("its token service answers with no JSON"))?;
        let token = [answer.token, answer.access_token]
            .into_iter()
            .flatten()
            .find(|token| !token.is_empty())
            .ok_or_else(|| {
                UpstreamError::misbehaved("its token service answers without a token")
            })?;
        let header = secret(HeaderValue::from_str(&format!("Bearer {token}")))
            .ok_or_else(|| UpstreamError::misbehaved("its token cannot be sent"))?;
        let seconds = answer.expires_in.and_then(|value| match value {
            serde_json::Value::String(text) => text.parse().ok(),
            value => value.as_f64(),
        });
        Ok(Self {
            header,
            seconds: seconds.unwrap_or(UNSAID_LIFETIME),
        })
    }

    /// How long it is used, by our own clock: servers' `issued_at` is by theirs.
    pub(super) fn usable(&self) -> Duration {
        let seconds = self.seconds.clamp(0.0, MAX_LIFETIME) * USABLE;
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn bearer(service: Option<&str>, scope: Option<&str>) -> Bearer {
        Bearer {
            realm: "https://auth.example.com/token?x=1#y".to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        }
    }

    #[test]
    fn credentials_go_home_or_where_the_configuration_says() {
        let upstream = url("https://registry.example.com");
        let hosts = [
            "auth.example.com".to_owned(),
            "Other.example.com:8443".to_owned(),
        ];
        for realm in [
            "https://registry.example.com/token",
            "https://registry.example.com:443/token",
            "https://auth.example.com/token",
            "https://auth.example.com:443/t",
            "https://other.example.com:8443/t",
            "https://AUTH.example.com/t",
        ] {
            assert!(is_trusted(&url(realm), &upstream, &hosts), "{realm}");
        }
        for realm in [
            "https://registry.example.com:444/token",
            "https://registry.example.com.evil.org/token",
            "https://evil.org/registry.example.com",
            "https://auth.example.com./token",
            "https://auth.example.com:8443/token",
            "https://other.example.com/token",
            "https://\u{430}uth.example.com/token",
            "https://1.2.3.4/token",
            "file:///etc/passwd",
            "https://example.com/token",
            "https://sub.auth.example.com/",
        ] {
            assert!(!is_trusted(&url(realm), &upstream, &hosts), "{realm}");
        }
    }

    #[test]
    fn a_token_is_asked_for_as_the_challenge_says() {
        let name = "library/x".parse().unwrap();
        let asked = |bearer: &Bearer| token_url(&realm(bearer).unwrap(), bearer, &name).to_string();
        assert_eq!(
            asked(&bearer(Some("a b"), Some("repository:library/x:pull"))),
            "https://auth.example.com/token?x=1&service=a+b&scope=repository%3Alibrary%2Fx%3Apull"
        );
        assert_eq!(
            asked(&bearer(None, None)),
            "https://auth.example.com/token?x=1&scope=repository%3Alibrary%2Fx%3Apull"
        );
        assert_eq!(
            asked(&bearer(None, Some("aws  b"))),
            "https://auth.example.com/token?x=1&scope=aws&scope=b"
        );
    }

    #[test]
    fn a_challenge_is_adapted_to_another_repository() {
        let (one, two) = ("a/one".parse().unwrap(), "two".parse().unwrap());
        let scope = |scope: &str| Challenge::Bearer(bearer(None, Some(scope)));
        assert_eq!(
            scope("repository:a/one:pull,push").adapted(&one, &two),
            scope("repository:two:pull,push")
        );
        assert_eq!(scope("aws").adapted(&one, &two), scope("aws"));
        assert_eq!(Challenge::Basic.adapted(&one, &two), Challenge::Basic);
    }

    #[test]
    fn answers_of_token_services_are_read() {
        for (body, token, seconds) in [
            (
                r#"{"token":"a","access_token":"b","expires_in":300,"issued_at":"x"}"#,
                "a",
                240,
            ),
            (r#"{"access_token":"b"}"#, "b", 48),
            (
                r#"{"token":"","access_token":"b","expires_in":"50"}"#,
                "b",
                40,
            ),
            (
                r#"{"token":"a","access_token":null,"expires_in":10.0}"#,
                "a",
                8,
            ),
            (r#"{"token":"a","expires_in":-5}"#, "a", 0),
            (r#"{"token":"a","expires_in":1e300}"#, "a", 69_120),
            (r#"{"token":"a","expires_in":null}"#, "a", 48),
            (r#"{"token":"a","expires_in":[]}"#, "a", 48),
        ] {
            let read = Token::parse(body.as_bytes()).unwrap();
            assert_eq!(read.header, format!("Bearer {token}"), "{body}");
            assert!(read.header.is_sensitive());
            assert_eq!(read.usable().as_secs(), seconds, "{body}");
        }
        for body in [
            "",
            "{}",
            "[]",
            r#"{"token":5}"#,
            r#"{"token":"a\nb"}"#,
            r#"{"token":""}"#,
            "<html>",
        ] {
            assert!(
                matches!(
                    Token::parse(body.as_bytes()),
                    Err(UpstreamError::Misbehaved { .. })
                ),
                "{body}"
            );
        }
    }
}
