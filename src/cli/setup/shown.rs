//! The same texts for the console: they follow the configuration in force.

use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Value, json};

use crate::config::Config;
use crate::console;
use crate::setup;

use super::about::{self, Address};

/// What clients are told, by the configuration in force. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    config: Arc<RwLock<Arc<Config>>>,
    /// Where it really listens.
    port: Option<u16>,
}

impl Shown {
    pub(crate) fn new(config: &Config, port: Option<u16>) -> Self {
        let config = Arc::new(RwLock::new(Arc::new(config.clone())));
        Self { config, port }
    }

    /// Goes on with another configuration.
    pub(crate) fn reload(&self, config: &Config) {
        let mut current = self.config.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(config.clone());
    }

    /// The texts for an address by which somebody has reached this larder. One that only this
    /// machine has is of no use to others: then it is the one that the configuration gives.
    pub(crate) fn texts(&self, asked: &console::Address) -> Value {
        let config = self.config.read();
        let config = Arc::clone(&config.unwrap_or_else(PoisonError::into_inner));
        let about = |(place, is_tls): (String, bool)| {
            let scheme = if is_tls { "https" } else { "http" };
            let address: Address = format!("{scheme}://{place}").parse().ok()?;
            let known = about::about(&config, Some(&address), None);
            known.ok().map(|known| known.about)
        };
        let asked = about((asked.host.clone(), asked.is_tls));
        let reached = asked.clone().filter(|about| !about.is_loopback());
        let chosen = reached.or_else(|| {
            let (place, is_tls, _) = about::public(&config, self.port).ok()?;
            about((place, is_tls))
        });
        json!(
            chosen
                .or(asked)
                .map_or_else(Vec::new, |about| setup::texts(&about))
        )
    }
}
