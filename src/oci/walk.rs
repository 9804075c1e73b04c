//! Which parts of an image somebody needs who runs it on certain platforms.
//!
//! Nothing is read here: a [`Walk`] says what it has to see next, and whoever has it (the store, an
//! upstream, a bundle) shows it. So fetching an image, carrying it and checking that it is there
//! agree on what the image is.

use std::collections::{HashSet, VecDeque};

use super::contents::{Child, Contents, Part};
use super::digest::Digest;
use super::manifest::ManifestError;
use super::platform::{Platform, PlatformName};

/// How deep indexes may lie in each other. One is usual, two are rare.
const DEEPEST: usize = 4;

/// How many manifests an image may have. An index lists some twenty.
const MOST: usize = 2000;

/// The largest config that is looked into for its platform, in bytes.
pub const MAX_CONFIG: u64 = 4 << 20;

/// An image on its way from its digest to all its parts.
#[derive(Debug)]
pub struct Walk {
    platforms: Vec<Platform>,
    /// Which of them there is something for.
    met: Vec<bool>,
    todo: VecDeque<Ask>,
    seen: HashSet<(Digest, Option<PlatformName>)>,
    found: Anatomy,
}

/// Something that must be seen before it is clear what else is needed.
#[derive(Clone, Debug)]
pub struct Ask {
    /// A manifest, or a config of at most [`MAX_CONFIG`] bytes.
    pub role: Role,
    /// Which.
    pub part: Part,
    platform: Option<PlatformName>,
    depth: usize,
    /// Whose config it is.
    image: Option<Image>,
}

/// An image, or an artifact, that may be needed.
#[derive(Clone, Debug)]
struct Image {
    manifest: Part,
    config: Option<Part>,
    layers: Vec<Part>,
    /// No index lists it.
    is_top: bool,
}

/// What a part is in its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// An index.
    Index,
    /// A manifest that is none.
    Manifest,
    /// An image's config.
    Config,
    /// A layer, or whatever an artifact has in their place.
    Layer,
}

/// One part of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePart {
    /// What it is for.
    pub role: Role,
    /// What it is. The size of a manifest that was not seen may be unknown: zero.
    pub part: Part,
    /// What it runs on, if anybody says so. A part that several platforms share comes once for
    /// each.
    pub platform: Option<PlatformName>,
}

/// What an image consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anatomy {
    /// The parts that are needed: manifests before what they name.
    pub parts: Vec<ImagePart>,
    /// What the image comes for, as far as that was said, wanted or not. In the image's order.
    pub listed: Vec<PlatformName>,
    /// The platforms asked for that it does not come for.
    pub unlisted: Vec<Platform>,
    /// An image without an index is what everybody gets, whatever was asked for: what it runs on,
    /// where that is none of the platforms.
    pub other: Option<PlatformName>,
    /// The first manifest that could not be understood; its parts are not among these.
    pub fault: Option<WalkError>,
}

/// Why it cannot be said what an image consists of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    /// Something in a manifest's place is none.
    #[error("{0} is no manifest: {1}")]
    Manifest(Digest, ManifestError),
    /// Nobody builds such images; somebody may make them to be looked at for ever.
    #[error("its indexes lie too deep in each other, or list too much")]
    TooLarge,
}

impl Walk {
    /// Begins with the digest of an index or a manifest. No platforms: all that there are, and
    /// what else an index lists, as attestations.
    pub fn new(platforms: &[Platform], top: Digest) -> Self {
        let part = Part {
            digest: top,
            size: 0,
        };
        let mut walk = Self {
            platforms: platforms.to_vec(),
            met: vec![false; platforms.len()],
            todo: VecDeque::new(),
            seen: HashSet::new(),
            found: Anatomy::default(),
        };
        walk.ask_for_manifest(part, None, 0);
        walk
    }

    /// What has to be seen next; `None` when all is known.
    pub fn ask(&mut self) -> Option<Ask> {
        self.todo.pop_front()
    }

