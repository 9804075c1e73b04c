//! The wire: HTTP/1.1 in, in the clear or by TLS, [`Route`](crate::oci::Route) to the registry, content and errors out.
//!
//! Statuses, headers and bodies exist only here. Handlers return domain errors; one function
//! turns each into an answer, and one place writes the request's line in the log.

mod answer;
mod body;
mod conditions;
mod error;
mod handler;
mod pulls;
mod pushes;
mod server;
mod stall;
mod tls;

pub use handler::{Handler, HandlerError};
pub use server::{Listen, Server, ServerError, Stop};
pub use tls::{ClientAuth, TlsError, TlsSettings};
