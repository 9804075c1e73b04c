//! What the tests stand on: a hub with faults, images, and real programs.

pub(crate) mod authority;
pub(crate) mod disk;
pub(crate) mod hub;
pub(crate) mod image;
pub(crate) mod inside;
pub(crate) mod jwt;
pub(crate) mod listening;
pub(crate) mod programs;
pub(crate) mod receiver;
pub(crate) mod signer;
pub(crate) mod token_service;
pub(crate) mod tree;
pub(crate) mod until;