    /// Takes note of what was asked for. `None` where it cannot be had: the image then is what the
    /// rest says it is.
    pub fn found(&mut self, ask: Ask, bytes: Option<&[u8]>) {
        match (ask.image, bytes) {
            (Some(image), Some(bytes)) => {
                self.decide(image, PlatformName::of_config(bytes).as_ref());
            }
            // Whether it is wanted cannot be said: it had better be there.
            (Some(image), None) => self.take(image, None),
            (None, None) => self.add(Role::Manifest, ask.part, ask.platform),
            (None, Some(bytes)) => self.open(ask.part.digest, ask.platform, ask.depth, bytes),
        }
    }

    /// The end, when there is nothing more to see.
    pub fn finish(self) -> Anatomy {
        let mut anatomy = self.found;
        let unmet = self.platforms.into_iter().zip(self.met);
        if anatomy.other.is_none() && anatomy.fault.is_none() {
            anatomy.unlisted = unmet
                .filter_map(|(platform, met)| (!met).then_some(platform))
                .collect();
        }
        anatomy
    }

    fn open(&mut self, digest: Digest, platform: Option<PlatformName>, depth: usize, bytes: &[u8]) {
        let size = bytes.len() as u64;
        let (config, layers) = match Contents::of(bytes) {
            Ok(Contents::Image { config, layers }) => (config, layers),
            Ok(Contents::Index(children)) => {
                self.add(Role::Index, Part { digest, size }, platform);
                for child in children {
                    self.choose(child, depth + 1);
                }
                return;
            }
            Err(error) => {
                let fault = WalkError::Manifest(digest, error);
                self.found.fault.get_or_insert(fault);
                return;
            }
        };
        let telling = config.clone().filter(|config| config.size <= MAX_CONFIG);
        let image = Image {
            manifest: Part { digest, size },
            config,
            layers,
            is_top: depth == 0,
        };
        match (platform, telling) {
            (Some(platform), _) => self.take(image, Some(&platform)),
            (None, Some(part)) => self.todo.push_front(Ask {
                role: Role::Config,
                part,
                platform: None,
                depth,
                image: Some(image),
            }),
            (None, None) => self.decide(image, None),
        }
    }

    /// Whether a child of an index is wanted.
    fn choose(&mut self, child: Child, depth: usize) {
        let platform = child.platform.filter(PlatformName::is_known);
        let is_attestation = platform.as_ref().is_some_and(PlatformName::is_unknown);
        if let Some(platform) = platform.as_ref().filter(|_| !is_attestation) {
            self.list(platform);
            if !self.is_wanted(platform) {
                return;
            }
        } else if is_attestation && !self.platforms.is_empty() {
            return;
        }
        self.ask_for_manifest(child.part, platform, depth);
    }

    /// An image whose index does not say what it runs on; its config says it, or nobody does.
    fn decide(&mut self, image: Image, platform: Option<&PlatformName>) {
        let wanted = match platform {
            Some(platform) => {
                self.list(platform);
                self.is_wanted(platform)
            }
            None => self.platforms.is_empty(),
        };
        if !wanted && image.is_top {
            self.found.other = platform.cloned();
        }
        if wanted || image.is_top {
            self.take(image, platform);
        }
    }

    fn take(&mut self, image: Image, platform: Option<&PlatformName>) {
        // It is for everybody.
        if image.is_top && platform.is_none() {
            self.met.fill(true);
        }
        self.add(Role::Manifest, image.manifest, platform.cloned());
        if let Some(config) = image.config {
            self.add(Role::Config, config, platform.cloned());
        }
        for layer in image.layers {
            self.add(Role::Layer, layer, platform.cloned());
        }
    }

    /// Whether something for a platform is wanted; then there is something for it.
    fn is_wanted(&mut self, platform: &PlatformName) -> bool {
        let mut wanted = self.platforms.is_empty();
        for (asked, met) in self.platforms.iter().zip(&mut self.met) {
            let fits = asked.fits(platform);
            *met |= fits;
            wanted |= fits;
        }
        wanted
    }

