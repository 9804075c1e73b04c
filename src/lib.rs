//! larder: a pull-through mirror of Docker Hub and other registries, and a registry that keeps
//! what is pushed.
pub mod config;
pub mod oci;
pub mod registry;
pub mod store;
pub mod upstream;
