//! The wire: HTTP/1.1 and HTTP/2 in, in the clear or by TLS, [`Route`](crate::oci::Route) to the registry, content and errors out.
//!
//! Statuses, headers and bodies exist only here. Handlers return domain errors; one function
//! turns each into an answer, and one place writes the request's line in the log.

mod accesslog;
mod admission;
mod alarm;
mod answer;
mod api;
mod around;
mod asked;
mod body;
mod conditions;
mod connections;
mod console;
mod copying;
mod crowd;
mod debug;
mod error;
mod events;
mod handler;
mod http2;
mod listener;
mod measured;
mod methods;
mod pulls;
mod pushes;
mod sendfile;
mod server;
mod stall;
mod tls;
mod token;

pub use accesslog::AccessLog;
pub use around::Surroundings;
pub use debug::{Debug, DebugServer};
pub use handler::{Handler, HeaderError, Manners, headers};
pub use listener::Given;
pub use server::{Limits, Listen, Server, ServerError, Stop};
pub use tls::{ClientAuth, Tls, TlsError, TlsSettings};
