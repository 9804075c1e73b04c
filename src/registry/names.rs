//! Which repository is meant: one resolver for all the ways clients have of naming one.
//!
//! In this order: a configured upstream before `/v2/`; a configured upstream as first component;
//! the `ns` parameter; a local repository of that name; the default upstream.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::metrics::{Metrics, Source as MetricsSource};
use crate::oci::{RepositoryName, Target};
use crate::store::{Kind, Repository, Store};
use crate::upstream::Upstream;

use super::{Error, Missing, arrival};

/// The hosts that all are Docker Hub.
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_ALIASES: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];

/// Why nobody is asked, as it goes on after "... is not in the cache, and".
pub(super) const OFFLINE: &str =
    "this larder is offline: `larder offline off`, or cache.offline in the configuration";
const SWITCHED_OFF: &str = "this larder is offline: `larder offline off` ends that";
const NOT_CONFIGURED: &str = "its upstream is not configured";
const CONFIGURED_OFF: &str =
    "this larder is offline: set cache.offline to false in the configuration";

/// Where a request's repository is.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Local or mirror.
    pub place: Place,
    /// The registry by which an `ns` parameter scoped the request: the answer says so in
    /// `OCI-Namespace`. OCI distribution specification, "Registry Proxying".
    pub namespace: Option<String>,
}

/// A repository, of either kind.
#[derive(Clone, Debug)]
pub enum Place {
    /// What somebody pushed, or would push, under that name.
    Local(Repository),
    /// A repository of an upstream.
    Mirror(Mirror),
}

/// A repository of an upstream, and what is kept of it here.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Who has the rest.
    pub source: Source,
    /// Its name there, as in `library/nginx`.
    pub name: RepositoryName,
    /// What is kept here, in the directory `docker.io/library/nginx`.
    pub repository: Repository,
    /// The name it was asked for by, where that could also become a local repository's.
    pub bare: Option<RepositoryName>,
}

/// Where a mirror is filled from.
#[derive(Clone, Debug)]
pub enum Source {
    /// From this upstream.
    Upstream(Arc<Upstream>),
    /// From nowhere, for this reason: what is here is served, nothing is asked.
    Nowhere(&'static str),
}

/// The resolver. It knows the upstreams by name, and asks the store which names are local.
#[derive(Debug)]
pub struct Names {
    store: Store,
    upstreams: BTreeMap<String, Arc<Upstream>>,
    default: Option<String>,
    offline: bool,
}

impl Names {
    /// A resolver for the configured upstreams. `default` must be one of them.
    pub fn new(
        store: Store,
        upstreams: BTreeMap<String, Arc<Upstream>>,
        default: Option<String>,
        offline: bool,
    ) -> Self {
        Self {
            store,
            upstreams,
            default,
            offline,
        }
    }

    /// The repository a pull is about.
    pub fn for_pull(&self, target: &Target) -> Result<Resolved, Error> {
        let named = |place| Resolved {
            place,
            namespace: None,
        };
        if let Some((upstream, name)) = self.upstream_in_path(target)? {
            return Ok(named(self.mirror(&upstream, name, None)));
        }
        let name = &target.name;
        if let Some(ns) = &target.ns {
            let upstream = self
                .configured(ns)
                .ok_or_else(|| Error::UnknownUpstream(ns.clone()))?;
            return Ok(Resolved {
                place: self.mirror(&upstream, name.clone(), None),
                namespace: Some(upstream),
            });
        }
        let kind = self.store.kind_since(name, arrival::since());
        Ok(named(match (kind, &self.default) {
            (Some(Kind::Mirror), _) => Place::Mirror(self.orphan(name)),
            // No name at Docker Hub begins like a host: another registry is meant.
            (None, Some(default)) if default == DOCKER_HUB && names_a_host(name) => {
                let (host, _) = name.split_first();
                return Err(Error::UnknownUpstream(host.to_owned()));
            }
            (None, Some(default)) => {
                let pushable = !self.is_official(name);
                self.mirror(default, name.clone(), pushable.then(|| name.clone()))
            }
            (Some(Kind::Local), _) | (None, None) => Place::Local(self.store.local(name)),
        }))
    }

