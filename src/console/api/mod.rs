//! The JSON under `/api/v1/`: what is in it, for one who sees some repositories. `docs/api.md` tells
//! of all of it.
//!
//! Texts come out as they went in: names, labels and histories are what somebody wrote, and JSON can
//! carry anything. Whoever shows them has to show them as text.

mod image;
mod lists;
mod tags;

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::metrics::{Outcome, Totals};
use crate::registry::{Error, UpstreamNow, WarmState, Warming};
use crate::upstream::UpstreamError;

use super::{Address, Console, Sees, history};

pub use lists::Origin;

/// Who asks, and what he may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct You {
    /// What he is called, if he is.
    pub name: Option<String>,
    /// Whether nothing is known of him.
    pub is_anonymous: bool,
    /// Whether anybody can say who he is: if not, everybody may do everything.
    pub can_log_in: bool,
    /// What he may do, somewhere or with what is shown.
    pub may: May,
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct May {
    /// Delete tags.
    pub delete: bool,
    /// Have images fetched.
    pub warm: bool,
    /// Pin and hold tags.
    pub pin: bool,
}

impl May {
    fn json(self) -> Value {
        json!({ "delete": self.delete, "warm": self.warm, "pin": self.pin })
    }
}

impl Console {
    /// What this server is, and how it stands.
    pub async fn state(&self, you: &You, at: &Address, sees: Sees) -> Value {
        let registry = &self.0.registry;
        let fills = registry.fills_now();
        let fills = fills.iter().filter(|it| sees(it.repository.as_str()));
        let counting = sees.clone();
        let counted = registry.look_soon(move |index| {
            let shown = index.repositories().iter();
            let shown = shown.filter(|(name, _)| counting(name.as_str()));
            shown.fold((0, 0), |(repositories, tags), (_, it)| {
                (repositories + 1, tags + it.tags.len())
            })
        });
        let counted = counted.await;
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "started": time(Some(self.0.started)),
            "offline": registry.is_offline().is_some(),
            "readonly": registry.is_read_only(),
            "address": at.host,
            "tls": at.is_tls,
            "login": you.can_log_in,
            "you": {
                "name": you.name,
                "anonymous": you.is_anonymous,
                "may": you.may.json(),
            },
            "totals": totals(&self.totals()),
            "disk": self.disk().await,
            "fills": fills.count(),
            "repositories": counted.map(|(repositories, _)| repositories),
            "tags": counted.map(|(_, tags)| tags),
        })
    }

    /// What was served and fetched in each minute of the last day, and in the one under way; summed
    /// so that there are `most` points at most.
    pub fn history(&self, most: Option<u64>) -> Value {
        let totals = self.totals();
        let now = SystemTime::now();
        let points = &self.0.history;
        let points = points.points(now, totals.served_bytes, totals.fetched_bytes);
        let step = history::step(points.len(), most);
        let points = history::sum(&points, step);
        let points = points.iter().map(|point| {
            json!({
                "time": time(Some(point.time)),
                "served": point.served,
                "fetched": point.fetched,
            })
        });
        json!({ "step": step.as_secs(), "points": points.collect::<Vec<_>>() })
    }

    /// The upstreams.
    pub async fn upstreams(&self, sees: Sees) -> Value {
        let registry = &self.0.registry;
        let upstreams = registry.upstreams_now();
        let directories = upstreams.iter().map(|it| it.directory.clone());
        let directories: Vec<String> = directories.collect();
        let sizes = registry.look_soon(move |index| lists::sizes(index, &directories, &sees));
        let sizes = sizes.await;
        let is_offline = registry.is_offline().is_some();
        let json = upstreams.iter().enumerate().map(|(at, upstream)| {
            let size = sizes.as_ref().and_then(|sizes| sizes.get(at));
            upstream_json(upstream, is_offline, size.copied())
        });
        json!({ "upstreams": json.collect::<Vec<_>>() })
    }

    /// What would be evicted next.
    pub async fn evictions(&self, n: usize, sees: Sees) -> Result<Value, Error> {
        let registry = &self.0.registry;
        let next = registry.next_evictions(n, move |name| sees(name.as_str()));
        let next = next.await?.unwrap_or_default();
        let next = next.iter().map(|next| {
            let tags: Vec<&str> = next.tags.iter().map(crate::oci::Tag::as_str).collect();
            json!({
                "repository": next.repository.as_str(),
                "tags": tags,
                "digest": next.digest.as_str(),
                "frees": next.frees,
                "used": time(Some(next.used)),
            })
        });
        Ok(json!({ "next": next.collect::<Vec<_>>() }))
    }

    /// How clients are set up for this server.
    pub fn clients(&self, at: &Address) -> Value {
        let clients = self.0.clients.as_ref().map(|clients| clients(at));
        json!({ "clients": clients.unwrap_or_else(|| json!([])) })
    }

    /// How far an image is that is fetched ahead, if its repository is one that is seen.
    pub fn warming(&self, id: &str, sees: &Sees) -> Option<Value> {
        let warming = self.0.registry.warming(id)?;
        sees(&warming.repository).then(|| self::warming(&warming))
    }
}

