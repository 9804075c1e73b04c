use super::super::journal::{Change, Event, What};
use super::*;
use crate::oci::{References, Tag};
use crate::store::Kind;
use std::time::Instant;

/// A digest for a word.
fn d(word: &str) -> Digest {
    Digest::of(word.as_bytes())
}

/// A picture as a sequence of pulls and pushes would make it; everything weighs 100 bytes.
#[derive(Default)]
struct Story(Picture);

impl Story {
    fn event(mut self, name: &str, kind: Kind, word: &str, what: What, at: u64) -> Self {
        let event = Event {
            repository: name.parse().unwrap(),
            kind,
            digest: d(word),
            what,
        };
        self.0.change(&Change::Linked(event), Age(at));
        self
    }

    fn layer(self, name: &str, word: &str, at: u64) -> Self {
        self.event(name, Kind::Mirror, word, What::Layer(100), at)
    }

    /// A manifest that came at a time, and names and is attached to these.
    fn manifest(self, name: &str, word: &str, named: &[&str], subject: &str, at: u64) -> Self {
        let references = References {
            named: named.iter().map(|word| d(word)).collect(),
            subject: (!subject.is_empty()).then(|| d(subject)),
        };
        let what = What::Manifest(100, references);
        self.event(name, Kind::Mirror, word, what, at)
    }

    /// An image with its layers.
    fn image(self, name: &str, word: &str, layers: &[&str], at: u64) -> Self {
        let story = self.manifest(name, word, layers, "", at);
        let each = layers.iter();
        each.fold(story, |story, layer| story.layer(name, layer, at))
    }

    fn tag(self, name: &str, tag: &str, word: &str) -> Self {
        let tag: Tag = tag.parse().unwrap();
        self.event(name, Kind::Mirror, word, What::Tag(tag), 0)
    }

    fn pushed(self, name: &str, word: &str) -> Self {
        self.event(name, Kind::Local, word, What::Layer(100), 0)
    }

    fn used(mut self, name: &str, word: &str, at: u64) -> Self {
        let change = Change::Used(name.parse().unwrap(), d(word), Age(at));
        self.0.change(&change, Age(at));
        self
    }

    fn choice(&self, demand: Demand, kept: &Kept) -> Choice {
        choose(&self.0, &spared(&self.0, kept), demand, usize::MAX)
    }

    /// What goes for so many bytes, as words; and how many come free.
    fn goes(&self, bytes: u64, kept: &Kept, words: &[&str]) -> (Vec<String>, u64) {
        let choice = self.choice(demand(bytes), kept);
        let word = |unit: &Unit| {
            let digest = self.0.digests.digest(unit.id).unwrap();
            let word = words.iter().find(|word| d(word) == digest);
            (*word.unwrap()).to_owned()
        };
        (choice.units.iter().map(word).collect(), choice.bytes)
    }
}

fn demand(bytes: u64) -> Demand {
    Demand {
        bytes,
        inodes: 0,
        unused_since: None,
        spare: Age(1000),
    }
}

const M: &str = "docker.io/library/m";
const N: &str = "ghcr.io/n";

fn three() -> Story {
    Story::default()
        .image(M, "a", &["a1", "a2"], 1)
        .image(M, "b", &["b1"], 2)
        .image(N, "c", &["c1"], 3)
}

#[test]
fn the_least_recently_used_image_goes_first_and_as_many_as_it_takes() {
    let none = Kept::default();
    let all = ["a", "b", "c"];
    assert_eq!(three().goes(1, &none, &all), (vec!["a".into()], 300));
    assert_eq!(three().goes(300, &none, &all), (vec!["a".into()], 300));
    let both = vec!["a".into(), "b".into()];
    assert_eq!(three().goes(301, &none, &all), (both, 500));
    assert_eq!(three().goes(9999, &none, &all).1, 700);
    assert_eq!(three().0.cached(), 700);
    // A pull of the manifest counts as use of all that it leads to.
    let used = three().used(M, "a", 4);
    assert_eq!(used.goes(1, &none, &all), (vec!["b".into()], 200));
}

#[test]
fn a_childs_pull_renews_its_index_whatever_came_first() {
    let none = Kept::default();
    let all = ["i", "x", "y", "z"];
    let child_first =
        Story::default()
            .image(M, "x", &["x1"], 1)
            .manifest(M, "i", &["x", "y"], "", 1);
    let index_first =
        Story::default()
            .manifest(M, "i", &["x", "y"], "", 1)
            .image(M, "x", &["x1"], 1);
    for story in [child_first, index_first] {
        let story = story.image(M, "z", &["z1"], 2);
        assert_eq!(story.goes(1, &none, &all), (vec!["i".into()], 300));
        let story = story.used(M, "x", 3);
        assert_eq!(story.goes(1, &none, &all), (vec!["z".into()], 200));
    }
}