    /// The local repository a push is about. Names that belong to upstreams are refused, so that
    /// what is pushed and what is mirrored never meet.
    pub fn for_push(&self, target: &Target) -> Result<Repository, Error> {
        let reserved = |upstream: &str, name: &RepositoryName| Error::Reserved {
            name: target.name.to_string(),
            upstream: upstream.to_owned(),
            instead: without_library(name).to_string(),
        };
        if let Some((upstream, name)) = self.upstream_in_path(target)? {
            return Err(reserved(&upstream, &name));
        }
        let name = &target.name;
        if let Some(ns) = &target.ns {
            return Err(match self.configured(ns) {
                Some(upstream) => reserved(&upstream, name),
                None => Error::UnknownUpstream(ns.clone()),
            });
        }
        if self.configured(name.as_str()).is_some() {
            return Err(Error::Reserved {
                name: name.to_string(),
                upstream: name.to_string(),
                instead: format!("my-{name}"),
            });
        }
        if self.is_official(name) {
            return Err(reserved(DOCKER_HUB, name));
        }
        if self.store.kind_of(name) == Some(Kind::Mirror) {
            let (upstream, rest) = name.split_first();
            return Err(reserved(upstream, &rest.unwrap_or_else(|| name.clone())));
        }
        Ok(self.store.local(name))
    }

    /// The mirror that a name stands for by its upstream's name in it, as in `ghcr.io/org/app`.
    pub fn mirror_named(&self, target: &Target) -> Option<Repository> {
        let (upstream, name) = self.upstream_in_path(target).ok().flatten()?;
        match self.mirror(&upstream, name, None) {
            Place::Mirror(mirror) => Some(mirror.repository),
            Place::Local(_) => None,
        }
    }

    /// Whether there is an upstream: clients may then be using this registry as their mirror.
    pub fn mirrors_anything(&self) -> bool {
        !self.upstreams.is_empty()
    }

    /// Why no upstream may be asked; `None` where they may. The switch is looked at each time: it
    /// is for the next question, whoever sets it.
    pub fn is_offline(&self) -> Option<&'static str> {
        if self.offline {
            Some(CONFIGURED_OFF)
        } else {
            self.store.is_offline().then_some(SWITCHED_OFF)
        }
    }

    /// The upstreams by name.
    pub(super) fn upstreams(&self) -> &BTreeMap<String, Arc<Upstream>> {
        &self.upstreams
    }

    /// The mirror that a bare name stands for where no local repository has it.
    pub fn shadowed_by(&self, local: &RepositoryName) -> Option<Mirror> {
        let default = self.default.as_ref()?;
        match self.mirror(default, local.clone(), Some(local.clone())) {
            Place::Mirror(mirror) => Some(mirror),
            Place::Local(_) => None,
        }
    }

    /// A local repository in Docker Hub's own namespace, where nobody can push.
    ///
    /// A pull-through cache of Distribution leaves such ones: they count as local for ever, and
    /// nobody would notice that they are no longer brought up to date.
    pub fn local_in_library(&self) -> Result<Option<RepositoryName>, Error> {
        if self.default.as_deref() != Some(DOCKER_HUB) {
            return Ok(None);
        }
        let found = self.store.repositories(Some("library"), 1);
        let found = found.map_err(|error| Error::Store(Arc::new(error)))?;
        let in_library = |name: &RepositoryName| without_library(name) != *name;
        let is_local = |name: &RepositoryName| self.store.kind_of(name) == Some(Kind::Local);
        Ok(found
            .into_iter()
            .find(|name| in_library(name) && is_local(name)))
    }

    /// Whether a bare name is one of Docker Hub's official images, under which nobody can push while
    /// Docker Hub is the default.
    fn is_official(&self, name: &RepositoryName) -> bool {
        self.default.as_deref() == Some(DOCKER_HUB) && without_library(name) != *name
    }

    /// The upstream that the path itself names, and the repository's name there.
    fn upstream_in_path(&self, target: &Target) -> Result<Option<(String, RepositoryName)>, Error> {
        let unknown = |host: &String| Error::UnknownUpstream(host.clone());
        let host = match (&target.prefix, &target.host) {
            // Two registries in one path: the inner one is nothing that the outer one has.
            (Some(_), Some(host)) => return Err(unknown(host)),
            (host, None) | (None, host) => host,
        };
        if let Some(host) = host {
            let upstream = self.configured(host).ok_or_else(|| unknown(host))?;
            return Ok(Some((upstream, target.name.clone())));
        }
        if let Some((first, _)) = target.name.as_str().split_once('/')
            && let Some(upstream) = self.configured(first)
            && let (_, Some(rest)) = target.name.split_first()
        {
            return Ok(Some((upstream, rest)));
        }
        Ok(None)
    }

