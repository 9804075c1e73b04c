//! Every way of naming a repository, as a table: what a path is about, in words.

use super::*;
use crate::oci::route::{Route, parse};
use crate::oci::{Digest, Tag};
use crate::store::set_offline;
use crate::upstream::Settings;

/// Resolves names over a directory of its own.
struct World {
    root: tempfile::TempDir,
    store: Store,
    names: Names,
}

fn world(upstreams: &[&str], default: Option<&str>, offline: bool) -> World {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let upstream = |name: &&str| {
        let settings = Settings {
            name: (*name).to_owned(),
            url: format!("http://{name}").parse().unwrap(),
            credentials: None,
            ca: None,
            token_hosts: Vec::new(),
        };
        let upstream = Upstream::new(settings).unwrap();
        ((*name).to_owned(), Arc::new(upstream))
    };
    let upstreams = upstreams.iter().map(upstream).collect();
    let default = default.map(str::to_owned);
    let names = Names::new(store.clone(), upstreams, default, offline);
    World { root, store, names }
}

const UPSTREAMS: [&str; 4] = ["docker.io", "quay.io", "lab", "10.0.0.7:5000"];

/// Docker Hub and others; somebody has pushed `mine`, `team/mine` and, before there was a Docker
/// Hub here, `library/old` and `quay.io/mine`; and there is what is left of an upstream `gcr.io`.
fn docker_and_others() -> World {
    let world = world(&UPSTREAMS, Some("docker.io"), false);
    let tag: Tag = "1".parse().unwrap();
    for name in ["mine", "team/mine", "library/old", "quay.io/mine"] {
        let local = world.store.local(&name.parse().unwrap());
        local.put_tag(&tag, &Digest::of(b"{}")).unwrap();
    }
    let left = world.store.mirror(&"gcr.io/org/left".parse().unwrap());
    left.put_tag(&tag, &Digest::of(b"{}")).unwrap();
    world
}

