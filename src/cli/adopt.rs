//! Before the first request: what an old pull-through cache left becomes mirrors.

use crate::config::Config;
use crate::oci::RepositoryName;
use crate::store::{Adopted, Doubt, OldCache, Store};

/// How many repositories that stay local are named.
const NAMED: usize = 20;

/// Takes over what Distribution has left as a cache of the default upstream.
pub(super) fn adopt(store: &Store, config: &Config) -> Result<(), String> {
    let Some(upstream) = &config.upstreams.default else {
        return Ok(());
    };
    // Nothing is to be changed; and nobody can push, so it can wait.
    if config.storage.readonly {
        return Ok(());
    }
    let directory = |name: &crate::config::UpstreamName| name.directory().parse();
    let Ok(default) = directory(upstream) else {
        return Ok(());
    };
    let cache = OldCache {
        upstream: default,
        is_docker_hub: upstream.is_docker_hub(),
        mirrors: config
            .upstreams
            .all
            .keys()
            .filter_map(|name| directory(name).ok())
            .collect(),
    };
    match store.adopt(&cache) {
        Ok(None) => Ok(()),
        Ok(Some(adopted)) => {
            tell(&adopted, upstream.as_str());
            Ok(())
        }
        // Nobody can push to it either: it can wait.
        Err(error) if error.is_read_only() => {
            tracing::warn!("what an old cache left is not taken over: {error}");
            Ok(())
        }
        Err(error) => Err(format!(
            "cannot take over what an old cache left: {error}; start again when that is mended, or move scheduler-state.json away to leave all of it local"
        )),
    }
}

fn tell(adopted: &Adopted, upstream: &str) {
    let count = adopted.taken.len();
    let list = adopted.list.display();
    tracing::info!(
        "took over {count} repositories of an old cache as mirrors of {upstream}; its list is now {list}"
    );
    for name in &adopted.taken {
        tracing::debug!("taken over: {name}");
    }
    for (name, to, doubt) in adopted.doubtful.iter().take(NAMED) {
        let advice = by_hand(name, to, doubt);
        tracing::warn!("{name} is not taken over, and stays local: {doubt}; {advice}");
    }
    let more = adopted.doubtful.len().saturating_sub(NAMED);
    if more > 0 {
        tracing::warn!("{more} more repositories are not taken over, and stay local");
    }
}

/// What makes a mirror of a repository whose owner knows that it is one.
fn by_hand(name: &RepositoryName, to: &RepositoryName, doubt: &Doubt) -> String {
    match doubt {
        Doubt::Exists => format!("remove the one of {name} and {to} that is not wanted"),
        // Not the directory itself: others may lie below it.
        _ => format!(
            "if nobody has pushed it, stop larder and, in the directory repositories, run: mkdir -p {to}/_mirror && mv {name}/_[lm]* {to}/"
        ),
    }
}
