//! What callers may do: the rules, and the patterns in them.

use super::error::AccessError;
use super::settings::{Action, Rule, Wanted};

/// Every verified user, among the names of a rule.
const EVERY_USER: &str = "*";
/// Anybody, among the names of a rule.
const ANYBODY: &str = "anonymous";
/// The caller's name, in a pattern.
const USER: &str = "{user}";

/// All that is allowed; everything else is not.
pub(super) struct Policy {
    anonymous: Vec<Action>,
    rules: Vec<Grant>,
}

/// A rule, made ready.
struct Grant {
    who: Vec<String>,
    may: Vec<Action>,
    names: Vec<Pattern>,
}

impl Grant {
    fn is_for(&self, user: Option<&str>) -> bool {
        self.who.iter().any(|who| match user {
            _ if who == ANYBODY => true,
            Some(_) if who == EVERY_USER => true,
            Some(user) => who == user,
            None => false,
        })
    }

    fn allows(&self, user: Option<&str>, wanted: &Wanted<'_>) -> bool {
        if !self.is_for(user) {
            return false;
        }
        match wanted {
            Wanted::Repository(name, action) => {
                self.may.contains(action)
                    && self.names.iter().any(|pattern| pattern.matches(user, name))
            }
            // What the list then holds is decided name by name.
            Wanted::Catalog => {
                self.may.contains(&Action::Pull)
                    && self.names.iter().any(|pattern| pattern.is_for(user))
            }
        }
    }
}

impl Policy {
    pub(super) fn new(anonymous: &[Action], rules: &[Rule]) -> Result<Self, AccessError> {
        let grants = rules.iter().enumerate().map(|(index, rule)| {
            grant(rule).map_err(|what| AccessError::Rule {
                number: index + 1,
                what,
            })
        });
        Ok(Self {
            anonymous: anonymous.to_vec(),
            rules: grants.collect::<Result<_, _>>()?,
        })
    }

    /// Whether there is anything that needs no name.
    pub(super) fn admits_anonymous(&self) -> bool {
        let anybody = |grant: &Grant| grant.names.iter().any(|pattern| pattern.is_for(None));
        !self.anonymous.is_empty()
            || self
                .rules
                .iter()
                .any(|grant| grant.is_for(None) && anybody(grant))
    }

    pub(super) fn anonymous_may(&self, wanted: &Wanted<'_>) -> bool {
        let action = match wanted {
            Wanted::Repository(_, action) => *action,
            Wanted::Catalog => Action::Pull,
        };
        self.anonymous.contains(&action) || self.some_rule_allows(None, wanted)
    }

    /// Whether a verified user may, beyond what anybody may.
    pub(super) fn user_may(&self, user: &str, wanted: &Wanted<'_>) -> bool {
        self.rules.is_empty() || self.some_rule_allows(Some(user), wanted)
    }

    /// Whether anybody may do that with some repository.
    pub(super) fn anonymous_may_somewhere(&self, action: Action) -> bool {
        self.anonymous.contains(&action) || self.some_rule_grants(None, action)
    }

    /// Whether a verified user may, beyond what anybody may.
    pub(super) fn user_may_somewhere(&self, user: &str, action: Action) -> bool {
        self.rules.is_empty() || self.some_rule_grants(Some(user), action)
    }

    fn some_rule_grants(&self, user: Option<&str>, action: Action) -> bool {
        self.rules.iter().any(|grant| {
            let mut names = grant.names.iter();
            grant.is_for(user)
                && grant.may.contains(&action)
                && names.any(|pattern| pattern.is_for(user))
        })
    }

    fn some_rule_allows(&self, user: Option<&str>, wanted: &Wanted<'_>) -> bool {
        self.rules.iter().any(|grant| grant.allows(user, wanted))
    }
}

fn grant(rule: &Rule) -> Result<Grant, String> {
    for (key, empty) in [
        ("who", rule.who.is_empty()),
        ("may", rule.may.is_empty()),
        ("names", rule.names.is_empty()),
    ] {
        if empty {
            return Err(format!("{key} is empty, so that the rule allows nothing"));
        }
    }
    if rule.who.iter().any(String::is_empty) {
        return Err("an empty name in who".to_owned());
    }
    Ok(Grant {
        who: rule.who.clone(),
        may: rule.may.clone(),
        names: rule
            .names
            .iter()
            .map(|text| Pattern::new(text))
            .collect::<Result<_, _>>()?,
    })
}

