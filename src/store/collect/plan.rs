//! Deciding what of a repository is kept: pure, from what was found in it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use crate::oci::Digest;

use super::found::{Found, Link, Stamp};

/// What is kept beyond what is referred to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Manifests without a tag may go too.
    pub(super) untagged: bool,
    /// Only what was last touched before this may go; nothing where there is no such time.
    pub(super) before: Option<SystemTime>,
}

impl Rules {
    pub(super) fn new(untagged: bool, began: SystemTime, grace: Duration) -> Self {
        Self {
            untagged,
            before: began.checked_sub(grace),
        }
    }

    /// Whether something has been left alone for long enough. A time in the future means that the
    /// clock was set back: it says nothing about age.
    pub(super) fn is_old(&self, stamp: Stamp) -> bool {
        self.before.is_some_and(|before| stamp.modified < before)
    }
}

/// What is kept of one repository's manifests, and so of its layers.
#[derive(Debug)]
pub(super) struct Marking<'a> {
    found: &'a Found,
    rules: Rules,
    referrers: HashMap<&'a Digest, Vec<&'a Digest>>,
    kept: HashSet<&'a Digest>,
    order: Vec<&'a Digest>,
    doubts: Vec<&'a Digest>,
}

impl<'a> Marking<'a> {
    /// Marks everything that nobody may remove.
    pub(super) fn new(found: &'a Found, rules: Rules) -> Self {
        let mut referrers: HashMap<_, Vec<_>> = HashMap::new();
        for (digest, revision) in &found.revisions {
            let references = revision.references.as_ref();
            if let Some(subject) = references.and_then(|it| it.subject.as_ref()) {
                referrers.entry(subject).or_default().push(digest);
            }
        }
        let mut marking = Self {
            found,
            rules,
            referrers,
            kept: HashSet::new(),
            order: Vec::new(),
            doubts: Vec::new(),
        };
        let tagged: BTreeSet<_> = found.tags.values().flatten().collect();
        let all = !rules.untagged || found.tags.values().any(Option::is_none);
        for (digest, revision) in &found.revisions {
            if all || tagged.contains(digest) || !rules.is_old(revision.link.seen) {
                marking.keep(digest);
            }
        }
        marking
    }

    /// Keeps a manifest, with everything that comes with it.
    ///
    /// Each manifest is visited once, however many indexes share it.
    pub(super) fn keep(&mut self, digest: &Digest) {
        let mut waiting: Vec<&'a Digest> = Vec::new();
        waiting.extend(self.found.revisions.get_key_value(digest).map(|it| it.0));
        while let Some(digest) = waiting.pop() {
            let Some(revision) = self.found.revisions.get(digest) else {
                continue;
            };
            if !self.kept.insert(digest) {
                continue;
            }
            self.order.push(digest);
            if let Some(references) = &revision.references {
                waiting.extend(&references.named);
            } else {
                // It may need any of them.
                self.doubts.push(digest);
                waiting.extend(self.found.revisions.keys());
            }
            let known_by = [digest, &revision.link.target];
            let attached = known_by.iter().filter_map(|name| self.referrers.get(name));
            waiting.extend(attached.flatten().copied());
        }
    }

    /// Whether a manifest is kept.
    pub(super) fn keeps(&self, digest: &Digest) -> bool {
        self.kept.contains(digest)
    }

    /// The manifests that are kept, in the order in which they were found to be, each with the
    /// data it is in and everything that it names.
    pub(super) fn kept(&self) -> impl Iterator<Item = (&'a Digest, &'a Digest, &'a [Digest])> {
        self.order.iter().filter_map(|digest| {
            let revision = self.found.revisions.get(*digest)?;
            let references = revision.references.as_ref();
            let named = references.map_or(&[][..], |references| &references.named);
            Some((*digest, &revision.link.target, named))
        })
    }

    /// The manifests that are kept although nobody knows what they need. Nothing of their
    /// repository goes.
    pub(super) fn doubts(&self) -> &[&'a Digest] {
        &self.doubts
    }

    /// The manifests that may go, each before those it names or is named by as their subject:
    /// while one is there, what it needs is there.
    pub(super) fn condemned(&self) -> Vec<(&'a Digest, &'a Link)> {
        let mut ordered = Vec::new();
        let mut seen: HashSet<&Digest> = self.kept.clone();
        for digest in self.found.revisions.keys() {
            // A walk in depth, without the stack that a chain of thousands would need.
            let mut waiting = vec![(digest, false)];
            while let Some((digest, is_left)) = waiting.pop() {
                let Some((digest, revision)) = self.found.revisions.get_key_value(digest) else {
                    continue;
                };
                if is_left {
                    ordered.push((digest, &revision.link));
                } else if seen.insert(digest) {
                    waiting.push((digest, true));
                    let references = revision.references.as_ref();
                    let named = references.map_or(&[][..], |references| &references.named);
                    waiting.extend(named.iter().map(|named| (named, false)));
                    let attached = self.referrers.get(digest).into_iter().flatten();
                    waiting.extend(attached.map(|referrer| (*referrer, false)));
                }
            }
        }
        ordered.reverse();
        ordered
    }

    /// The layer links that may go, and those that stay.
    pub(super) fn layers(&self) -> Layers<'a> {
        let mut needed: HashSet<&Digest> = HashSet::new();
        for (digest, target, named) in self.kept() {
            needed.extend([digest, target]);
            needed.extend(named);
        }
        // What an alias that is kept leads to is also kept under its own name.
        let aliases = self.found.layers.iter();
        let aliases = aliases.filter(|(digest, _)| needed.contains(digest));
        let targets: Vec<_> = aliases.map(|(_, link)| &link.target).collect();
        needed.extend(targets);
        let in_doubt = !self.doubts.is_empty();
        let (kept, condemned) = self.found.layers.iter().partition(|(digest, link)| {
            in_doubt
                || needed.contains(digest)
                || needed.contains(&link.target)
                || !self.rules.is_old(link.seen)
        });
        Layers { kept, condemned }
    }
}

/// A repository's layer links.
#[derive(Debug)]
pub(super) struct Layers<'a> {
    pub(super) kept: Vec<(&'a Digest, &'a Link)>,
    pub(super) condemned: Vec<(&'a Digest, &'a Link)>,
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
