//! The integration tests: the real binary, real clients, a real disk, and a hub with faults.
#![expect(
    clippy::too_many_lines,
    reason = "a table of cases, or a story in several acts, is read as one"
)]
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and make and break files as they like"
)]

mod access;
mod access_log;
mod acme;
mod adopt;
mod architecture;
mod bundle;
mod clients;
mod collect;
mod configuration;
mod conformance;
mod console_api;
mod console_page;
mod crowds;
mod doctor;
mod documents;
mod evict;
mod full_disk;
mod health;
mod hostile_upstream;
mod http2;
mod hub_itself;
mod laws;
mod logs;
mod ls;
mod metrics;
mod mirror_blobs;
mod mirror_referrers;
mod mirror_tags;
mod names;
mod notifications;
mod offline;
mod packaging;
mod programs_themselves;
mod recall;
mod registry;
mod reload;
mod repair;
mod setup;
mod support;
mod tls;
mod token_service_itself;
#[cfg(feature = "otel")]
mod traces;
mod upstream_itself;
mod verify;
mod warm;