    fn list(&mut self, platform: &PlatformName) {
        if !self.found.listed.contains(platform) {
            self.found.listed.push(platform.clone());
        }
    }

    fn ask_for_manifest(&mut self, part: Part, platform: Option<PlatformName>, depth: usize) {
        if !self.seen.insert((part.digest.clone(), platform.clone())) {
            return;
        }
        if depth > DEEPEST || self.seen.len() > MOST {
            self.found.fault.get_or_insert(WalkError::TooLarge);
            return;
        }
        self.todo.push_back(Ask {
            role: Role::Manifest,
            part,
            platform,
            depth,
            image: None,
        });
    }

    fn add(&mut self, role: Role, part: Part, platform: Option<PlatformName>) {
        self.found.parts.push(ImagePart {
            role,
            part,
            platform,
        });
    }
}

impl Anatomy {
    /// The configs and layers, each once.
    pub fn blobs(&self) -> Vec<ImagePart> {
        let mut seen = HashSet::new();
        let is_blob = |part: &&ImagePart| matches!(part.role, Role::Config | Role::Layer);
        let blobs = self.parts.iter().filter(is_blob);
        blobs
            .filter(|part| seen.insert(part.part.digest.clone()))
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::collections::HashMap;

    /// Manifests and configs by their digests.
    #[derive(Default)]
    struct Shelf(HashMap<Digest, Vec<u8>>);

    impl Shelf {
        fn put(&mut self, value: &Value) -> Digest {
            let bytes = value.to_string().into_bytes();
            let digest = Digest::of(&bytes);
            self.0.insert(digest.clone(), bytes);
            digest
        }

        /// An image of one layer that is named after `layer`.
        fn image(&mut self, config: &Value, layer: &str) -> Digest {
            let size = config.to_string().len();
            let config = self.put(config);
            let layer = Digest::of(layer.as_bytes());
            self.put(&json!({
                "config": { "digest": config.as_str(), "size": size },
                "layers": [{ "digest": layer.as_str(), "size": 5 }],
            }))
        }

        fn index(&mut self, children: &[(&Digest, Option<&str>)]) -> Digest {
            let children = children.iter().map(|(digest, platform)| {
                let mut child = json!({ "digest": digest.as_str(), "size": 1 });
                if let Some(platform) = platform {
                    let mut parts = platform.split('/');
                    let mut part = || parts.next();
                    child["platform"] = json!({ "os": part(), "architecture": part() });
                }
                child
            });
            let children: Vec<_> = children.collect();
            self.put(&json!({ "manifests": children }))
        }

        fn walk(&self, top: &Digest, platforms: &[&str]) -> Anatomy {
            let platforms: Vec<Platform> =
                platforms.iter().map(|text| text.parse().unwrap()).collect();
            let mut walk = Walk::new(&platforms, top.clone());
            while let Some(ask) = walk.ask() {
                let bytes = self.0.get(&ask.part.digest);
                walk.found(ask, bytes.map(Vec::as_slice));
            }
            walk.finish()
        }
    }

    fn config(architecture: &str) -> Value {
        json!({ "os": "linux", "architecture": architecture })
    }

    /// The layers by the names they were made of, out of these.
    fn layers(anatomy: &Anatomy, names: &[&'static str]) -> Vec<&'static str> {
        let is_in = |name: &&&str| {
            let digest = Digest::of(name.as_bytes());
            let blobs = anatomy.blobs();
            blobs.iter().any(|part| part.part.digest == digest)
        };
        names.iter().filter(is_in).copied().collect()
    }

    const NAMES: [&str; 4] = ["amd", "arm", "proof", "bare"];

    #[test]
    fn of_an_index_those_parts_are_needed_that_fit() {
        let mut shelf = Shelf::default();
        let amd = shelf.image(&config("amd64"), "amd");
        let arm = shelf.image(&config("arm64"), "arm");
        let proof = shelf.image(&json!({}), "proof");
        let bare = shelf.image(&config("s390x"), "bare");
        let index = shelf.index(&[
            (&amd, Some("linux/amd64")),
            (&arm, Some("linux/arm64")),
            (&proof, Some("unknown/unknown")),
            (&bare, None),
        ]);
        for (platforms, expected, unlisted) in [
            (&[][..], &NAMES[..], &[][..]),
            (&["linux/amd64"], &["amd"], &[]),
            (&["linux/s390x"], &["bare"], &[]),
            (
                &["linux/arm64", "linux/riscv64"],
                &["arm"],
                &["linux/riscv64"],
            ),
        ] {
            let anatomy = shelf.walk(&index, platforms);
            assert_eq!(layers(&anatomy, &NAMES), expected, "{platforms:?}");
            let left: Vec<_> = anatomy.unlisted.iter().map(ToString::to_string).collect();
            assert_eq!(left, unlisted);
            assert_eq!(anatomy.parts[0].role, Role::Index);
            let listed: Vec<_> = anatomy.listed.iter().map(ToString::to_string).collect();
            assert_eq!(listed, ["linux/amd64", "linux/arm64", "linux/s390x"]);
        }
    }

    #[test]
    fn an_image_without_an_index_is_what_everybody_gets() {
        let mut shelf = Shelf::default();
        let amd = shelf.image(&config("amd64"), "amd");
        let fits = shelf.walk(&amd, &["linux/amd64"]);
        assert_eq!((fits.other, fits.unlisted.len()), (None, 0));
        let other = shelf.walk(&amd, &["linux/arm64"]);
        let platform = other.other.as_ref().map(ToString::to_string);
        assert_eq!(platform.as_deref(), Some("linux/amd64"));
        assert_eq!(
            (layers(&other, &NAMES), other.unlisted),
            (vec!["amd"], vec![])
        );
        // Artifacts: with a config that is none, or with nothing at all.
        let chart = shelf.image(&json!({ "name": "chart" }), "bare");
        let nothing = shelf.put(&json!({ "artifactType": "x/y" }));
        for (top, parts) in [(chart, 3), (nothing, 1)] {
            let artifact = shelf.walk(&top, &["linux/arm64"]);
            assert_eq!(artifact.parts.len(), parts);
            assert_eq!((artifact.unlisted, artifact.other), (vec![], None));
        }
    }

    #[test]
    fn indexes_may_lie_in_each_other_but_not_for_ever() {
        let mut shelf = Shelf::default();
        let amd = shelf.image(&config("amd64"), "amd");
        let mut top = shelf.index(&[(&amd, Some("linux/amd64"))]);
        for depth in 1..=DEEPEST {
            let anatomy = shelf.walk(&top, &["linux/amd64"]);
            assert_eq!(anatomy.fault, None, "{depth}");
            assert_eq!(layers(&anatomy, &NAMES), ["amd"]);
            top = shelf.index(&[(&top, None)]);
        }
        let anatomy = shelf.walk(&top, &["linux/amd64"]);
        assert_eq!(anatomy.fault, Some(WalkError::TooLarge));
        let text = shelf.put(&json!({ "manifests": 5 }));
        let fault = shelf.walk(&text, &[]).fault;
        assert!(matches!(fault, Some(WalkError::Manifest(..))), "{fault:?}");
    }

    #[test]
    fn what_cannot_be_seen_is_a_part_all_the_same() {
        let mut shelf = Shelf::default();
        let amd = shelf.image(&config("amd64"), "amd");
        let index = shelf.index(&[(&amd, Some("linux/amd64"))]);
        shelf.0.remove(&amd);
        let anatomy = shelf.walk(&index, &["linux/amd64"]);
        assert_eq!(anatomy.parts.len(), 2);
        assert_eq!(anatomy.parts[1].part.digest, amd);
        let gone = shelf.walk(&amd, &["linux/amd64"]);
        assert_eq!(gone.parts.len(), 1);
    }
}