    /// The configured name of the registry that clients call `host`.
    fn configured(&self, host: &str) -> Option<String> {
        let is_alias = |alias: &&str| host.eq_ignore_ascii_case(alias);
        let host = if DOCKER_HUB_ALIASES.iter().any(is_alias) {
            DOCKER_HUB
        } else {
            host
        };
        // Or the name of its directory, which is what the catalog lists. No host has an underscore.
        let is_listed = |name: &str| {
            let written = |byte: u8| if byte == b'_' { b':' } else { byte };
            let host = host.bytes().map(|byte| written(byte.to_ascii_lowercase()));
            name.len() == host.len() && host.eq(name.bytes())
        };
        // Few are configured, and most names begin like none of them.
        let names = || self.upstreams.keys();
        let found = names().find(|name| host.eq_ignore_ascii_case(name));
        found
            .or_else(|| names().find(|name| is_listed(name)))
            .cloned()
    }

    fn mirror(&self, upstream: &str, name: RepositoryName, bare: Option<RepositoryName>) -> Place {
        let name = if upstream == DOCKER_HUB && name.is_single() {
            in_library(&name)
        } else {
            name
        };
        let source = match self.upstreams.get(upstream) {
            Some(upstream) => match self.is_offline() {
                None => Source::Upstream(Arc::clone(upstream)),
                Some(reason) => Source::Nowhere(reason),
            },
            None => Source::Nowhere(NOT_CONFIGURED),
        };
        // A port's colon is no part of a path that Distribution would accept.
        let directory: Result<RepositoryName, _> = upstream.replace(':', "_").parse();
        match directory {
            Ok(directory) => Place::Mirror(Mirror {
                source,
                repository: self.store.mirror(&name.under(&directory)),
                name,
                bare,
            }),
            // Cannot be: the configuration takes host names only. Local is the safe side.
            Err(_) => Place::Local(self.store.local(&name)),
        }
    }

    /// A mirror whose upstream is no longer configured: what is there can still be served.
    fn orphan(&self, directory: &RepositoryName) -> Mirror {
        let (_, name) = directory.split_first();
        Mirror {
            source: Source::Nowhere(NOT_CONFIGURED),
            name: name.unwrap_or_else(|| directory.clone()),
            repository: self.store.mirror(directory),
            bare: None,
        }
    }
}

impl Place {
    /// Where its content comes from, in the metrics and in the log.
    pub fn counted_by(&self, metrics: &Metrics) -> MetricsSource {
        match self {
            Self::Local(_) => metrics.local().clone(),
            Self::Mirror(mirror) => match &mirror.source {
                Source::Upstream(upstream) => metrics.upstream(upstream.name()),
                // The directory is named after it.
                Source::Nowhere(_) => {
                    let (directory, _) = mirror.repository.name().split_first();
                    // A port's colon is an underscore there.
                    if directory.contains('_') {
                        metrics.upstream(&directory.replace('_', ":"))
                    } else {
                        metrics.upstream(directory)
                    }
                }
            },
        }
    }

    /// The repository's full name, as the catalog lists it: `team/app`, `docker.io/library/nginx`.
    pub fn full_name(&self) -> String {
        let repository = match self {
            Self::Local(repository) => repository,
            Self::Mirror(mirror) => &mirror.repository,
        };
        repository.name().to_string()
    }
}

impl Mirror {
    /// The upstream to ask for something that is not here, or why there is none.
    pub(super) fn upstream(&self, what: Missing) -> Result<&Arc<Upstream>, Error> {
        match &self.source {
            Source::Upstream(upstream) => Ok(upstream),
            Source::Nowhere(reason) => Err(Error::NotCached {
                name: self.repository.name().clone(),
                what,
                reason,
            }),
        }
    }
}

/// Whether the first of several components has the looks of a host.
fn names_a_host(name: &RepositoryName) -> bool {
    matches!(name.split_first(), (first, Some(_)) if first.contains('.'))
}

/// Docker Hub keeps its official images under `library/`.
fn in_library(name: &RepositoryName) -> RepositoryName {
    match "library".parse() {
        Ok(library) => name.under(&library),
        Err(_) => name.clone(),
    }
}

fn without_library(name: &RepositoryName) -> RepositoryName {
    match name.split_first() {
        ("library", Some(rest)) => rest,
        _ => name.clone(),
    }
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
