//! larder
pub mod oci;
