//! Where an image of an archive belongs: the mirror that it came from, or a local repository.

use std::net::IpAddr;
use std::time::SystemTime;

use crate::oci::image::ImageError;
use crate::oci::{Image, Reference, RepositoryName, Tag, Target};
use crate::registry::Names;
use crate::store::{Kind, Repository, Store};

use super::archive::Named;
use super::error::Refusal;
use super::plan::names_a_registry;

/// A place for an image.
#[derive(Clone, Debug)]
pub(super) struct Home {
    pub(super) repository: Repository,
    pub(super) tag: Option<Tag>,
    /// When its upstream last said that the tag names this.
    pub(super) checked: Option<SystemTime>,
    /// The upstream's repository that this one hides from now on.
    pub(super) hides: Option<RepositoryName>,
}

/// Says where images belong.
#[derive(Clone, Copy)]
pub(super) struct Places<'a> {
    pub(super) store: &'a Store,
    pub(super) names: &'a Names,
}

impl Places<'_> {
    /// Where an image belongs by what its archive says of it.
    pub(super) fn of(self, named: &Named) -> Result<Home, Refusal> {
        match named {
            Named::Not => Err(Refusal::Nameless),
            Named::Ours {
                is_mirror,
                repository,
                tag,
                checked,
            } => {
                // The directory of a mirror is a name by which it can be asked for.
                let target = target(repository.clone());
                let repository = match self.names.mirror_named(&target) {
                    Some(mirror) => mirror,
                    // Its upstream may not be configured here. What does not even look like one's
                    // is in doubt, and so local.
                    None if *is_mirror && names_a_registry(repository) => {
                        self.store.mirror(repository)
                    }
                    None => self.pushed(&target)?,
                };
                self.home(repository, tag.clone(), *checked)
            }
            Named::Text(text) => {
                let image = read(text)?;
                match self.names.mirror_named(&image.target) {
                    Some(mirror) => self.home(mirror, tag(&image), None),
                    None => self.short(&image),
                }
            }
            Named::Docker(text) => self.short(&read(text)?),
        }
    }

    /// Where it belongs by the name that somebody gives it now.
    pub(super) fn given(self, image: &Image) -> Result<Home, Refusal> {
        let repository = match self.names.mirror_named(&image.target) {
            Some(mirror) => mirror,
            None => self.pushed(&image.target)?,
        };
        self.home(repository, tag(image), None)
    }

    /// By a name as docker shows it: one of a single word may be Docker Hub's or one's own.
    fn short(self, image: &Image) -> Result<Home, Refusal> {
        let repository = self.pushed(&image.target)?;
        let name = repository.name();
        let is_bare = name.is_single() && image.target.host.is_none();
        if is_bare && self.store.kind_of(name) != Some(Kind::Local) {
            let library: Result<RepositoryName, _> = "library".parse();
            let official = library.map(|library| target(name.under(&library)));
            let reserved = official.map(|target| self.names.for_push(&target));
            if let Ok(Err(error)) = reserved {
                return Err(Refusal::Name(error.to_string()));
            }
        }
        self.home(repository, tag(image), None)
    }

    /// The repository to which a push of that name would go.
    fn pushed(self, target: &Target) -> Result<Repository, Refusal> {
        let mut target = target.clone();
        // A registry on the machine itself: this one.
        target.host = target.host.filter(|host| !is_loopback(host));
        let repository = self.names.for_push(&target);
        repository.map_err(|error| Refusal::Name(error.to_string()))
    }

    fn home(
        self,
        repository: Repository,
        tag: Option<Tag>,
        checked: Option<SystemTime>,
    ) -> Result<Home, Refusal> {
        let name = repository.name();
        let kind = self.store.kind_of(name);
        match kind {
            Some(kind) if kind != repository.kind() => {
                let kind = match kind {
                    Kind::Local => "local repository",
                    Kind::Mirror => "mirror",
                };
                return Err(Refusal::Kind(name.to_string(), kind));
            }
            _ => {}
        }
        let is_new_name = kind.is_none() && repository.kind() == Kind::Local && !name.is_single();
        let hidden = self.names.shadowed_by(name).filter(|_| is_new_name);
        Ok(Home {
            hides: hidden.map(|mirror| mirror.repository.name().clone()),
            repository,
            tag,
            checked,
        })
    }
}

fn read(text: &str) -> Result<Image, Refusal> {
    text.parse()
        .map_err(|error: ImageError| Refusal::Name(format!("{text:?}: {error}")))
}

fn tag(image: &Image) -> Option<Tag> {
    match &image.reference {
        Reference::Tag(tag) => Some(tag.clone()),
        Reference::Digest(_) => None,
    }
}

fn target(name: RepositoryName) -> Target {
    Target {
        name,
        prefix: None,
        host: None,
        ns: None,
    }
}

fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let address: Result<IpAddr, _> = name.trim_matches(['[', ']']).parse();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}