/// What pulls are about, in [`docker_and_others`].
const PULLS: &[(&str, &str)] = &[
    // Docker Hub's, and whoever pushes one of that name has it from then on.
    (
        "/v2/app",
        "library/app of docker.io in docker.io/library/app, or local app",
    ),
    (
        "/v2/org/app",
        "org/app of docker.io in docker.io/org/app, or local org/app",
    ),
    // Only the first of several components looks like a host.
    (
        "/v2/my.app",
        "library/my.app of docker.io in docker.io/library/my.app, or local my.app",
    ),
    (
        "/v2/org/my.app",
        "org/my.app of docker.io in docker.io/org/my.app, or local org/my.app",
    ),
    (
        "/v2/library",
        "library/library of docker.io in docker.io/library/library, or local library",
    ),
    // Nobody can push that.
    (
        "/v2/library/app",
        "library/app of docker.io in docker.io/library/app",
    ),
    (
        "/v2/library/mine",
        "library/mine of docker.io in docker.io/library/mine",
    ),
    // What was pushed.
    ("/v2/mine", "local mine"),
    ("/v2/team/mine", "local team/mine"),
    ("/v2/library/old", "local library/old"),
    // An upstream as first component, by any of its names.
    (
        "/v2/docker.io/app",
        "library/app of docker.io in docker.io/library/app",
    ),
    (
        "/v2/docker.io/mine",
        "library/mine of docker.io in docker.io/library/mine",
    ),
    (
        "/v2/docker.io/org/app",
        "org/app of docker.io in docker.io/org/app",
    ),
    (
        "/v2/index.docker.io/app",
        "library/app of docker.io in docker.io/library/app",
    ),
    (
        "/v2/registry-1.docker.io/org/app",
        "org/app of docker.io in docker.io/org/app",
    ),
    ("/v2/quay.io/app", "app of quay.io in quay.io/app"),
    ("/v2/quay.io/mine", "mine of quay.io in quay.io/mine"),
    ("/v2/quay.io/a/b/c", "a/b/c of quay.io in quay.io/a/b/c"),
    ("/v2/lab/app", "app of lab in lab/app"),
    (
        "/v2/10.0.0.7:5000/app",
        "app of 10.0.0.7:5000 in 10.0.0.7_5000/app",
    ),
    // As the catalog lists it.
    (
        "/v2/10.0.0.7_5000/app",
        "app of 10.0.0.7:5000 in 10.0.0.7_5000/app",
    ),
    // An upstream before /v2/, in any case.
    (
        "/docker.io/v2/app",
        "library/app of docker.io in docker.io/library/app",
    ),
    ("/Quay.IO/v2/mine", "mine of quay.io in quay.io/mine"),
    (
        "/quay.io/v2/docker.io/app",
        "docker.io/app of quay.io in quay.io/docker.io/app",
    ),
    (
        "/10.0.0.7:5000/v2/app",
        "app of 10.0.0.7:5000 in 10.0.0.7_5000/app",
    ),
    // The parameter; what was pushed is never meant by it.
    (
        "/v2/mine?ns=docker.io",
        "library/mine of docker.io in docker.io/library/mine, as docker.io says",
    ),
    (
        "/v2/app?ns=Registry-1.Docker.IO",
        "library/app of docker.io in docker.io/library/app, as docker.io says",
    ),
    (
        "/v2/team/mine?ns=quay.io",
        "team/mine of quay.io in quay.io/team/mine, as quay.io says",
    ),
    (
        "/v2/app?ns=10.0.0.7%3A5000",
        "app of 10.0.0.7:5000 in 10.0.0.7_5000/app, as 10.0.0.7:5000 says",
    ),
    // The path wins over the parameter.
    (
        "/v2/quay.io/app?ns=docker.io",
        "app of quay.io in quay.io/app",
    ),
    (
        "/quay.io/v2/app?ns=evil.example",
        "app of quay.io in quay.io/app",
    ),
    // What is not configured is nothing, whatever else could be made of it.
    ("/v2/app?ns=evil.example", "unknown evil.example"),
    ("/v2/mine?ns=evil.example", "unknown evil.example"),
    ("/evil.example/v2/app", "unknown evil.example"),
    ("/evil.example/v2/mine", "unknown evil.example"),
    ("/v2/evil.example/org/app", "unknown evil.example"),
    ("/v2/10.0.0.7/app", "unknown 10.0.0.7"),
    ("/v2/10.0.0.7:5001/app", "unknown 10.0.0.7:5001"),
    ("/v2/quay.io:443/app", "unknown quay.io:443"),
    ("/quay.io/v2/10.0.0.7:5000/app", "unknown 10.0.0.7:5000"),
    // What is left of an upstream is served.
    (
        "/v2/gcr.io/org/left",
        "org/left of its upstream is not configured in gcr.io/org/left",
    ),
];

/// And what is answered to pushes.
const PUSHES: &[(&str, &str)] = &[
    ("/v2/app", "local app"),
    ("/v2/org/app", "local org/app"),
    ("/v2/library", "local library"),
    ("/v2/mine", "local mine"),
    ("/v2/library/app", "no, it is docker.io's: app"),
    ("/v2/library/old", "no, it is docker.io's: old"),
    ("/v2/library/org/app", "no, it is docker.io's: org/app"),
    ("/v2/docker.io/library/app", "no, it is docker.io's: app"),
    (
        "/v2/index.docker.io/org/app",
        "no, it is docker.io's: org/app",
    ),
    ("/v2/quay.io/mine", "no, it is quay.io's: mine"),
    ("/quay.io/v2/org/app", "no, it is quay.io's: org/app"),
    ("/v2/lab/app", "no, it is lab's: app"),
    ("/v2/10.0.0.7:5000/app", "no, it is 10.0.0.7:5000's: app"),
    ("/v2/10.0.0.7_5000/app", "no, it is 10.0.0.7:5000's: app"),
    ("/v2/app?ns=docker.io", "no, it is docker.io's: app"),
    ("/v2/app?ns=evil.example", "unknown evil.example"),
    ("/v2/evil.example:5000/app", "unknown evil.example:5000"),
    // Its own name as a repository's would make a directory of its mirrors a repository.
    ("/v2/quay.io", "no, it is quay.io's: my-quay.io"),
    (
        "/v2/index.docker.io",
        "no, it is index.docker.io's: my-index.docker.io",
    ),
    ("/v2/gcr.io/org/left", "no, it is gcr.io's: org/left"),
];

