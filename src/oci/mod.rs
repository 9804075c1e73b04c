//! The wire's vocabulary: what clients, upstreams and the tree on disk say to one another, as
//! types that cannot hold a wrong value.
//!
//! Everything here is pure: no async, no I/O, no clock. Text from outside is parsed once, at the
//! edge, into these types; what is behind the edge never sees a raw name, digest or range.
//! Nothing here knows of HTTP libraries, of files, or of which repository is local.

pub mod accept;
pub mod api;
pub mod contents;
pub mod digest;
pub mod error;
pub mod image;
pub mod manifest;
pub mod media;
pub mod name;
pub mod platform;
pub mod range;
pub mod reference;
pub mod references;
pub mod referrer;
pub mod route;
pub mod walk;

pub use api::{ApiRoute, ListOrder, ListPart, ListPlace};
pub use contents::Contents;
pub use digest::{Algorithm, Digest, Hasher};
pub use error::ErrorCode;
pub use image::{Image, ImagePattern};
pub use manifest::Manifest;
pub use media::MediaType;
pub use name::RepositoryName;
pub use platform::{Platform, PlatformName};
pub use range::ByteRange;
pub use reference::{Reference, Tag};
pub use references::References;
pub use referrer::Referrer;
pub use route::{Page, Route, Target};
pub use walk::{Anatomy, ImagePart, Role, Walk, WalkError};