/// A pattern of repository names.
#[derive(Debug)]
struct Pattern {
    /// What stands between the stars; one more than there are stars.
    pieces: Vec<String>,
    /// Whether `{user}` occurs in it.
    personal: bool,
}

impl Pattern {
    fn new(text: &str) -> Result<Self, String> {
        let rest = text.replace(USER, "");
        if text.is_empty() {
            return Err("an empty name; * stands for every name".to_owned());
        }
        if rest.contains(['{', '}']) {
            return Err(format!("{text:?}: the only word in braces is {USER}"));
        }
        if rest.contains(|c: char| c.is_whitespace() || c.is_control() || "?[]\\".contains(c)) {
            return Err(format!(
                "{text:?} matches no repository name; * stands for any characters, {USER} for the caller's name"
            ));
        }
        Ok(Self {
            pieces: text.split('*').map(str::to_owned).collect(),
            personal: text.contains(USER),
        })
    }

    fn is_for(&self, user: Option<&str>) -> bool {
        user.is_some() || !self.personal
    }

    /// The user's name is put in after the pattern was taken apart, so that a star in it is a star.
    fn matches(&self, user: Option<&str>, name: &str) -> bool {
        if !self.is_for(user) {
            return false;
        }
        let user = user.unwrap_or_default();
        let mut pieces = self.pieces.iter().map(|piece| piece.replace(USER, user));
        let Some(first) = pieces.next() else {
            return false;
        };
        let Some(last) = pieces.next_back() else {
            return first == name;
        };
        let rest = name.strip_prefix(first.as_str());
        let Some(mut rest) = rest.and_then(|rest| rest.strip_suffix(last.as_str())) else {
            return false;
        };
        // The earliest place for each leaves the most room for the next.
        for piece in pieces {
            let Some(at) = rest.find(piece.as_str()) else {
                return false;
            };
            rest = &rest[at + piece.len()..];
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(who: &[&str], may: &[Action], names: &[&str]) -> Rule {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Rule {
            who: owned(who),
            may: may.to_vec(),
            names: owned(names),
        }
    }

    fn matches(pattern: &str, user: Option<&str>, name: &str) -> bool {
        Pattern::new(pattern).unwrap().matches(user, name)
    }

    #[test]
    fn a_star_is_any_run_of_characters() {
        for (pattern, name, expected) in [
            ("*", "team/app", true),
            ("team/*", "team/app/x", true),
            ("team/*", "team/", true),
            ("team/*", "team", false),
            ("team/*", "teams/app", false),
            ("team/*", "x/team/app", false),
            ("*/app", "team/app", true),
            ("*/app", "app", false),
            ("team/*/app", "team/app", false),
            ("team/*/app", "team/x/y/app", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "a-c-b-c", true),
            ("a*b*b*c", "a-b-c", false),
            ("**", "x", true),
            ("team/app", "team/app", true),
            ("team/app", "team/app2", false),
        ] {
            assert_eq!(matches(pattern, None, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_user_is_matched_to_the_letter() {
        for (pattern, user, name, expected) in [
            ("{user}/*", Some("ann"), "ann/app", true),
            ("{user}/*", Some("ann"), "anna/app", false),
            ("{user}/*", Some("ann"), "bob/app", false),
            ("{user}/*", None, "/app", false),
            ("{user}/*", None, "{user}/app", false),
            ("home/{user}", Some("ann"), "home/ann", true),
            ("{user}/*", Some("*"), "bob/app", false),
            ("{user}/*", Some("b*"), "bob/app", false),
            ("{user}/*", Some("*"), "*/app", true),
            ("{user}", Some("{user}"), "{user}", true),
            ("{user}/*", Some("team/lead"), "team/app", false),
            ("{user}-{user}/*", Some("a"), "a-a/x", true),
        ] {
            assert_eq!(
                matches(pattern, user, name),
                expected,
                "{pattern} {user:?} {name}"
            );
        }
    }

    #[test]
    fn without_rules_a_verified_user_may_everything() {
        let policy = Policy::new(&[Action::Pull], &[]).unwrap();
        let pull = Wanted::Repository("x", Action::Pull);
        let push = Wanted::Repository("x", Action::Push);
        assert!(policy.anonymous_may(&pull) && policy.anonymous_may(&Wanted::Catalog));
        assert!(!policy.anonymous_may(&push));
        assert!(policy.user_may("ann", &push) && policy.user_may("ann", &Wanted::Catalog));
        assert!(policy.admits_anonymous());
        let policy = Policy::new(&[], &[]).unwrap();
        assert!(!policy.anonymous_may(&pull) && !policy.admits_anonymous());
    }

    #[test]
    fn with_rules_what_none_allows_is_not_allowed() {
        use Action::{Delete, Pull, Push};
        let policy = Policy::new(
            &[],
            &[
                rule(&["anonymous"], &[Pull], &["public/*"]),
                rule(&["*"], &[Pull, Push], &["{user}/*"]),
                rule(&["ci", "ann"], &[Push, Delete], &["build/*"]),
            ],
        )
        .unwrap();
        for (user, name, action, expected) in [
            (None, "public/x", Pull, true),
            (None, "public/x", Push, false),
            (None, "ann/x", Pull, false),
            (Some("ann"), "public/x", Pull, true),
            (Some("ann"), "ann/x", Push, true),
            (Some("ann"), "bob/x", Pull, false),
            (Some("ann"), "ann/x", Delete, false),
            (Some("ci"), "build/x", Delete, true),
            (Some("ci"), "build/x", Pull, false),
            (Some("bob"), "build/x", Push, false),
            // The words of the rules are not names.
            (Some("anonymous"), "build/x", Push, false),
            (Some("*"), "build/x", Push, false),
        ] {
            let wanted = Wanted::Repository(name, action);
            let allowed = policy.anonymous_may(&wanted)
                || user.is_some_and(|user| policy.user_may(user, &wanted));
            assert_eq!(allowed, expected, "{user:?} {action:?} {name}");
        }
    }

    #[test]
    fn who_may_pull_something_may_list() {
        use Action::{Pull, Push};
        let list = |who: &str, may: Action, names: &str, user: Option<&str>| {
            let policy = Policy::new(&[], &[rule(&[who], &[may], &[names])]).unwrap();
            policy.anonymous_may(&Wanted::Catalog)
                || user.is_some_and(|user| policy.user_may(user, &Wanted::Catalog))
        };
        assert!(list("ann", Pull, "x", Some("ann")));
        assert!(!list("ann", Pull, "x", Some("bob")));
        assert!(!list("ann", Push, "x", Some("ann")));
        assert!(list("anonymous", Pull, "x", None));
        assert!(!list("anonymous", Pull, "{user}/x", None));
        assert!(list("anonymous", Pull, "{user}/x", Some("ann")));
        assert!(!list("*", Pull, "x", None));
    }

    #[test]
    fn rules_that_cannot_be_meant_are_refused() {
        for (bad, what) in [
            (rule(&[], &[Action::Pull], &["*"]), "who is empty"),
            (rule(&["ann"], &[], &["*"]), "may is empty"),
            (rule(&["ann"], &[Action::Pull], &[]), "names is empty"),
            (rule(&[""], &[Action::Pull], &["*"]), "empty name in who"),
            (rule(&["ann"], &[Action::Pull], &[""]), "* stands for"),
            (rule(&["ann"], &[Action::Pull], &["{group}/*"]), "{user}"),
            (
                rule(&["ann"], &[Action::Pull], &["team/?"]),
                "any characters",
            ),
            (rule(&["ann"], &[Action::Pull], &["a b"]), "any characters"),
        ] {
            let good = rule(&["ann"], &[Action::Pull], &["*"]);
            let error = Policy::new(&[], &[good, bad]).err().unwrap().to_string();
            assert!(error.contains("rule 2") && error.contains(what), "{error}");
        }
    }

    /// The same by its definition: slow, and plainly right.
    fn naive(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|at| naive(rest, &name[at..])),
            Some((byte, rest)) => name.first() == Some(byte) && naive(rest, &name[1..]),
        }
    }

    proptest! {
        #[test]
        fn patterns_match_by_their_definition(pattern in "[ab/*]{1,8}", name in "[ab/]{0,10}") {
            let expected = naive(pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(matches(&pattern, None, &name), expected);
        }

        #[test]
        fn a_user_stays_in_their_own_names(user in "[a-z*/{}]{1,8}", name in "[a-z*/{}]{0,12}") {
            let own = name.starts_with(&format!("{user}/"));
            prop_assert_eq!(matches("{user}/*", Some(&user), &name), own);
        }

        #[test]
        fn any_text_is_a_pattern_or_not(text: String, name: String) {
            if let Ok(pattern) = Pattern::new(&text) {
                pattern.matches(Some("ann"), &name);
            }
        }
    }
}