#[test]
fn what_another_has_as_well_does_not_count_and_stays() {
    let none = Kept::default();
    let all = ["a", "b", "c"];
    // Another image of the same repository, another mirror, a local repository.
    let story = Story::default()
        .image(M, "a", &["s1", "s2", "s3", "a1"], 1)
        .image(M, "b", &["s1"], 2)
        .image(N, "c", &["s2"], 3)
        .pushed("team/app", "s3");
    assert_eq!(story.0.cached(), 600, "s3 is somebody's own");
    assert_eq!(story.goes(1, &none, &all), (vec!["a".into()], 200));
    let choice = story.choice(demand(201), &none);
    assert_eq!((choice.units.len(), choice.bytes), (2, 400));
    // With the last image the shared layer goes too.
    let choice = story.choice(demand(9999), &none);
    assert_eq!((choice.units.len(), choice.bytes), (3, 600));
    let freed: Vec<_> = choice
        .data
        .iter()
        .map(|id| story.0.digests.digest(*id).unwrap())
        .collect();
    assert!(freed.contains(&d("s1")) && freed.contains(&d("s2")) && !freed.contains(&d("s3")));
}

#[test]
fn an_image_that_gives_nothing_back_is_not_evicted_for_room() {
    let pushed = Story::default()
        .image(M, "a", &["a1"], 1)
        .pushed("team/app", "a")
        .pushed("team/app", "a1")
        .image(M, "b", &["b1"], 2);
    let (goes, bytes) = pushed.goes(9999, &Kept::default(), &["a", "b"]);
    assert_eq!((goes, bytes), (vec!["b".to_owned()], 200));
    // But when it has been unused for too long it is.
    let due = Demand {
        unused_since: Some(Age(2)),
        ..demand(0)
    };
    assert_eq!(pushed.choice(due, &Kept::default()).units.len(), 1);
}

#[test]
fn two_images_that_share_everything_go_together() {
    let story = Story::default()
        .image(M, "a", &["a1"], 1)
        .image(N, "a", &["a1"], 2);
    let (goes, bytes) = story.goes(1, &Kept::default(), &["a"]);
    assert_eq!((goes.len(), bytes), (2, 200));
}

#[test]
fn what_was_just_used_stays_and_what_was_unused_for_long_goes() {
    let at = |spare, since| Demand {
        spare: Age(spare),
        unused_since: since,
        ..demand(0)
    };
    let count = |demand| three().choice(demand, &Kept::default()).units.len();
    assert_eq!(count(at(1000, None)), 0);
    assert_eq!(count(at(1000, Some(Age(3)))), 2);
    assert_eq!(count(at(2, Some(Age(3)))), 1);
    let all = |spare| Demand {
        bytes: u64::MAX,
        ..at(spare, None)
    };
    assert_eq!(count(all(3)), 2);
    assert_eq!(count(all(0)), 0);
}

#[test]
fn pinned_and_held_images_stay_with_all_that_comes_with_them() {
    let all = ["i", "x", "y", "r", "z"];
    let story = Story::default()
        .image(M, "x", &["x1"], 1)
        .image(M, "y", &["y1"], 1)
        .manifest(M, "i", &["x", "y"], "", 1)
        .manifest(M, "r", &["r1"], "x", 1)
        .layer(M, "r1", 1)
        .image(M, "z", &["z1"], 2)
        .tag(M, "3.12", "i")
        .tag(M, "old", "z");
    let kept = |pin: &str| Kept {
        pins: vec![pin.parse().unwrap()],
        ..Kept::default()
    };
    let (goes, bytes) = story.goes(9999, &kept("m:3.*"), &all);
    assert_eq!((goes, bytes), (vec!["z".to_owned()], 200));
    let (goes, _) = story.goes(9999, &kept("ghcr.io/*"), &all);
    assert_eq!(goes.len(), 3);
    let (goes, _) = story.goes(9999, &kept("m"), &all);
    assert!(goes.is_empty());
    // A child alone: its index may go, and it stays.
    let held = Kept {
        held: vec![(M.parse().unwrap(), d("x"))],
        ..Kept::default()
    };
    let (_, bytes) = story.goes(9999, &held, &all);
    assert_eq!(bytes, 900 - 100 - 100 - 200, "x, x1, r and r1 stay");
}

#[test]
fn an_image_whose_layer_is_arriving_stays() {
    let kept = Kept {
        arriving: vec![(M.parse().unwrap(), d("a3"))],
        ..Kept::default()
    };
    let story = three().manifest(M, "d", &["a3"], "", 0);
    let all = ["a", "b", "c", "d", "e", "i", "j"];
    let (goes, _) = story.goes(9999, &kept, &all);
    assert_eq!(goes, ["a", "b", "c"]);
    // So does what it is a part of, with all that is part of that.
    let story = story
        .image(M, "e", &["e1"], 0)
        .manifest(M, "i", &["d", "e"], "", 0)
        .manifest(M, "j", &["i"], "", 0);
    let (goes, _) = story.goes(9999, &kept, &all);
    assert_eq!(goes, ["a", "b", "c"]);
}

