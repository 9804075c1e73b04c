//! larder: a pull-through mirror of Docker Hub and other registries that fills itself as people
//! pull, and a registry that keeps what people push.
//!
//! # Reading order
//!
//! Five files tell what the product does:
//!
//! 1. [`oci::route`]: what a path asks for
//! 2. [`http`]'s `handler`: from a request to its answer
//! 3. [`registry`]'s `pull`: from the disk, or from the upstream
//! 4. [`registry`]'s `fill`: one download for all who wait
//! 5. [`store`]'s `link`: what makes content a repository's
//!
//! # The house
//!
//! ```text
//! main ─▶ cli ─▶ http ─▶ registry ─▶ store ─────▶ oci
//!          │      │         └──────▶ upstream ──▶ oci
//!          │      ├───▶ console (the page and its JSON) ─▶ registry
//!          │      └───▶ access, events, health
//!          ├───▶ acme ──▶ store, for its file
//!          ├───▶ bundle ─▶ registry, store
//!          └───▶ config, which is plain data
//!                http, registry, upstream ─▶ metrics, a leaf
//! ```
//!
//! Arrows point one way, and a test holds them. `oci` is pure; `store` is synchronous and knows
//! nothing of HTTP; `store` and `upstream` never see each other; statuses and headers exist in
//! `http` only (and their counterparts where requests are sent); nobody but `cli` is handed the
//! whole configuration.

pub mod access;
pub mod acme;
pub mod bundle;
pub mod cli;
pub mod config;
pub mod console;
pub mod events;
pub mod health;
pub mod http;
pub mod metrics;
pub mod oci;
pub mod outbound;
pub mod registry;
pub mod store;
pub mod upstream;
