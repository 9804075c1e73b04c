//! The picture, and what belongs to it: read and changed by one at a time.

use crate::oci::{Digest, Tag};

use super::clock::Age;
use super::journal::Change;
use super::picture::{Datum, Picture, Place, Repository};
use super::table::Id;
use super::walk::Beside;

/// The picture, and what belongs to it.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) picture: Option<Picture>,
    /// While a walk is under way: what its picture will lack.
    pub(super) since: Option<Vec<Change>>,
    /// What others had linked by the time of the walk.
    pub(super) beside: Beside,
    /// What an eviction that was killed had unlinked.
    pub(super) remains: Vec<Id>,
    /// Tags of which it had left only what they once named.
    pub(super) husks: Vec<(Place, Tag)>,
}

impl Books {
    /// How many bytes mirrors alone hold, if that is known yet.
    pub(super) fn cached(&self) -> Option<u64> {
        self.picture.as_ref().map(Picture::cached)
    }

    pub(super) fn repository(&self, place: Place) -> Option<&Repository> {
        self.picture.as_ref()?.repository(place)
    }

    pub(super) fn digest(&self, id: Id) -> Option<Digest> {
        self.picture.as_ref()?.digests.digest(id)
    }

    pub(super) fn datum(&self, id: Id) -> Datum {
        let picture = self.picture.as_ref();
        picture.map_or_else(Datum::default, |it| it.datum(id))
    }

    pub(super) fn change(&mut self, change: Change, now: Age) {
        if let Some(picture) = &mut self.picture {
            picture.change(&change, now);
        }
        if let Some(since) = &mut self.since {
            since.push(change);
        }
    }

    /// A manifest was removed. What nobody in its repository names any more is returned.
    pub(super) fn drop_manifest(&mut self, place: Place, id: Id) -> Vec<Id> {
        if let (Some(name), Some(digest)) = (self.name(place), self.digest(id)) {
            self.remember(Change::Manifest(name, digest));
        }
        let picture = self.picture.as_mut();
        picture.map_or_else(Vec::new, |it| it.remove_manifest(place, id))
    }

    /// A layer's link was removed. The data that it led to is returned.
    pub(super) fn drop_layer(&mut self, place: Place, id: Id) -> Option<Id> {
        if let (Some(name), Some(digest)) = (self.name(place), self.digest(id)) {
            self.remember(Change::Layer(name, digest));
        }
        self.picture.as_mut()?.remove_layer(place, id)
    }

    pub(super) fn drop_tag(&mut self, place: Place, tag: &Tag) {
        if let Some(name) = self.name(place) {
            self.remember(Change::Tag(name, tag.clone()));
        }
        if let Some(picture) = &mut self.picture {
            picture.remove_tag(place, tag);
        }
    }

    fn name(&self, place: Place) -> Option<String> {
        self.repository(place).map(|it| it.name.clone())
    }

    fn remember(&mut self, change: Change) {
        if let Some(since) = &mut self.since {
            since.push(change);
        }
    }
}
