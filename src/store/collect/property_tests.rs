//! Made-up repositories: what a naive reading of the rules keeps is kept, and nothing else.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// A repository that a test made up: manifests name blobs, or manifests before them.
#[derive(Clone, Debug)]
struct Made {
    manifests: Vec<MadeManifest>,
    /// Which of the blobs are linked, and whether only just.
    layers: Vec<Option<bool>>,
}

#[derive(Clone, Debug)]
struct MadeManifest {
    is_index: bool,
    names: Vec<usize>,
    subject: Option<usize>,
    is_tagged: bool,
    is_young: bool,
}

const BLOBS: usize = 6;

fn made() -> impl Strategy<Value = Made> {
    let manifest = (
        any::<bool>(),
        prop::collection::vec(0..BLOBS, 1..4),
        prop::option::weighted(0.4, 0..8_usize),
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.1),
    )
        .prop_map(
            |(is_index, names, subject, is_tagged, is_young)| MadeManifest {
                is_index,
                names,
                subject,
                is_tagged,
                is_young,
            },
        );
    let layers = prop::collection::vec(prop::option::of(prop::bool::weighted(0.1)), BLOBS);
    (prop::collection::vec(manifest, 0..8), layers)
        .prop_map(|(manifests, layers)| Made { manifests, layers })
}

fn blob(at: usize) -> Digest {
    Digest::of(format!("blob {at}").as_bytes())
}

impl Made {
    /// Each manifest's digest, with what it names.
    fn build(&self, repository: &Repository) -> Vec<(Digest, Vec<Digest>)> {
        for at in (0..BLOBS).filter(|at| self.layers[*at].is_some()) {
            add_blob(repository, &format!("blob {at}"));
        }
        let mut built: Vec<(Digest, Vec<Digest>)> = Vec::new();
        for (at, made) in self.manifests.iter().enumerate() {
            let child = |name: &usize| built.get(*name).map(|built| built.0.clone());
            let named: Vec<Digest> = if made.is_index {
                made.names.iter().filter_map(child).collect()
            } else {
                made.names.iter().map(|name| blob(*name)).collect()
            };
            // One that comes later is one that is missing.
            let missing = || Digest::of(b"missing");
            let subject = made.subject.map(|it| child(&it).unwrap_or_else(missing));
            let kind = if made.is_index { "manifests" } else { "layers" };
            let note = format!("{} {at}", repository.name());
            let json = json(kind, &named, subject.as_ref(), &note);
            let digest = Digest::of(json.as_bytes());
            let media_type = MediaType::known(media::OCI_MANIFEST);
            let bytes = json.as_bytes();
            repository
                .put_manifest(&digest, &media_type, bytes)
                .unwrap();
            if made.is_tagged {
                let tag = format!("t{at}").parse().unwrap();
                repository.put_tag(&tag, &digest).unwrap();
            }
            built.push((digest, named));
        }
        built
    }

    /// Which manifests are to stay: nothing is added any more.
    fn stay(&self, untagged: bool) -> Vec<bool> {
        let roots = self.manifests.iter();
        let mut stay: Vec<bool> = roots
            .map(|it| !untagged || it.is_tagged || it.is_young)
            .collect();
        loop {
            let before = stay.clone();
            for (at, made) in self.manifests.iter().enumerate() {
                let subject = made.subject.filter(|it| *it < at);
                stay[at] |= subject.is_some_and(|it| stay[it]);
                if stay[at] && made.is_index {
                    for child in made.names.iter().filter(|child| **child < at) {
                        stay[*child] = true;
                    }
                }
            }
            if stay == before {
                return stay;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_is_needed_is_kept_whole_and_nothing_else_is(
        repositories in prop::collection::vec(made(), 1..3),
        untagged in any::<bool>(),
    ) {
        let (root, store) = store();
        let local = |at: usize| store.local(&format!("team/r{at}").parse().unwrap());
        let built: Vec<_> = repositories
            .iter()
            .enumerate()
            .map(|(at, made)| made.build(&local(at)))
            .collect();
        age(root.path());
        for (at, made) in repositories.iter().enumerate() {
            for (nth, _) in made.manifests.iter().enumerate().filter(|it| it.1.is_young) {
                let name = local(at).name().clone();
                set_age(&store.layout().revision_link(&name, &built[at][nth].0), HOUR / 2);
            }
            for nth in (0..BLOBS).filter(|nth| made.layers[*nth] == Some(true)) {
                let name = local(at).name().clone();
                set_age(&store.layout().layer_link(&name, &blob(nth)), HOUR / 2);
            }
        }
        let collection = Collection { untagged, grace: HOUR, dry_run: true };
        let foretold = store.collect(collection, &|| false, &mut |_| ()).unwrap();
        let collection = Collection { dry_run: false, ..collection };
        let collected = store.collect(collection, &|| false, &mut |_| ()).unwrap();
        prop_assert_eq!(foretold, collected);
        let mut data: BTreeSet<Digest> = BTreeSet::new();
        for (at, made) in repositories.iter().enumerate() {
            let repository = local(at);
            let stay = made.stay(untagged);
            let mut needed: BTreeSet<Digest> = BTreeSet::new();
            for ((digest, named), stays) in built[at].iter().zip(&stay) {
                let link = store.layout().revision_link(repository.name(), digest);
                prop_assert_eq!(link.exists(), *stays);
                if *stays {
                    data.insert(digest.clone());
                    needed.extend(named.iter().cloned());
                }
            }
            for nth in 0..BLOBS {
                let young = made.layers[nth];
                let stays = young == Some(true) || young.is_some() && needed.contains(&blob(nth));
                let link = store.layout().layer_link(repository.name(), &blob(nth));
                prop_assert_eq!(link.exists(), stays, "blob {} of {}", nth, at);
                if stays {
                    data.insert(blob(nth));
                }
            }
            data.extend(needed);
        }
        let all = built.iter().flatten().map(|it| it.0.clone()).chain((0..BLOBS).map(blob));
        for digest in all {
            let linked = repositories.iter().any(|made| {
                (0..BLOBS).any(|nth| blob(nth) == digest && made.layers[nth].is_some())
            }) || built.iter().flatten().any(|it| it.0 == digest);
            let stays = linked && data.contains(&digest);
            prop_assert_eq!(store.has_data(&digest).unwrap(), stays, "{}", digest);
        }
        // There is nothing left to do.
        let again = store.collect(collection, &|| false, &mut |_| ()).unwrap();
        prop_assert_eq!(again, Collected::default());
    }
}
