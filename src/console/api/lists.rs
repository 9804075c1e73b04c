//! Lists: repositories, and images by a part of their names.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde_json::{Value, json};

use crate::oci::{Page, RepositoryName};
use crate::registry::{Error, Names};
use crate::store::{Index, Kind};

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
}

impl Console {
    /// A page of the repositories.
    pub async fn repositories(
        &self,
        search: Option<&str>,
        origin: Origin,
        page: &Page,
        sees: Sees,
    ) -> Result<Value, Error> {
        let registry = &self.0.registry;
        let (search, page) = (search.map(str::to_ascii_lowercase), page.clone());
        let found = registry.look(move |index| {
            let after = page.last.unwrap_or_default();
            let search = search.unwrap_or_default();
            let wanted = index.repositories().iter().filter(|(name, it)| {
                name.as_str() > after.as_str()
                    && origin.fits(name, it.kind)
                    && name.as_str().contains(&search)
                    && sees(name.as_str())
            });
            let row = |(name, it): (&RepositoryName, &crate::store::Indexed)| Row {
                name: name.clone(),
                kind: it.kind,
                tags: it.tags.len(),
                bytes: it.bytes,
            };
            let length = length(page.n);
            let mut rows: Vec<Row> = wanted.take(length + 1).map(row).collect();
            let more = rows.len() > length;
            rows.truncate(length);
            (rows, more)
        });
        let (rows, more) = found.await?;
        let names = rows.iter().map(|row| row.name.clone()).collect();
        let used = registry.last_used(names).await?;
        let hides = registry.names();
        let rows = rows.iter().map(|row| {
            json!({
                "name": row.name.as_str(),
                "origin": self::origin(&row.name, row.kind),
                "tags": row.tags,
                "bytes": row.bytes,
                "used": time(used.get(&row.name).copied()),
                "shadows": shadows(&hides, &row.name, row.kind),
            })
        });
        Ok(json!({ "repositories": rows.collect::<Vec<_>>(), "more": more }))
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
