use super::super::found::Revision;
use super::*;
use crate::oci::References;
use std::collections::BTreeMap;
use std::time::Instant;

const HOUR: Duration = Duration::from_hours(1);

fn began() -> SystemTime {
    SystemTime::UNIX_EPOCH + HOUR * 9000
}

/// The digest that a test calls by a word.
fn d(word: &str) -> Digest {
    Digest::of(word.as_bytes())
}

/// A repository in words. Everything in it is a day old.
#[derive(Default)]
struct Story(Found);

impl Story {
    fn manifest(mut self, word: &str, named: &[&str], subject: Option<&str>) -> Self {
        let references = References {
            named: named.iter().map(|word| d(word)).collect(),
            subject: subject.map(d),
        };
        let link = link(&d(word), HOUR * 24);
        let references = Some(references);
        self.0
            .revisions
            .insert(d(word), Revision { link, references });
        self
    }

    fn image(self, word: &str, layers: &[&str]) -> Self {
        layers
            .iter()
            .fold(self.manifest(word, layers, None), |story, layer| {
                story.layer(layer, HOUR * 24)
            })
    }

    fn layer(mut self, word: &str, age: Duration) -> Self {
        self.0.layers.insert(d(word), link(&d(word), age));
        self
    }

    fn alias(mut self, word: &str, target: &str) -> Self {
        self.0.layers.insert(d(word), link(&d(target), HOUR * 24));
        self
    }

    fn tag(mut self, tag: &str, word: &str) -> Self {
        self.0.tags.insert(tag.to_owned(), Some(d(word)));
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Found)) -> Self {
        change(&mut self.0);
        self
    }

    /// Which manifests and layers go, in words.
    fn goes(&self, untagged: bool, grace: Duration) -> (Vec<&'static str>, Vec<&'static str>) {
        let marking = Marking::new(&self.0, Rules::new(untagged, began(), grace));
        let words = |digests: Vec<(&Digest, &Link)>| {
            let mut words: Vec<_> = digests
                .into_iter()
                .map(|(digest, _)| *WORDS.iter().find(|word| d(word) == *digest).unwrap())
                .collect();
            words.sort_unstable();
            words
        };
        let condemned = words(marking.condemned());
        (condemned, words(marking.layers().condemned))
    }
}

const WORDS: [&str; 20] = [
    "a", "b", "c", "i", "ii", "l1", "l2", "l3", "m1", "m2", "m3", "r1", "r2", "r3", "s512", "s256",
    "x", "y", "z", "art",
];

fn link(target: &Digest, age: Duration) -> Link {
    Link {
        target: target.clone(),
        seen: Stamp {
            inode: 1,
            modified: began() - age,
        },
    }
}

#[test]
fn a_layer_goes_when_no_manifest_of_its_repository_names_it() {
    let story = Story::default()
        .image("m1", &["l1", "l2"])
        .image("m2", &["l2"])
        .layer("l3", HOUR * 24)
        .tag("v1", "m1");
    assert_eq!(story.goes(false, HOUR), (vec![], vec!["l3"]));
    // What is shared stays, what only the untagged one had goes with it.
    let retagged = story.tag("v1", "m2");
    assert_eq!(retagged.goes(true, HOUR), (vec!["m1"], vec!["l1", "l3"]));
}

#[test]
fn the_children_of_a_tagged_index_stay_and_so_do_theirs() {
    let story = Story::default()
        .image("a", &["l1"])
        .image("b", &["l2"])
        .manifest("i", &["a"], None)
        .manifest("ii", &["i", "b"], None)
        .image("x", &["l3"])
        .tag("v1", "ii");
    assert_eq!(story.goes(true, HOUR), (vec!["x"], vec!["l3"]));
    let untagged = story.with(|found| found.tags.clear());
    let (manifests, layers) = untagged.goes(true, HOUR);
    assert_eq!(manifests, ["a", "b", "i", "ii", "x"]);
    assert_eq!(layers, ["l1", "l2", "l3"]);
}

#[test]
fn what_is_attached_to_something_kept_stays_in_any_number_of_steps() {
    let story = Story::default()
        .image("m1", &["l1"])
        .manifest("r1", &["x"], Some("m1"))
        .layer("x", HOUR * 24)
        .manifest("r2", &["y"], Some("r1"))
        .layer("y", HOUR * 24)
        // Its subject was never here.
        .manifest("r3", &["z"], Some("c"))
        .layer("z", HOUR * 24)
        .tag("v1", "m1");
    assert_eq!(story.goes(true, HOUR), (vec!["r3"], vec!["z"]));
    assert_eq!(story.goes(false, HOUR), (vec![], vec![]));
    let untagged = story.with(|found| found.tags.clear());
    assert_eq!(untagged.goes(true, HOUR).0, ["m1", "r1", "r2", "r3"]);
    // A tagged referrer does not need its subject.
    let signature = untagged.tag("sig", "r2");
    assert_eq!(
        signature.goes(true, HOUR),
        (vec!["m1", "r1", "r3"], vec!["l1", "x", "z"])
    );
}

#[test]
fn an_alias_that_is_needed_keeps_what_it_leads_to() {
    let story = Story::default()
        .manifest("m1", &["s512"], None)
        .alias("s512", "s256")
        .alias("s256", "s256")
        .alias("l1", "l2");
    assert_eq!(story.goes(false, HOUR), (vec![], vec!["l1"]));
    // Named by what it leads to.
    let story = Story::default()
        .manifest("m1", &["s256"], None)
        .alias("s512", "s256");
    assert_eq!(story.goes(false, HOUR), (vec![], vec![]));
    // A manifest under two names.
    let story = Story::default()
        .manifest("m1", &["l1"], None)
        .layer("l1", HOUR * 24)
        .manifest("r1", &[], Some("m2"))
        .with(|found| found.revisions.get_mut(&d("m1")).unwrap().link.target = d("m2"))
        .tag("v1", "m1");
    assert_eq!(story.goes(true, HOUR), (vec![], vec![]));
}

