//! `WWW-Authenticate`: what a registry wants to see before it answers. RFC 9110 §11.6.1.
//!
//! Pure. Several challenges may share a line or come in lines of their own, parameters come in any
//! order, and a comma separates both challenges and parameters, so that only the next character
//! tells which of the two follows. What is malformed is skipped: the other challenges still count.

/// A challenge that larder can meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// Fetch a token. Distribution, "Token Authentication Specification".
    Bearer(Bearer),
    /// Username and password. RFC 7617.
    Basic,
}

/// Where a token is to be had, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// The address of the token service.
    pub realm: String,
    /// Its name for the registry; nvcr.io gives none.
    pub service: Option<String>,
    /// What the token must allow; `aws` at ECR Public, so not always a repository.
    pub scope: Option<String>,
}

/// The challenge to meet among all those of one answer: Bearer rather than Basic.
pub fn choose<'a>(lines: impl IntoIterator<Item = &'a str>) -> Option<Challenge> {
    let mut basic = None;
    for raw in lines.into_iter().flat_map(parse) {
        match raw.understood() {
            Some(bearer @ Challenge::Bearer(_)) => return Some(bearer),
            Some(Challenge::Basic) => basic = Some(Challenge::Basic),
            None => {}
        }
    }
    basic
}

/// Any challenge; names are in lower case.
#[derive(Debug, Default, PartialEq, Eq)]
struct Raw {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Raw {
    fn parameter(&self, name: &str) -> Option<String> {
        let found = self.parameters.iter().find(|(key, _)| key == name);
        found
            .map(|(_, value)| value.clone())
            .filter(|value| !value.is_empty())
    }

