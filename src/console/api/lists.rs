//! Lists: repositories, and images by a part of their names.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde_json::{Value, json};

use crate::oci::{ListOrder, ListPart, ListPlace, RepositoryName};
use crate::registry::{Error, Names};
use crate::store::{Index, Indexed, Kind, LastUse};

use super::super::{Console, Sees};
use super::time;

/// How long a page is where nobody says.
const PAGE: usize = 100;

/// The longest page.
pub(super) const LONGEST: usize = 1000;

/// Which repositories are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// All.
    Any,
    /// What was pushed.
    Local,
    /// What was filled from an upstream.
    Mirror,
    /// What was filled from that one.
    Upstream(String),
}

impl Origin {
    /// Reads what somebody asks for; nothing asks for all.
    pub fn read(text: Option<&str>) -> Self {
        match text {
            None | Some("") => Self::Any,
            Some("local") => Self::Local,
            Some("mirror") => Self::Mirror,
            Some(upstream) => Self::Upstream(upstream.replace(':', "_")),
        }
    }

    fn fits(&self, name: &RepositoryName, kind: Kind) -> bool {
        match self {
            Self::Any => true,
            Self::Local => kind == Kind::Local,
            Self::Mirror => kind == Kind::Mirror,
            Self::Upstream(upstream) => kind == Kind::Mirror && name.split_first().0 == upstream,
        }
    }
}

/// How long a page is to be.
pub(super) fn length(n: Option<u64>) -> usize {
    n.map_or(PAGE, |n| usize::try_from(n).unwrap_or(LONGEST).min(LONGEST))
}

/// What a list has in it.
pub(super) trait Entry {
    fn name(&self) -> &str;
    /// In bytes.
    fn size(&self) -> u64;
    fn used(&self) -> Option<LastUse>;

    /// What it is ordered by, the greatest first, where that is not its name.
    fn rank(&self, order: &ListOrder) -> u64 {
        match order {
            ListOrder::Name(_) => 0,
            ListOrder::Size(_) => self.size(),
            ListOrder::Used(_) => self.used().map_or(0, |used| used.age.0),
        }
    }
}

/// Whether a name is behind the place where a part begins, as far as names decide that.
pub(super) fn is_behind(name: &str, order: &ListOrder) -> bool {
    match order {
        ListOrder::Name(Some(last)) => name > last.as_str(),
        ListOrder::Name(None) | ListOrder::Size(_) | ListOrder::Used(_) => true,
    }
}

/// How many entries have to be looked at, in the order of their names, to make a part.
pub(super) fn looked_at(part: &ListPart) -> usize {
    match part.order {
        ListOrder::Name(_) => length(part.n) + 1,
        ListOrder::Size(_) | ListOrder::Used(_) => usize::MAX,
    }
}

/// Makes a part out of all that may be in it. Says whether there is more, and where that goes on.
pub(super) fn cut<E: Entry>(entries: &mut Vec<E>, part: &ListPart) -> (bool, Option<String>) {
    let order = &part.order;
    if let ListOrder::Size(last) | ListOrder::Used(last) = order {
        let is_behind = |entry: &E| {
            last.as_ref().is_none_or(|last| {
                let rank = entry.rank(order);
                (last.rank, entry.name()) > (rank, last.name.as_str())
            })
        };
        entries.retain(is_behind);
        entries.sort_by(|one, other| {
            let by_rank = other.rank(order).cmp(&one.rank(order));
            by_rank.then_with(|| one.name().cmp(other.name()))
        });
    }
    let more = entries.len() > length(part.n);
    entries.truncate(length(part.n));
    let next = entries.last().filter(|_| more).map(|last| {
        let name = last.name().to_owned();
        match order {
            ListOrder::Name(_) => name,
            ListOrder::Size(_) | ListOrder::Used(_) => {
                let rank = last.rank(order);
                ListPlace { rank, name }.to_string()
            }
        }
    });
    (more, next)
}

/// Where something came from: `local`, or the upstream's name.
pub(super) fn origin(name: &RepositoryName, kind: Kind) -> String {
    match kind {
        Kind::Local => "local".to_owned(),
        // A port's colon; no host has an underscore.
        Kind::Mirror => name.split_first().0.replace('_', ":"),
    }
}

/// A repository on a page.
struct Row {
    name: RepositoryName,
    kind: Kind,
    tags: usize,
    bytes: u64,
    used: Option<LastUse>,
}

impl Row {
    fn new((name, it): (&RepositoryName, &Indexed)) -> Self {
        Self {
            name: name.clone(),
            kind: it.kind,
            tags: it.tags.len(),
            bytes: it.bytes,
            used: None,
        }
    }
}

impl Entry for Row {
    fn name(&self) -> &str {
        self.name.as_str()
    }

    fn size(&self) -> u64 {
        self.bytes
    }

    fn used(&self) -> Option<LastUse> {
        self.used
    }
}