#[test]
fn a_signature_was_used_when_what_it_signs_was() {
    let story = Story::default()
        .manifest(M, "s", &[], "a", 1)
        .manifest(M, "t", &[], "s", 1)
        .image(M, "a", &["a1"], 5)
        .image(M, "b", &["b1"], 3);
    let (goes, _) = story.goes(1, &Kept::default(), &["s", "t", "a", "b"]);
    assert_eq!(goes, ["b"]);
}

#[test]
fn layers_that_belong_to_no_image_go_by_themselves() {
    let story = three().layer(M, "o", 2).layer(M, "b1", 2);
    let (goes, bytes) = story.goes(9999, &Kept::default(), &["a", "b", "c", "o"]);
    assert_eq!((goes.len(), bytes), (4, 800));
    // Named by something that comes later, they are none any more.
    let story = story.manifest(M, "p", &["o"], "", 9);
    let (goes, _) = story.goes(9999, &Kept::default(), &["a", "b", "c", "p"]);
    assert_eq!(goes, ["a", "b", "c", "p"]);
}

#[test]
fn nothing_of_a_repository_in_doubt_goes_nor_of_one_that_became_local() {
    let mut story = three();
    story.0.repositories[0].is_doubtful = true;
    assert_eq!(story.goes(9999, &Kept::default(), &["c"]).0, ["c"]);
    assert_eq!(story.0.cached(), 700, "it takes up room all the same");
    let story = three().pushed(M, "mine");
    assert_eq!(story.goes(9999, &Kept::default(), &["c"]).0, ["c"]);
    assert_eq!(story.0.cached(), 200);
}

#[test]
fn inodes_are_made_free_like_bytes() {
    let inodes = Demand {
        inodes: 9,
        ..demand(0)
    };
    // Two for each link and for each data: an image with one layer has eight.
    let choice = three().choice(inodes, &Kept::default());
    assert_eq!((choice.units.len(), choice.inodes), (1, 12));
}

#[test]
fn forty_levels_of_indexes_that_share_their_children_take_no_time() {
    let mut story = Story::default().image(M, "0", &["l"], 1);
    for level in 1..=40_u32 {
        let child = (level - 1).to_string();
        story = story.manifest(M, &level.to_string(), &[&child, &child], "", 1);
    }
    let started = Instant::now();
    let choice = story.choice(demand(1), &Kept::default());
    assert_eq!((choice.units.len(), choice.bytes), (1, 4200));
    drop(story.used(M, "0", 9));
    assert!(started.elapsed().as_secs() < 1);
}

/// The figure that issue 4 asks for is 100 ms; tests are built without optimising, and run beside
/// others. What an optimised build needs for the whole size is in ADR 0018.
#[test]
fn a_hundred_thousand_images_with_a_million_layers_are_decided_on_at_once() {
    const IMAGES: u64 = if cfg!(debug_assertions) {
        10_000
    } else {
        100_000
    };
    let mut picture = Picture::default();
    let place = |picture: &mut Picture, at: u64| {
        let name: RepositoryName = format!("docker.io/team/app{}", at / 100).parse().unwrap();
        picture.place(name.clone().as_str(), Some(name))
    };
    for at in 0..IMAGES {
        let place = place(&mut picture, at);
        let mut named = Vec::new();
        for layer in 0..10_u64 {
            // Three of them are of the base that a hundred images share.
            let word = if layer < 3 { at / 100 } else { at } * 16 + layer;
            let id = picture.id(&digest_of(word));
            picture.set_data(id, 1000, 0);
            picture.add_layer(place, id, id, Age(at));
            named.push(id);
        }
        let id = picture.id(&digest_of(at * 16 + 15));
        picture.set_data(id, 100, 0);
        let revision = super::super::picture::Revision {
            target: id,
            used: Age(at * 7919 % IMAGES),
            subject: NONE,
            named: named.into(),
        };
        picture.insert_manifest(place, id, revision);
    }
    let total = picture.cached();
    for share in [1000, 20, 2] {
        let started = Instant::now();
        let kept = Kept {
            pins: vec!["team/app9*".parse().unwrap()],
            ..Kept::default()
        };
        let spared = spared(&picture, &kept);
        let demand = Demand {
            spare: Age(IMAGES),
            ..demand(total / share)
        };
        let choice = choose(&picture, &spared, demand, 1024);
        let took = started.elapsed();
        println!("1/{share}: {} images in {took:?}", choice.units.len());
        assert!(!choice.units.is_empty());
        assert!(took.as_millis() < 1000, "{took:?}");
    }
}

/// A digest that costs nothing to make.
fn digest_of(number: u64) -> Digest {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("sha256:{mixed:016x}{number:016x}{number:032x}")
        .parse()
        .unwrap()
}
