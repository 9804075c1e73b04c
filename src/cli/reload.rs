//! SIGHUP: the configuration is read again while everything goes on.
//!
//! Everything that is new is made first. Only when all of it could be made does any of it hold; a
//! mistake changes nothing, and is in the log.

use crate::access::Access;
use crate::acme::Acme;
use crate::config::{AuthScheme, Config, LetsEncrypt};
use crate::http::{Handler, Tls};
use crate::registry::Registry;

use super::setup::shown::Shown;
use super::{ConfigFile, parts, serve};

/// What is running, and what it was made from.
pub(super) struct Running {
    pub(super) file: ConfigFile,
    pub(super) registry: Registry,
    pub(super) handler: Handler,
    pub(super) tls: Option<Tls>,
    pub(super) acme: Option<Acme>,
    pub(super) config: Config,
    pub(super) upstreams: parts::Upstreams,
    pub(super) access: Access,
    pub(super) secret: String,
    pub(super) shown: Shown,
}

impl Running {
    /// Reads the configuration again, and goes on with it if it is sound.
    pub(super) async fn reload(self) -> Self {
        // Files are read, and a new users' file may be made.
        match tokio::task::spawn_blocking(move || self.reloaded()).await {
            Ok(running) => running,
            // The state is lost with the task; going on as if it were not would be worse.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    fn reloaded(mut self) -> Self {
        match self.try_reload() {
            Ok(()) => tracing::info!("the configuration has been read again"),
            Err(error) => {
                tracing::error!("the configuration stays as it was: {error}");
            }
        }
        self
    }

    fn try_reload(&mut self) -> Result<(), String> {
        let config = self.file.load()?;
        // A file of users is read again by itself, and who is known stays known. The files of a
        // token service are read now.
        let by_token = matches!(config.auth.scheme, AuthScheme::Token(_));
        let same_users = !by_token
            && config.auth == self.config.auth
            && config.http.secret == self.config.http.secret;
        let access = if same_users {
            self.access.clone()
        } else {
            parts::access(&config, &self.secret)?
        };
        let upstreams = parts::upstreams(&config, &self.upstreams)?;
        let settings = parts::registry(&config)?;
        let manners = parts::manners(&config, access.clone())?;
        let default = config.upstreams.default.as_ref().map(ToString::to_string);
        let (new, old) = (parts::working(&upstreams), &self.registry);
        let holds = old.check_holds(&settings, new.clone(), default.clone());
        holds.map_err(|error| error.to_string())?;
        if let (Some(tls), Some(settings)) = (&self.tls, parts::tls(&config, self.acme.as_ref())) {
            tls.reload(settings).map_err(|error| error.to_string())?;
        }
        let reloaded = old.reload(settings, new, default);
        reloaded.map_err(|error| error.to_string())?;
        self.handler.reload(manners);
        self.shown.reload(&config);
        serve::warn_of(&config);
        for key in needing_a_restart(&self.config, &config) {
            tracing::warn!("{key} has changed: that takes effect when larder is started again");
        }
        (self.upstreams, self.access, self.config) = (upstreams, access, config);
        Ok(())
    }
}

fn authority(config: &Config) -> Option<&LetsEncrypt> {
    config.http.tls.as_ref()?.lets_encrypt.as_ref()
}

/// What is different and cannot be changed while serving.
fn needing_a_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let (was, is) = (&old.http, &new.http);
    let changes = [
        ("log", old.log != new.log),
        (
            "storage.filesystem.rootdirectory",
            old.storage.root != new.storage.root,
        ),
        ("http.addr", was.listen != is.listen),
        ("http.tls", was.tls.is_some() != is.tls.is_some()),
        ("http.tls.letsencrypt", authority(old) != authority(new)),
        ("http.h2c", was.h2c != is.h2c),
        ("http.sendfile", was.sendfile != is.sendfile),
        ("http.draintimeout", was.drain_timeout != is.drain_timeout),
        ("http.connections", was.connections != is.connections),
        ("http.headtimeout", was.head_timeout != is.head_timeout),
        ("http.stalltimeout", was.stall_timeout != is.stall_timeout),
        ("http.debug", was.debug != is.debug),
        ("notifications", old.notifications != new.notifications),
        ("health", old.health != new.health),
    ];
    let differ = changes.into_iter().filter(|(_, differs)| *differs);
    differ.map(|(key, _)| key).collect()
}