    fn understood(&self) -> Option<Challenge> {
        match self.scheme.as_str() {
            "bearer" => Some(Challenge::Bearer(Bearer {
                realm: self.parameter("realm")?,
                service: self.parameter("service"),
                scope: self.parameter("scope"),
            })),
            "basic" => Some(Challenge::Basic),
            _ => None,
        }
    }
}

fn parse(line: &str) -> Vec<Raw> {
    let mut rest = Rest(line);
    let mut challenges: Vec<Raw> = Vec::new();
    loop {
        rest.skip(|c| is_space(c) || c == ',');
        if rest.0.is_empty() {
            return challenges;
        }
        let word = rest.take(is_token);
        let spaces = rest.skip(is_space);
        if word.is_empty() {
            rest.skip_element();
        } else if rest.eat('=') {
            // A parameter of the challenge that came last; of none, if the line begins with it.
            rest.skip(is_space);
            let value = rest.value();
            if let Some(challenge) = challenges.last_mut() {
                challenge
                    .parameters
                    .push((word.to_ascii_lowercase(), value));
            }
        } else {
            challenges.push(Raw {
                scheme: word.to_ascii_lowercase(),
                ..Raw::default()
            });
            if spaces > 0 {
                rest.skip_token68();
            }
        }
    }
}

fn is_space(c: char) -> bool {
    c == ' ' || c == '\t'
}

/// RFC 9110 §5.6.2.
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// What is yet to be read of a line.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.0.find(|c| !wanted(c)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    fn skip(&mut self, unwanted: impl Fn(char) -> bool) -> usize {
        self.take(unwanted).len()
    }

    fn eat(&mut self, expected: char) -> bool {
        let rest = self.0.strip_prefix(expected);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// Malformed: on to the next comma that no quotes protect, at least one character.
    fn skip_element(&mut self) {
        if self.0.starts_with('"') {
            self.quoted();
        } else {
            let mut characters = self.0.chars();
            characters.next();
            self.0 = characters.as_str();
        }
        self.skip(|c| c != ',' && c != '"');
    }

    /// `YWJj==` after a scheme, which is no parameter in spite of its equals signs.
    fn skip_token68(&mut self) {
        let mut rest = Rest(self.0);
        let length = rest.skip(|c| c.is_ascii_alphanumeric() || "-._~+/".contains(c));
        rest.skip(|c| c == '=');
        rest.skip(is_space);
        if length > 0 && (rest.0.is_empty() || rest.0.starts_with(',')) {
            self.0 = rest.0;
        }
    }

    /// A quoted string, or whatever there is up to a comma or a space: an unquoted realm is no
    /// token, but it occurs.
    fn value(&mut self) -> String {
        if self.0.starts_with('"') {
            self.quoted()
        } else {
            self.take(|c| c != ',' && !is_space(c)).to_owned()
        }
    }

    fn quoted(&mut self) -> String {
        let mut value = String::new();
        let mut characters = self.0.chars();
        characters.next();
        while let Some(c) = characters.next() {
            match c {
                '"' => break,
                '\\' => value.extend(characters.next()),
                _ => value.push(c),
            }
        }
        self.0 = characters.as_str();
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[expect(
        clippy::unnecessary_wraps,
        reason = "it is compared with what `choose` returns"
    )]
    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let (service, scope) = (service.map(str::to_owned), scope.map(str::to_owned));
        let challenge = Bearer {
            realm: realm.to_owned(),
            service,
            scope,
        };
        Some(Challenge::Bearer(challenge))
    }

    #[test]
    fn challenges_of_real_registries_are_understood() {
        let hub = "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",\
                   scope=\"repository:library/debian:pull\"";
        let nvcr = r#"Bearer realm="https://nvcr.io/proxy_auth",scope="repository:a/b:pull,push""#;
        let ecr =
            r#"Bearer realm="https://public.ecr.aws/token/",service="public.ecr.aws",scope="aws""#;
        let expected = "repository:library/debian:pull";
        assert_eq!(
            choose([hub]),
            bearer(
                "https://auth.docker.io/token",
                Some("registry.docker.io"),
                Some(expected)
            )
        );
        assert_eq!(
            choose([nvcr]),
            bearer(
                "https://nvcr.io/proxy_auth",
                None,
                Some("repository:a/b:pull,push")
            )
        );
        assert_eq!(
            choose([ecr]),
            bearer(
                "https://public.ecr.aws/token/",
                Some("public.ecr.aws"),
                Some("aws")
            )
        );
        assert_eq!(
            choose([r#"Basic realm="Registry""#]),
            Some(Challenge::Basic)
        );
    }

    #[test]
    fn bearer_is_found_among_others() {
        let wanted = bearer("r", Some("s"), None);
        for lines in [
            &[r#"Basic realm="x", Bearer realm="r", service="s""#] as &[&str],
            &[r#"Bearer service="s",realm="r", Basic realm="x""#],
            &[r#"Negotiate YWJj==, Bearer realm="r", service="s""#],
            &[r#"Negotiate, Bearer realm="r",service="s""#],
            &[
                r#"Digest realm="x", nonce="a,Bearer realm=\"evil\"", Bearer realm="r" , service="s""#,
            ],
            &["Basic", r#"bEaReR ReAlM = "r" ,, SERVICE=s ,"#],
            &[r#",, NewAuth a=1, b = "2", Bearer realm=r,service=s"#],
            &[r#"???, Bearer realm="r",service="s""#],
        ] {
            assert_eq!(choose(lines.iter().copied()), wanted, "{lines:?}");
        }
    }

    #[test]
    fn quoted_text_is_unquoted() {
        assert_eq!(
            choose([r#"Bearer realm="a\"b\\c, Basic d=\e", service="""#]),
            bearer(r#"a"b\c, Basic d=e"#, None, None)
        );
        assert_eq!(
            choose([r#"Bearer realm="no end"#]),
            bearer("no end", None, None)
        );
        assert_eq!(
            choose(["Bearer realm=https://a/t,scope=x"]),
            bearer("https://a/t", None, Some("x"))
        );
    }

    #[test]
    fn what_cannot_be_met_is_none() {
        for line in [
            "",
            ",",
            "Bearer",
            "Bearer realm=",
            "Bearer service=\"s\"",
            "Negotiate",
            "=",
            "realm=\"x\"",
            "\"Bearer realm=x\"",
            "Digest realm=\"Bearer realm=x\"",
        ] {
            assert_eq!(choose([line]), None, "{line}");
        }
    }

    /// A challenge, or something like it, that is none of ours.
    fn other() -> impl Strategy<Value = String> {
        prop_oneof![
            "Negotiate [A-Za-z0-9+/]{1,8}={0,2}",
            "Digest [a-z]{1,5}=\"[ -!#-Z]{0,9}\"",
            "[A-Z][a-z]{1,4}[0-9]",
        ]
    }

    proptest! {
        #[test]
        fn any_text_is_read_to_its_end(text in "[ -~é]{0,60}") {
            let _ = choose([text.as_str()]);
        }

        #[test]
        fn likely_text_is_read_to_its_end(
            text in "([Bb]earer|basic|realm|scope|=|,|\"|\\\\|\\t| |a|/){0,30}",
        ) {
            let _ = choose([text.as_str()]);
        }

        #[test]
        fn a_challenge_is_found_whatever_surrounds_it(
            realm in "[ -~]{1,20}",
            service in "[ -~]{1,20}",
            before in prop::collection::vec(other(), 0..3),
            swapped: bool,
            split: bool,
        ) {
            let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
            let mut parameters = [
                format!("realm=\"{}\"", quoted(&realm)),
                format!("service=\"{}\"", quoted(&service)),
            ];
            if swapped {
                parameters.swap(0, 1);
            }
            let mut challenges = before;
            challenges.push(format!("Bearer {}", parameters.join(", ")));
            let lines = if split { challenges } else { vec![challenges.join(", ")] };
            prop_assert_eq!(
                choose(lines.iter().map(String::as_str)),
                bearer(&realm, Some(&service), None)
            );
        }
    }
}
