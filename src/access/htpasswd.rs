//! The lines of a htpasswd file: `name:hash`, where only bcrypt counts.
//!
//! Pure. A line that cannot be used is skipped and named, so that one typing error locks out one user
//! and not all of them. What is said of such a line never holds any of its text.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// Below it bcrypt is not defined.
const LEAST_COST: u32 = 4;
/// Beyond it, one try takes more than a second of a processor: a way to keep it busy.
const MOST_COST: u32 = 14;
/// What `htpasswd -B` chooses; what an unknown user costs if there is no user at all.
const USUAL_COST: u32 = 5;

/// A bcrypt hash is this long.
const HASH: usize = 60;
/// Salt and hash of no password in particular.
const NOBODYS: &str = ".....................................................";

/// Why a line does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Not UTF-8.
    Text,
    /// No colon in it.
    NoColon,
    /// Nothing before the colon.
    NoName,
    /// MD5, SHA, crypt or something else.
    NotBcrypt,
    /// A cost below 4 or over 14.
    Cost(u32),
    /// The same name comes again further down.
    Replaced,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("it is not UTF-8"),
            Self::NoColon => f.write_str("it has no colon"),
            Self::NoName => f.write_str("there is no name before the colon"),
            Self::NotBcrypt => {
                f.write_str("the hash is not bcrypt: make the line with `htpasswd -nB USER`")
            }
            Self::Cost(cost) => write!(
                f,
                "a cost of {cost} is not between {LEAST_COST} and {MOST_COST}: make the line with `htpasswd -nB -C 10 USER`"
            ),
            Self::Replaced => f.write_str("the same name comes again below, and that line counts"),
        }
    }
}

/// A line that does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, from 1.
    pub number: usize,
    /// What is wrong with it.
    pub flaw: Flaw,
}

/// The users of a file.
#[derive(Default, PartialEq, Eq)]
pub struct Users {
    hashes: HashMap<String, String>,
    /// The cost that most of them have.
    cost: u32,
}

/// Without the hashes.
impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({})", self.hashes.len())
    }
}

impl Users {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// The bcrypt hash of a user's password.
    pub fn hash(&self, name: &str) -> Option<&str> {
        self.hashes.get(name).map(String::as_str)
    }

    /// A hash that costs as much as most of the others, for who is not among them.
    pub fn nobodys_hash(&self) -> String {
        let cost = if self.is_empty() {
            USUAL_COST
        } else {
            self.cost
        };
        format!("$2y${cost:02}${NOBODYS}")
    }
}

/// Reads a file. Never fails: what does not count is in the list.
pub fn parse(bytes: &[u8]) -> (Users, Vec<BadLine>) {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut found: HashMap<String, (usize, String)> = HashMap::new();
    let mut bad = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        match read(line) {
            Ok(None) => {}
            Ok(Some((name, hash))) => {
                // Distribution takes the last one too.
                if let Some((number, _)) = found.insert(name, (number, hash)) {
                    bad.push(BadLine {
                        number,
                        flaw: Flaw::Replaced,
                    });
                }
            }
            Err(flaw) => bad.push(BadLine { number, flaw }),
        }
    }
    bad.sort_by_key(|line| line.number);
    let hashes: HashMap<_, _> = found
        .into_iter()
        .map(|(name, (_, hash))| (name, hash))
        .collect();
    let cost = most_common(hashes.values().filter_map(|hash| cost(hash)));
    (Users { hashes, cost }, bad)
}

fn read(line: &[u8]) -> Result<Option<(String, String)>, Flaw> {
    let line = str::from_utf8(line).map_err(|_| Flaw::Text)?.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (name, hash) = line.split_once(':').ok_or(Flaw::NoColon)?;
    if name.is_empty() {
        return Err(Flaw::NoName);
    }
    let cost = cost(hash).ok_or(Flaw::NotBcrypt)?;
    if !(LEAST_COST..=MOST_COST).contains(&cost) {
        return Err(Flaw::Cost(cost));
    }
    Ok(Some((name.to_owned(), hash.to_owned())))
}

/// The cost of a bcrypt hash, `$2y$10$…`; `None` if it is none.
///
/// `2x` marks hashes of an implementation that lost most of a password, and is not taken.
fn cost(hash: &str) -> Option<u32> {
    let rest = ["$2a$", "$2b$", "$2y$"]
        .iter()
        .find_map(|start| hash.strip_prefix(start))?;
    let (cost, _) = rest.split_once('$')?;
    let digits = cost.len() == 2 && cost.bytes().all(|byte| byte.is_ascii_digit());
    let whole = hash.len() == HASH && hash.parse::<bcrypt::HashParts>().is_ok();
    (digits && whole).then(|| cost.parse().ok())?
}