fn target(path: &str) -> Target {
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    match parse(&format!("{path}/tags/list"), query) {
        Ok(Route::Tags(target, _)) => target,
        other => panic!("{path}: {other:?}"),
    }
}

impl World {
    fn resolve(&self, path: &str) -> Resolved {
        self.names.for_pull(&target(path)).unwrap()
    }

    fn pull(&self, path: &str) -> String {
        let resolved = match self.names.for_pull(&target(path)) {
            Ok(resolved) => resolved,
            Err(Error::UnknownUpstream(host)) => return format!("unknown {host}"),
            Err(error) => panic!("{path}: {error}"),
        };
        let mut said = match &resolved.place {
            Place::Local(repository) => format!("local {}", repository.name()),
            Place::Mirror(mirror) => {
                let source = match &mirror.source {
                    Source::Upstream(upstream) => upstream.name(),
                    Source::Nowhere(reason) => *reason,
                };
                let directory = mirror.repository.name();
                let said = format!("{} of {source} in {directory}", mirror.name);
                match &mirror.bare {
                    Some(bare) => format!("{said}, or local {bare}"),
                    None => said,
                }
            }
        };
        if let Some(namespace) = &resolved.namespace {
            said = format!("{said}, as {namespace} says");
        }
        said
    }

    fn push(&self, path: &str) -> String {
        match self.names.for_push(&target(path)) {
            Ok(repository) => {
                assert_eq!(repository.kind(), Kind::Local, "{path}");
                format!("local {}", repository.name())
            }
            Err(Error::Reserved {
                upstream, instead, ..
            }) => format!("no, it is {upstream}'s: {instead}"),
            Err(Error::UnknownUpstream(host)) => format!("unknown {host}"),
            Err(error) => panic!("{path}: {error}"),
        }
    }
}

#[test]
fn a_pull_is_about_what_its_name_says_in_this_order() {
    let world = docker_and_others();
    for (path, meant) in PULLS {
        assert_eq!(world.pull(path), *meant, "{path}");
    }
}

#[test]
fn a_push_never_meets_what_is_mirrored() {
    let world = docker_and_others();
    for (path, answer) in PUSHES {
        assert_eq!(world.push(path), *answer, "{path}");
    }
}

#[test]
fn without_a_default_a_bare_name_is_local_and_no_name_is_docker_hubs() {
    let world = world(&["quay.io"], None, false);
    for name in ["app", "library/app", "docker.io/app", "evil.example/app"] {
        let (path, local) = (format!("/v2/{name}"), format!("local {name}"));
        assert_eq!(
            (world.pull(&path), world.push(&path)),
            (local.clone(), local)
        );
        assert!(world.names.shadowed_by(&name.parse().unwrap()).is_none());
    }
    assert_eq!(
        world.pull("/v2/quay.io/app"),
        "app of quay.io in quay.io/app"
    );
    assert_eq!(world.pull("/v2/app?ns=docker.io"), "unknown docker.io");
    assert!(world.names.mirrors_anything());
}

#[test]
fn another_default_has_names_of_its_own() {
    let world = world(&["docker.io", "lab:5000"], Some("lab:5000"), false);
    // Neither a library nor hosts are anything special there: each can be pushed, too.
    for name in ["app", "library/app", "evil.example/app"] {
        let path = format!("/v2/{name}");
        let meant = format!("{name} of lab:5000 in lab_5000/{name}, or local {name}");
        assert_eq!(world.pull(&path), meant);
        assert_eq!(world.push(&path), format!("local {name}"));
        let shadowed = world.names.shadowed_by(&name.parse().unwrap()).unwrap();
        assert_eq!(
            shadowed.repository.name().as_str(),
            format!("lab_5000/{name}")
        );
    }
    assert_eq!(
        world.pull("/v2/docker.io/app"),
        "library/app of docker.io in docker.io/library/app"
    );
    let local = world.store.local(&"library/app".parse().unwrap());
    let tag = "1".parse().unwrap();
    local.put_tag(&tag, &Digest::of(b"{}")).unwrap();
    assert_eq!(world.names.local_in_library().unwrap(), None);
}