fn upstream_json(upstream: &UpstreamNow, is_offline: bool, size: Option<(usize, u64)>) -> Value {
    let now = SystemTime::now();
    let limited = upstream.limited_until.filter(|until| *until > now);
    let down = upstream.standing.down.as_ref();
    let is_limited = matches!(down, Some(UpstreamError::RateLimited { .. })) || limited.is_some();
    let state = if is_offline {
        "offline"
    } else if is_limited {
        "limited"
    } else if down.is_some() {
        "down"
    } else if upstream.standing.since.is_some() {
        "up"
    } else {
        "unknown"
    };
    let pulls = upstream.budget.as_ref().map(|budget| {
        json!({
            "limit": budget.limit,
            "remaining": budget.remaining,
            "seen": time(Some(budget.seen)),
        })
    });
    json!({
        "name": upstream.name,
        "url": upstream.url,
        "state": state,
        "reason": down.map(ToString::to_string),
        "until": time(limited),
        "pulls": pulls,
        "images": size.map(|(images, _)| images),
        "bytes": size.map(|(_, bytes)| bytes),
    })
}

/// The sums since the start.
pub(super) fn totals(totals: &Totals) -> Value {
    let pulls = Outcome::ALL.iter().map(|outcome| {
        let count = totals.pulls.of(*outcome);
        (outcome.as_str().to_owned(), Value::from(count))
    });
    let saved = totals
        .served_mirrored_bytes
        .saturating_sub(totals.fetched_bytes);
    json!({
        "served": totals.served_bytes,
        "fetched": totals.fetched_bytes,
        "saved": saved,
        "pulls": pulls.collect::<serde_json::Map<_, _>>(),
    })
}

/// An image that is fetched ahead.
pub fn warming(warming: &Warming) -> Value {
    let (state, error) = match &warming.state {
        WarmState::Running => ("running", None),
        WarmState::Done => ("done", None),
        WarmState::Failed(why) => ("failed", Some(why)),
    };
    let layers = warming.layers.iter().map(|layer| {
        json!({
            "digest": layer.digest.as_str(),
            "size": layer.size,
            "written": layer.written,
        })
    });
    json!({
        "id": warming.id,
        "image": warming.image,
        "state": state,
        "error": error,
        "layers": layers.collect::<Vec<_>>(),
        "size": warming.layers.iter().map(|it| it.size).sum::<u64>(),
        "written": warming.layers.iter().map(|it| it.written).sum::<u64>(),
    })
}

/// A time, if it is one that can be written: what was read may be any number.
pub(super) fn time(time: Option<SystemTime>) -> Value {
    /// The beginning of the year 10000.
    const END: Duration = Duration::from_hours(70_389_528);
    let time = time.filter(|time| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        since.is_ok_and(|since| since < END)
    });
    let text = time.map(|time| humantime::format_rfc3339_seconds(time).to_string());
    text.map_or(Value::Null, Value::from)
}
