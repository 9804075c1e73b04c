//! The tags of a repository.

use serde_json::{Value, json};

use crate::oci::{Digest, ListOrder, ListPart, Tag};
use crate::registry::{Error, Missing, TagFacts};
use crate::store::{IndexedImage, Kind, LastUse, Marks, Repository};

use super::super::Console;
use super::lists::{Entry, cut, is_behind, looked_at, origin};
use super::{May, time};

/// A tag on a page.
struct Row {
    tag: Tag,
    digest: Digest,
    image: Option<IndexedImage>,
    /// Known where the list is ordered by it.
    used: Option<LastUse>,
}

impl Entry for Row {
    fn name(&self) -> &str {
        self.tag.as_str()
    }

    fn size(&self) -> u64 {
        let image = self.image.as_ref();
        image.map_or(0, |image| image.own + image.shared)
    }

    fn used(&self) -> Option<LastUse> {
        self.used
    }
}

impl Console {
    /// A page of a repository's tags, for one who may do this with it.
    pub async fn tags(
        &self,
        repository: &Repository,
        search: Option<&str>,
        part: ListPart,
        may: May,
    ) -> Result<Value, Error> {
        let registry = &self.0.registry;
        let name = repository.name();
        let (of, wanted) = (name.clone(), part.clone());
        let search = search.unwrap_or_default().to_ascii_lowercase();
        let found = registry.look(move |index| {
            let known = index.repositories().get(&of)?;
            let tags = known.tags.iter().filter(|(tag, _)| {
                let tag = tag.as_str();
                is_behind(tag, &wanted.order) && tag.to_ascii_lowercase().contains(&search)
            });
            let rows = tags.take(looked_at(&wanted)).map(|(tag, digest)| Row {
                tag: tag.clone(),
                digest: digest.clone(),
                image: index.image(&of, digest),
                used: None,
            });
            Some(rows.collect::<Vec<Row>>())
        });
        let unknown = || Error::Unknown {
            name: name.clone(),
            what: Missing::Tags,
        };
        let mut rows = found.await?.ok_or_else(unknown)?;
        if matches!(part.order, ListOrder::Used(_)) {
            let digests = rows.iter().map(|row| row.digest.clone()).collect();
            let uses = registry.last_uses(name.clone(), digests).await?;
            for (row, used) in rows.iter_mut().zip(uses) {
                row.used = used;
            }
        }
        let (more, next) = cut(&mut rows, &part);
        let tags = rows.iter().map(|row| (row.tag.clone(), row.digest.clone()));
        let facts = registry.tag_facts(repository, tags.collect()).await?;
        let marks = registry.marks(name).await?;
        let rows = rows.iter().zip(facts);
        let tags = rows.map(|(row, facts)| self.tag(repository, row, facts, &marks));
        Ok(json!({
            "repository": name.as_str(),
            "origin": origin(name, repository.kind()),
            "may": may.json(),
            "tags": tags.collect::<Vec<_>>(),
            "more": more,
            "next": next,
        }))
    }

    fn tag(&self, repository: &Repository, row: &Row, facts: TagFacts, marks: &Marks) -> Value {
        let registry = &self.0.registry;
        let (name, tag) = (repository.name(), &row.tag);
        let is_mirror = repository.kind() == Kind::Mirror;
        let is_pinned = marks.pins.contains(tag) || registry.is_pinned(name, tag);
        let is_held = marks.holds.contains_key(tag) || registry.is_held_by_configuration(name, tag);
        let image = row.image.as_ref();
        let platforms = image.map_or(&[][..], |image| &image.platforms);
        let platforms = platforms
            .iter()
            .map(|(name, here)| json!({ "name": name, "here": here }));
        let media_type = image.and_then(|image| image.media_type.as_ref());
        json!({
            "tag": tag.as_str(),
            "digest": row.digest.as_str(),
            "media_type": media_type.map(crate::oci::MediaType::as_str),
            "platforms": platforms.collect::<Vec<_>>(),
            "own": image.map(|image| image.own),
            "shared": image.map(|image| image.shared),
            "size": image.map(|image| image.own + image.shared),
            "used": time(facts.used),
            "dated": time(facts.dated),
            "stale_since": time(facts.stale_since),
            "pinned": is_mirror && is_pinned,
            "held": is_mirror && is_held,
        })
    }
}