#[test]
fn a_local_repository_in_docker_hubs_library_is_found() {
    let world = world(&["docker.io"], Some("docker.io"), false);
    let found = || world.names.local_in_library().unwrap();
    let tag = "1".parse().unwrap();
    let put = |name: &str| {
        let local = world.store.local(&name.parse().unwrap());
        local.put_tag(&tag, &Digest::of(b"{}")).unwrap();
    };
    // None of these is in it.
    for name in ["a", "library-tools/app", "library.x/app", "zoo/library"] {
        put(name);
        assert_eq!(found(), None, "{name}");
    }
    put("library/old");
    assert_eq!(found(), Some("library/old".parse().unwrap()));
}

#[test]
fn a_name_that_hides_an_upstreams_is_told_from_one_that_does_not() {
    let world = docker_and_others();
    for (name, hidden) in [
        ("mine", "docker.io/library/mine"),
        ("team/mine", "docker.io/team/mine"),
    ] {
        let mirror = world.names.shadowed_by(&name.parse().unwrap()).unwrap();
        assert_eq!(mirror.repository.name().as_str(), hidden);
    }
    for (path, named) in [
        ("/v2/app", None),
        ("/v2/mine", None),
        ("/v2/app?ns=quay.io", None),
        ("/v2/evil.example:5000/app", None),
        ("/v2/docker.io/app", Some("docker.io/library/app")),
        ("/quay.io/v2/app", Some("quay.io/app")),
        ("/v2/10.0.0.7:5000/app", Some("10.0.0.7_5000/app")),
    ] {
        let mirror = world.names.mirror_named(&target(path));
        let mirror = mirror.as_ref().map(|it| it.name().as_str());
        assert_eq!(mirror, named, "{path}");
    }
}

#[test]
fn offline_nothing_has_an_upstream_and_it_is_said_what_ends_that() {
    for configured in [false, true] {
        let world = world(&["docker.io"], Some("docker.io"), configured);
        for switched in [false, true] {
            set_offline(world.root.path(), switched).unwrap();
            let reason = match (configured, switched) {
                (false, false) => None,
                (false, true) => Some(SWITCHED_OFF),
                // The switch would not help.
                (true, _) => Some(CONFIGURED_OFF),
            };
            assert_eq!(world.names.is_offline(), reason);
            let source = reason.unwrap_or("docker.io");
            for (path, bare) in [("/v2/app", ", or local app"), ("/v2/docker.io/app", "")] {
                let meant = format!("library/app of {source} in docker.io/library/app{bare}");
                assert_eq!(world.pull(path), meant);
            }
        }
    }
}

#[test]
fn what_is_pulled_is_counted_by_its_upstream_and_called_by_its_full_name() {
    let world = docker_and_others();
    let left = world.store.mirror(&"lab.example_5000/app".parse().unwrap());
    let tag = "1".parse().unwrap();
    left.put_tag(&tag, &Digest::of(b"{}")).unwrap();
    let metrics = Metrics::default();
    for (path, source, name) in [
        ("/v2/mine", "local", "mine"),
        ("/v2/app", "docker.io", "docker.io/library/app"),
        (
            "/v2/10.0.0.7:5000/app",
            "10.0.0.7:5000",
            "10.0.0.7_5000/app",
        ),
        ("/v2/gcr.io/org/left", "gcr.io", "gcr.io/org/left"),
        // A port's colon is none in a directory.
        (
            "/v2/lab.example_5000/app",
            "lab.example:5000",
            "lab.example_5000/app",
        ),
    ] {
        let place = world.resolve(path).place;
        assert_eq!(place.counted_by(&metrics).name(), source, "{path}");
        assert_eq!(place.full_name(), name, "{path}");
    }
}