impl Console {
    /// A page of the repositories.
    pub async fn repositories(
        &self,
        search: Option<&str>,
        origin: Origin,
        part: ListPart,
        sees: Sees,
    ) -> Result<Value, Error> {
        let search = search.unwrap_or_default().to_ascii_lowercase();
        let wanted = part.clone();
        let found = self.0.registry.look(move |index| {
            let all = index.repositories().iter().filter(|(name, it)| {
                is_behind(name.as_str(), &wanted.order)
                    && origin.fits(name, it.kind)
                    && name.as_str().contains(&search)
                    && sees(name.as_str())
            });
            let rows: Vec<Row> = all.take(looked_at(&wanted)).map(Row::new).collect();
            rows
        });
        let mut rows = found.await?;
        // Only who orders by it needs to know it of all.
        let is_by_use = matches!(part.order, ListOrder::Used(_));
        if is_by_use {
            self.look_up_uses(&mut rows).await?;
        }
        let (more, next) = cut(&mut rows, &part);
        if !is_by_use {
            self.look_up_uses(&mut rows).await?;
        }
        let hides = self.0.registry.names();
        let rows = rows.iter().map(|row| {
            json!({
                "name": row.name.as_str(),
                "origin": self::origin(&row.name, row.kind),
                "tags": row.tags,
                "bytes": row.bytes,
                "used": time(row.used.map(|used| used.time)),
                "shadows": shadows(&hides, &row.name, row.kind),
            })
        });
        let rows: Vec<Value> = rows.collect();
        Ok(json!({ "repositories": rows, "more": more, "next": next }))
    }

    async fn look_up_uses(&self, rows: &mut [Row]) -> Result<(), Error> {
        let names = rows.iter().map(|row| row.name.clone()).collect();
        let used = self.0.registry.last_used(names).await?;
        for row in rows {
            row.used = used.get(&row.name).copied();
        }
        Ok(())
    }

    /// Images whose `repository:tag` has this in it.
    pub async fn search(&self, text: &str, n: Option<u64>, sees: Sees) -> Result<Value, Error> {
        /// How many are found where nobody says.
        const FOUND: usize = 50;
        let text = text.to_ascii_lowercase();
        let most = n.map_or(FOUND, |n| length(Some(n)));
        let found = self.0.registry.look(move |index| {
            let mut found = Vec::new();
            let mut line = String::new();
            for (name, it) in index.repositories() {
                if !sees(name.as_str()) {
                    continue;
                }
                for tag in it.tags.keys() {
                    line.clear();
                    line.push_str(name.as_str());
                    line.push(':');
                    line.push_str(tag.as_str());
                    line.make_ascii_lowercase();
                    if !line.contains(&text) {
                        continue;
                    }
                    if found.len() == most {
                        return (found, true);
                    }
                    found.push(json!({
                        "repository": name.as_str(),
                        "tag": tag.as_str(),
                        "origin": origin(name, it.kind),
                    }));
                }
            }
            (found, false)
        });
        let (found, more) = found.await?;
        Ok(json!({ "found": found, "more": more }))
    }
}

/// Whether daemons that use larder as their mirror get this instead of an upstream's repository.
fn shadows(names: &Names, name: &RepositoryName, kind: Kind) -> bool {
    kind == Kind::Local && !name.is_single() && names.shadowed_by(name).is_some()
}

/// How many tagged images each of these upstreams' mirrors have, and how many bytes.
pub(super) fn sizes(index: &Index, directories: &[String], sees: &Sees) -> Vec<(usize, u64)> {
    let size = |directory: &String| {
        let all: &BTreeMap<_, _> = index.repositories();
        let first = directory.parse::<RepositoryName>().ok();
        let from = first.map_or(Bound::Unbounded, Bound::Included);
        let inside = all.range((from, Bound::Unbounded));
        let inside = inside.take_while(|(name, _)| name.as_str().starts_with(directory.as_str()));
        let inside: Vec<_> = inside
            .filter(|(name, it)| {
                it.kind == Kind::Mirror && name.split_first().0 == directory && sees(name.as_str())
            })
            .collect();
        let images = inside.iter().map(|(_, it)| it.tags.len()).sum();
        (images, index.size_of(inside.iter().map(|(name, _)| *name)))
    };
    directories.iter().map(size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Sized(String, u64);

    impl Entry for Sized {
        fn name(&self) -> &str {
            &self.0
        }

        fn size(&self) -> u64 {
            self.1
        }

        fn used(&self) -> Option<LastUse> {
            None
        }
    }

    proptest! {
        #[test]
        fn the_parts_of_a_list_are_the_list(
            all in prop::collection::btree_map("[a-c/:0-9]{1,4}", 0u64..4, 0..30),
            n in 1u64..8,
        ) {
            let all: Vec<Sized> = all.into_iter().map(|(name, size)| Sized(name, size)).collect();
            let mut expected = all.clone();
            expected.sort_by_key(|it| (std::cmp::Reverse(it.1), it.0.clone()));
            let (mut got, mut last) = (Vec::new(), None);
            loop {
                let part = ListPart { n: Some(n), order: ListOrder::Size(last) };
                let mut entries = all.clone();
                let (more, next) = cut(&mut entries, &part);
                prop_assert_eq!(more, next.is_some());
                prop_assert!(entries.len() as u64 == n || !more);
                got.extend(entries);
                let Some(next) = next else { break };
                last = Some(next.parse::<ListPlace>().unwrap());
            }
            prop_assert_eq!(got, expected);
        }
    }
}