/// The highest of those that occur most often; 0 if there are none.
fn most_common(costs: impl Iterator<Item = u32>) -> u32 {
    let mut counts = BTreeMap::new();
    for cost in costs {
        *counts.entry(cost).or_insert(0_usize) += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.map_or(0, |(cost, _)| cost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH_OF_X: &str = "$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe";

    fn flaws(text: &str) -> Vec<(usize, Flaw)> {
        let (_, bad) = parse(text.as_bytes());
        bad.iter().map(|line| (line.number, line.flaw)).collect()
    }

    #[test]
    fn lines_are_read_as_distribution_reads_them() {
        let text = format!(
            "\u{feff}ann:{HASH_OF_X}\r\n\n  # a comment: with a colon\n\tb ob:{} \nänn:{}",
            HASH_OF_X.replace("$2y$", "$2a$"),
            HASH_OF_X.replace("$2y$05$", "$2b$12$"),
        );
        let (users, bad) = parse(text.as_bytes());
        assert_eq!(bad, []);
        assert_eq!(users.len(), 3);
        assert_eq!(users.hash("ann"), Some(HASH_OF_X));
        assert!(users.hash("b ob").is_some() && users.hash("änn").is_some());
        assert_eq!(users.hash("Ann"), None);
    }

    #[test]
    fn bad_lines_are_skipped_and_named() {
        let text = format!(
            "no colon\n:{HASH_OF_X}\nmd5:$apr1$gDzZHkAC$Y1Q5\nplain:secret\nann:{HASH_OF_X}\n\
             low:{}\nhigh:{}\nsign:{}\nbroken:{}\nshort:{}\nx:{}\nempty:",
            HASH_OF_X.replace("$05$", "$03$"),
            HASH_OF_X.replace("$05$", "$15$"),
            HASH_OF_X.replace("$05$", "$+5$"),
            HASH_OF_X.replace("bvIG", "b-IG"),
            &HASH_OF_X[..59],
            HASH_OF_X.replace("$2y$", "$2x$"),
        );
        assert_eq!(
            flaws(&text),
            [
                (1, Flaw::NoColon),
                (2, Flaw::NoName),
                (3, Flaw::NotBcrypt),
                (4, Flaw::NotBcrypt),
                (6, Flaw::Cost(3)),
                (7, Flaw::Cost(15)),
                (8, Flaw::NotBcrypt),
                (9, Flaw::NotBcrypt),
                (10, Flaw::NotBcrypt),
                (11, Flaw::NotBcrypt),
                (12, Flaw::NotBcrypt),
            ]
        );
        let (users, _) = parse(text.as_bytes());
        assert_eq!(users.len(), 1);
        let (_, bad) = parse(b"ok\xff:x");
        assert_eq!(bad[0].flaw, Flaw::Text);
    }

    #[test]
    fn of_two_lines_for_one_user_the_last_counts() {
        let later = HASH_OF_X.replace("$2y$", "$2b$");
        let text = format!("ann:{HASH_OF_X}\nann:{later}\n");
        let (users, bad) = parse(text.as_bytes());
        assert_eq!(users.hash("ann"), Some(later.as_str()));
        assert_eq!(
            bad,
            [BadLine {
                number: 1,
                flaw: Flaw::Replaced
            }]
        );
    }

    #[test]
    fn nobodys_hash_costs_what_most_cost() {
        let with = |cost: &str| HASH_OF_X.replace("$05$", &format!("${cost}$"));
        let text = format!("a:{}\nb:{}\nc:{}\n", with("10"), with("05"), with("10"));
        let (users, _) = parse(text.as_bytes());
        assert!(users.nobodys_hash().starts_with("$2y$10$"));
        let (none, _) = parse(b"");
        for users in [users, none] {
            let hash = users.nobodys_hash();
            assert!(cost(&hash).is_some(), "{hash}");
            assert!(!bcrypt::verify("", &hash).unwrap());
        }
    }

    #[test]
    fn hashes_are_not_shown() {
        let (users, _) = parse(format!("ann:{HASH_OF_X}").as_bytes());
        assert_eq!(format!("{users:?}"), "Users(1)");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            let (users, _) = parse(&bytes);
            prop_assert!(users.is_empty());
        }

        #[test]
        fn likely_lines_are_read(
            lines in prop::collection::vec("[a-c#]{0,2}:?(\\$2[abxy]\\$)?[0-9+]{0,2}\\$?[./A-Za-z0-9é]{52,54}", 0..6)
        ) {
            let text = lines.join("\n");
            let (users, bad) = parse(text.as_bytes());
            prop_assert!(users.len() + bad.len() <= lines.len().max(1));
            prop_assert!(cost(&users.nobodys_hash()).is_some());
        }
    }
}
