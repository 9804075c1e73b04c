//! `notifications`, `health` and `validation`.

use super::super::units::format_duration;
use super::super::{Check, Health, Notifications, Platforms, Validation};
use super::lines::{Lines, bool, headers, list, quote};

pub(super) fn notifications(out: &mut Lines, notifications: &Notifications) {
    out.open(0, "notifications");
    let references = bool(notifications.include_references);
    out.pair(1, "events", &format!("{{includereferences: {references}}}"));
    if notifications.endpoints.is_empty() {
        return;
    }
    out.open(1, "endpoints");
    for endpoint in &notifications.endpoints {
        let media_types = list(&endpoint.ignored_media_types);
        let actions = list(&endpoint.ignored_actions);
        let pairs = [
            ("name", quote(&endpoint.name)),
            ("url", quote(endpoint.url.as_str())),
            ("headers", headers(&endpoint.headers)),
            ("timeout", format_duration(endpoint.timeout)),
            ("threshold", endpoint.threshold.to_string()),
            ("backoff", format_duration(endpoint.backoff)),
            (
                "ignore",
                format!("{{mediatypes: {media_types}, actions: {actions}}}"),
            ),
        ];
        out.item(2, &pairs);
    }
}

pub(super) fn health(out: &mut Lines, health: &Health) {
    out.open(0, "health");
    out.open(1, "storagedriver");
    out.pair(2, "enabled", bool(health.storage.is_some()));
    if let Some(storage) = &health.storage {
        for (key, value) in check(storage) {
            out.pair(2, key, &value);
        }
    }
    let items = health.files.iter().map(|file| {
        let place = [("file", quote(&file.file.to_string_lossy()))];
        with_check(place, &file.check)
    });
    checks(out, "file", items);
    let items = health.http.iter().map(|http| {
        let place = [
            ("uri", quote(http.uri.as_str())),
            ("headers", headers(&http.headers)),
            ("statuscode", http.status.to_string()),
            ("timeout", format_duration(http.timeout)),
        ];
        with_check(place, &http.check)
    });
    checks(out, "http", items);
    let items = health.tcp.iter().map(|tcp| {
        let place = [
            ("addr", quote(&tcp.addr)),
            ("timeout", format_duration(tcp.timeout)),
        ];
        with_check(place, &tcp.check)
    });
    checks(out, "tcp", items);
}

type Pairs = Vec<(&'static str, String)>;

fn checks(out: &mut Lines, key: &str, items: impl ExactSizeIterator<Item = Pairs>) {
    if items.len() > 0 {
        out.open(1, key);
    }
    for pairs in items {
        out.item(2, &pairs);
    }
}

fn with_check<const N: usize>(place: [(&'static str, String); N], how: &Check) -> Pairs {
    place.into_iter().chain(check(how)).collect()
}

fn check(check: &Check) -> [(&'static str, String); 2] {
    [
        ("interval", format_duration(check.interval)),
        ("threshold", check.threshold.to_string()),
    ]
}

pub(super) fn validation(out: &mut Lines, validation: &Validation) {
    out.open(0, "validation");
    out.pair(1, "disabled", bool(!validation.enabled));
    out.open(1, "manifests");
    out.open(2, "urls");
    out.pair(3, "allow", &list(&validation.urls_allow));
    out.pair(3, "deny", &list(&validation.urls_deny));
    out.open(2, "indexes");
    let (word, platforms) = match &validation.platforms {
        Platforms::All => ("all", &[][..]),
        Platforms::None => ("none", &[][..]),
        Platforms::List(platforms) => ("list", platforms.as_slice()),
    };
    out.pair(3, "platforms", word);
    if !platforms.is_empty() {
        out.open(3, "platformlist");
    }
    for platform in platforms {
        let pairs = [
            ("os", quote(&platform.os)),
            ("architecture", quote(&platform.architecture)),
        ];
        out.item(4, &pairs);
    }
}
