//! The upstreams: what the larder that serves the directory last knew of them.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::config::Config;
use crate::store::{BudgetNote, UpstreamNote, UpstreamState, UpstreamsHint};

use super::row::{ago, date, short};
use super::table::{Table, width};

const HEAD: [&str; 6] = ["UPSTREAM", "STATE", "SINCE", "PULLS LEFT", "TOLD", "WHY"];

pub(super) fn list(config: &Config, is_json: bool, now: SystemTime) -> String {
    let hint = UpstreamsHint::read(&config.storage.root).unwrap_or_default();
    let nothing = UpstreamNote::default();
    let notes: Vec<_> = config
        .upstreams
        .all
        .keys()
        .map(|name| {
            let name = name.as_str();
            (name, hint.upstreams.get(name).unwrap_or(&nothing))
        })
        .collect();
    let is_offline = config.cache.offline || hint.offline;
    let default = config.upstreams.default.as_ref();
    if is_json {
        let upstreams: Vec<_> = notes
            .iter()
            .map(|(name, note)| as_json(name, note, default.is_some_and(|it| it.as_str() == *name)))
            .collect();
        let all =
            json!({"offline": is_offline, "upstreams": upstreams, "written": time(hint.written)});
        return format!("{all:#}\n");
    }
    let mut table = Table::new(HEAD);
    for (name, note) in notes {
        table.add(cells(name, note, now));
    }
    written(&table, is_offline)
}

/// The same, as a larder elsewhere tells it.
pub(super) fn told(told: &Value, is_json: bool, now: SystemTime) -> String {
    if is_json {
        return format!("{told:#}\n");
    }
    let mut table = Table::new(HEAD);
    for upstream in told["upstreams"].as_array().into_iter().flatten() {
        table.add(told_cells(upstream, now));
    }
    written(&table, told["offline"] == true)
}

fn written<const N: usize>(table: &Table<N>, is_offline: bool) -> String {
    let text = table.text(None);
    let text = match width() {
        // The reason stands last: whoever wants all of it can make room for it.
        Some(width) => text.lines().map(|line| fitted(line, width)).collect(),
        None => text,
    };
    if is_offline {
        text + "offline: no upstream is asked\n"
    } else {
        text
    }
}

fn told_cells(told: &Value, now: SystemTime) -> [String; 6] {
    // It goes to a terminal, and another program has written it.
    let text = |value: &Value| {
        let shown = value.as_str().unwrap_or_default().chars();
        shown.filter(|c| !c.is_control()).collect::<String>()
    };
    let time = |value: &Value| humantime::parse_rfc3339(value.as_str()?).ok();
    let dash = || "-".to_owned();
    let pulls = &told["pulls"];
    let left = match (&pulls["remaining"], &pulls["limit"]) {
        (Value::Number(remaining), Value::Number(limit)) => format!("{remaining} of {limit}"),
        _ => dash(),
    };
    let until = time(&told["until"]).and_then(|until| until.duration_since(now).ok());
    let state = match text(&told["state"]).as_str() {
        "unknown" => dash(),
        state => state.to_owned(),
    };
    [
        text(&told["name"]),
        state,
        dash(),
        left,
        time(&pulls["seen"]).map_or_else(dash, |seen| ago(seen, now)),
        until.map_or_else(|| text(&told["reason"]), left_alone),
    ]
}

fn left_alone(time: Duration) -> String {
    format!("wants to be left alone for {}", short(time))
}

fn fitted(line: &str, width: usize) -> String {
    let line: String = line.chars().take(width.max(80)).collect();
    line + "\n"
}

fn word(note: &UpstreamNote, now: SystemTime) -> &'static str {
    let until = note.limited();
    if until.is_some_and(|until| until > now) {
        return "limited";
    }
    match note.state {
        UpstreamState::Unknown => "-",
        UpstreamState::Up => "up",
        UpstreamState::Down => "down",
    }
}

fn cells(name: &str, note: &UpstreamNote, now: SystemTime) -> [String; 6] {
    let dash = || "-".to_owned();
    let past = |seconds: Option<u64>| {
        let time = seconds.and_then(UpstreamsHint::time);
        time.map_or_else(dash, |time| ago(time, now))
    };
    let until = note.limited();
    let left = until.and_then(|until| until.duration_since(now).ok());
    let why = match (left, &note.reason) {
        (Some(left), _) => left_alone(left),
        (None, Some(reason)) => reason.clone(),
        (None, None) => String::new(),
    };
    [
        name.to_owned(),
        word(note, now).to_owned(),
        past(note.since),
        note.budget.as_ref().map_or_else(dash, budget),
        past(note.budget.as_ref().map(|budget| budget.seen)),
        why,
    ]
}

/// `87 of 100 in 6h`
fn budget(budget: &BudgetNote) -> String {
    let window = budget.window.map(Duration::from_secs);
    let window = window.map_or_else(String::new, |window| format!(" in {}", short(window)));
    format!("{} of {}{window}", budget.remaining, budget.limit)
}

fn time(seconds: u64) -> Option<String> {
    date(UpstreamsHint::time(seconds).filter(|_| seconds > 0)?)
}

fn as_json(name: &str, note: &UpstreamNote, is_default: bool) -> Value {
    let budget = note.budget.as_ref().map(|budget| {
        json!({
            "limit": budget.limit,
            "remaining": budget.remaining,
            "window": budget.window,
            "source": budget.source,
            "seen": time(budget.seen),
        })
    });
    json!({
        "name": name,
        "default": is_default,
        "state": match note.state {
            UpstreamState::Unknown => "unknown",
            UpstreamState::Up => "up",
            UpstreamState::Down => "down",
        },
        "since": note.since.and_then(time),
        "reason": note.reason,
        "limited_until": note.limited().and_then(date),
        "budget": budget,
    })
}
