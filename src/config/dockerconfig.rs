//! Credentials from Docker's own `config.json`, where `docker login` has put them.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::secret::Secret;
use super::upstreams::{Credentials, UpstreamName};

/// Looks up the login for any of `hosts`, the first that has one. An error is the end of a sentence that
/// begins with the key `dockerconfig`, and contains nothing of the file.
pub(super) fn credentials(path: &Path, hosts: &[UpstreamName]) -> Result<Credentials, String> {
    let shown = path.display();
    let text = fs::read(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let json: Value = serde_json::from_slice(&text)
        .map_err(|error| format!("{shown} is not JSON (line {})", error.line()))?;
    let auths = json.get("auths").and_then(Value::as_object);
    let entry = hosts.iter().find_map(|host| {
        let mut entries = auths.into_iter().flatten();
        entries.find(|(key, _)| same_host(key, host))
    });
    let wanted = hosts.first().map_or("", UpstreamName::as_str);
    let Some((_, entry)) = entry else {
        return Err(format!(
            "{shown} has no login for {wanted}; run `docker login {wanted}` first, or write username and password"
        ));
    };
    login(entry).ok_or_else(|| {
        let helper = ["credsStore", "credHelpers"]
            .iter()
            .any(|key| json.get(key).is_some());
        let why = if helper {
            "docker keeps it in a credential helper, which larder does not run"
        } else {
            "a user name with a password or access token is needed"
        };
        format!("{shown} has no password for {wanted}: {why}; write username and password here")
    })
}

/// Whether an entry such as `https://index.docker.io/v1/` or `ghcr.io` is for `host`.
fn same_host(key: &str, host: &UpstreamName) -> bool {
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest);
    let bare = bare.split('/').next().unwrap_or_default();
    UpstreamName::parse(bare).is_ok_and(|name| name == *host)
}

/// The pair in an entry: `auth` is base64 of `user:password`, or the two stand alone.
fn login(entry: &Value) -> Option<Credentials> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str);
    let (username, password) = if let Some(auth) = text("auth").filter(|auth| !auth.is_empty()) {
        let decoded = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
        let (username, password) = decoded.split_once(':')?;
        (
            username.to_owned(),
            password.trim_end_matches('\0').to_owned(),
        )
    } else {
        (text("username")?.to_owned(), text("password")?.to_owned())
    };
    (!username.is_empty() && !password.is_empty()).then(|| Credentials {
        username,
        password: Secret::new(password),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn load(json: &str, host: &str) -> Result<(String, String), String> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(json.as_bytes()).expect("written");
        let found = credentials(file.path(), &[UpstreamName::parse(host).expect("a host")])?;
        Ok((found.username, found.password.expose().to_owned()))
    }

    #[test]
    fn finds_the_entry_however_it_is_spelled() {
        let hub = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "bWU6cGFzczp3b3Jk"}}}"#;
        let pair = |password: &str| Ok(("me".to_owned(), password.to_owned()));
        assert_eq!(load(hub, "docker.io"), pair("pass:word"));
        let plain = r#"{"auths": {"ghcr.io": {"username": "me", "password": "x"}}}"#;
        assert_eq!(load(plain, "ghcr.io"), pair("x"));
        let port = r#"{"auths": {"http://lab:5000": {"username": "me", "password": "x"}}}"#;
        assert_eq!(load(port, "lab:5000"), pair("x"));
    }

    #[test]
    fn says_what_is_missing() {
        let table = [
            (
                r#"{"auths": {"ghcr.io": {"auth": "bWU6eA=="}}}"#,
                "no login for quay.io",
            ),
            ("{}", "run `docker login quay.io`"),
            (
                r#"{"auths": {"quay.io": {}}, "credsStore": "desktop"}"#,
                "credential helper",
            ),
            (r#"{"auths": {"quay.io": {"auth": "!"}}}"#, "no password"),
            ("nonsense", "is not JSON"),
        ];
        for (json, message) in table {
            let error = load(json, "quay.io").expect_err(json);
            assert!(error.contains(message), "{error}");
        }
        let missing = credentials(Path::new("/nonexistent/config.json"), &[]);
        assert!(missing.is_err_and(|error| error.contains("cannot read /nonexistent/config.json")));
    }
}