#[test]
fn doubt_keeps_everything() {
    let unreadable = |story: Story| {
        story.with(|found| found.revisions.get_mut(&d("m1")).unwrap().references = None)
    };
    let story = || {
        Story::default()
            .image("m1", &["l1"])
            .image("m2", &["l2"])
            .layer("l3", HOUR * 24)
            .tag("v1", "m1")
    };
    assert_eq!(story().goes(true, HOUR).0, ["m2"]);
    for untagged in [false, true] {
        assert_eq!(unreadable(story()).goes(untagged, HOUR), (vec![], vec![]));
    }
    // One that goes anyway is none.
    let other = unreadable(story()).tag("v1", "m2");
    assert_eq!(other.goes(true, HOUR), (vec!["m1"], vec!["l1", "l3"]));
    // A tag that cannot be read may name any manifest.
    let tag = story().with(|found| drop(found.tags.insert("v2".into(), None)));
    assert_eq!(tag.goes(true, HOUR), (vec![], vec!["l3"]));
}

#[test]
fn a_type_that_nobody_knows_keeps_what_it_names() {
    let story = Story::default().image("art", &["x"]).layer("y", HOUR * 24);
    assert_eq!(story.goes(false, HOUR), (vec![], vec!["y"]));
}

#[test]
fn only_what_is_older_than_the_grace_period_goes() {
    let tick = Duration::from_nanos(1);
    let just_under = HOUR.saturating_sub(tick);
    for (age, goes) in [(just_under, false), (HOUR, false), (HOUR + tick, true)] {
        let story = Story::default().layer("l1", age);
        assert_eq!(
            story.goes(false, HOUR).1.len(),
            usize::from(goes),
            "{age:?}"
        );
        let story = Story::default().image("m1", &["l2"]).with(|found| {
            found.revisions.get_mut(&d("m1")).unwrap().link = link(&d("m1"), age);
        });
        assert_eq!(story.goes(true, HOUR).0.len(), usize::from(goes), "{age:?}");
        // One that is young keeps what it names, however old that is.
        assert_eq!(story.goes(true, HOUR).1.len(), usize::from(goes), "{age:?}");
    }
    // Without grace: what was touched before the collection began.
    let touched = |age| {
        Story::default()
            .layer("l1", age)
            .goes(false, Duration::ZERO)
    };
    assert_eq!(touched(Duration::ZERO).1.len(), 0);
    assert_eq!(touched(tick).1.len(), 1);
}

#[test]
fn a_clock_that_was_set_back_makes_nothing_old() {
    let rules = Rules::new(false, began(), Duration::ZERO);
    let modified = began() + HOUR * 9000;
    assert!(!rules.is_old(Stamp { inode: 1, modified }));
    let rules = Rules::new(false, began(), Duration::MAX);
    let modified = SystemTime::UNIX_EPOCH;
    assert!(!rules.is_old(Stamp { inode: 1, modified }));
}

#[test]
fn each_manifest_goes_before_those_it_names() {
    let story = Story::default()
        .image("a", &["l1"])
        .manifest("b", &["a"], None)
        .manifest("c", &["a", "b"], None)
        .manifest("r1", &[], Some("c"));
    let marking = Marking::new(&story.0, Rules::new(true, began(), HOUR));
    let order: Vec<_> = marking.condemned().into_iter().map(|it| it.0).collect();
    let at = |word: &str| order.iter().position(|digest| **digest == d(word)).unwrap();
    assert!(at("c") < at("b") && at("b") < at("a") && at("c") < at("r1"));
}

#[test]
fn what_somebody_came_back_to_is_kept_with_all_that_comes_with_it() {
    let story = Story::default()
        .image("a", &["l1"])
        .manifest("i", &["a"], None)
        .manifest("r1", &["x"], Some("a"))
        .layer("x", HOUR * 24)
        .image("m1", &["l2"]);
    let mut marking = Marking::new(&story.0, Rules::new(true, began(), HOUR));
    marking.keep(&d("i"));
    assert!(["i", "a", "r1"].iter().all(|word| marking.keeps(&d(word))));
    let gone: BTreeMap<_, _> = marking.layers().condemned.into_iter().collect();
    assert_eq!(gone.into_keys().collect::<Vec<_>>(), [&d("l2")]);
}

/// zot walked each path through such an index: 2^40 of them (its commit 120c2005).
#[test]
fn forty_levels_of_indexes_that_share_their_children_take_no_time() {
    for (untagged, tagged) in [(false, false), (true, true), (true, false)] {
        let mut story = Story::default().image("0", &["l1"]);
        for level in 1..=40_u32 {
            let child = (level - 1).to_string();
            story = story.manifest(&level.to_string(), &[&child, &child], None);
        }
        if tagged {
            story = story.tag("v1", "40");
        }
        let started = Instant::now();
        let marking = Marking::new(&story.0, Rules::new(untagged, began(), HOUR));
        let (kept, goes) = (marking.kept().count(), marking.condemned().len());
        assert!(started.elapsed() < Duration::from_secs(1));
        let expected = if untagged && !tagged {
            (0, 41)
        } else {
            (41, 0)
        };
        assert_eq!((kept, goes), expected);
    }
}
