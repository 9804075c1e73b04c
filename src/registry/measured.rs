//! How things stand, for the metrics: what somebody keeps here anyway.

use crate::metrics::{Disk, Now, UpstreamNow};
use crate::upstream::Upstream;

use super::{Registry, Usage};

impl Registry {
    /// How things stand here. What surrounds the registry is left open.
    pub async fn now(&self) -> Now {
        let Usage {
            held,
            evicted_images,
            evicted_bytes,
        } = self.usage().await;
        let standing = self.inner.room.standing().await;
        let names = self.names();
        let upstreams = names.upstreams().iter();
        Now {
            upstreams: upstreams.map(|(name, it)| upstream(name, it)).collect(),
            offline: names.is_offline().is_some(),
            followers: self.inner.fills.followers() as u64,
            passed: self.passed(),
            tasks: self.running_tasks() as u64,
            disk: standing.map(|standing| Disk {
                size: standing.space.size,
                free: standing.space.free,
            }),
            mirrored: held.map(|held| (held.images as u64, held.bytes)),
            evicted: (evicted_images, evicted_bytes),
            ..Now::default()
        }
    }
}

fn upstream(name: &str, upstream: &Upstream) -> UpstreamNow {
    let standing = upstream.standing();
    let budget = upstream.budget();
    UpstreamNow {
        name: name.to_owned(),
        is_up: standing.since.map(|_| standing.down.is_none()),
        is_limited: upstream.limited_until().is_some(),
        pulls: budget.map(|budget| (budget.limit, budget.remaining)),
    }
}
