//! `larder serve`: the configuration taken apart, the parts put together, and signals.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::acme::Acme;
use crate::config::{Config, Level};
use crate::console::{Address, Console};
use crate::http::{Given, Handler, Limits, Server, Stop};
use crate::registry::Registry;
use crate::store::Store;
use crate::traces;

use super::reload::Running;
use super::services::Services;
use super::setup::shown::Shown;
use super::supervisor::{self, State};
use super::{ConfigFile, adopt, files, greet, log, parts};

/// How long a read or write that is under way at the very end may take.
const LAST_WRITES: Duration = Duration::from_secs(5);

pub(super) fn run(file: &ConfigFile) -> Result<(), String> {
    super::allocator::settle();
    let config = file.load()?;
    log::start(&config.log, &config.log.fields);
    warn_of(&config);
    // Before there are threads: what is taken over is taken out of the environment.
    let given = supervisor::socket()?;
    let files = files::raise();
    // Dropped last, when the last span has ended.
    let _sending = traces::start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(serve(config, file, files, given))?;
    // What is being written is written to its end. This also joins the threads: detaching one
    // that is just ending, as a runtime that is dropped at once does, can crash in glibc.
    runtime.shutdown_timeout(LAST_WRITES);
    Ok(())
}

/// Says what in the configuration does not do what its author may expect.
pub(super) fn warn_of(config: &Config) {
    for warning in &config.warnings {
        match warning.level {
            Level::Error | Level::Warn => tracing::warn!("{warning}"),
            Level::Info | Level::Debug => tracing::info!("{warning}"),
        }
    }
}

async fn serve(
    config: Config,
    file: &ConfigFile,
    files: Option<u64>,
    given: Option<Given>,
) -> Result<(), String> {
    // Before anybody is told that we are here: a signal that nobody catches ends the process.
    let signals = Signals::catch()?;
    let secret = uuid::Uuid::new_v4().to_string() + &uuid::Uuid::new_v4().to_string();
    let upstreams = parts::upstreams(&config, &parts::Upstreams::new())?;
    let settings = parts::registry(&config)?;
    let store = open_store(&config).await?;
    let default = config.upstreams.default.as_ref().map(ToString::to_string);
    let registry = Registry::new(settings, store, parts::working(&upstreams), default);
    let registry = registry.map_err(|error| error.to_string())?;
    let acme = parts::acme(&config);
    let limits = parts::limits(&config, files);
    let server = bind(&config, acme.as_ref(), limits, given).await?;
    files::tell(files, limits.connections);
    // It may make a file with a password that is said once: not if somebody else has the port.
    let access = parts::access(&config, &secret)?;
    let handler = Handler::new(registry.clone(), parts::manners(&config, access.clone())?);
    let stop = Stop {
        token: CancellationToken::new(),
        patience: config.http.drain_timeout,
    };
    let (token, port) = (stop.token.clone(), server.port().unwrap_or_default());
    let services = Services::start(parts::services(&config), &registry, port, token).await?;
    greet::greet(&config, &server)?;
    if let Ok(Some(name)) = registry.names().local_in_library() {
        tracing::warn!(
            "{name} was stored by another registry: it counts as local, and is not kept up to date from docker.io; move the directory repositories/library away to mirror it afresh"
        );
    }
    let renewing = acme.clone().map(|acme| renew(acme, stop.token.clone()));
    keep_house(&registry);
    let shown = Shown::new(&config, server.port());
    let console = console(&registry, &shown, stop.token.clone());
    let handler = handler.among(services.around()).with_console(console);
    let running = Running {
        file: file.clone(),
        registry: registry.clone(),
        handler: handler.clone(),
        tls: server.tls(),
        acme,
        config,
        upstreams,
        access,
        secret,
        shown,
    };
    let signals = signals.watch(stop.token.clone(), running);
    supervisor::tell(State::Ready);
    let finished = server.run(handler, stop).await;
    if !finished {
        tracing::warn!("some answers were not finished in time");
    }
    // Fills go on until here: the answers that were just finished may have been waiting for them.
    registry.stop().await;
    services.stop().await;
    if let Some(renewing) = renewing {
        // Why it ended early, if it did, is in the log.
        _ = renewing.await;
    }
    signals.abort();
    tracing::info!("stopped");
    Ok(())
}

fn console(registry: &Registry, shown: &Shown, stop: CancellationToken) -> Console {
    let shown = shown.clone();
    let clients = Box::new(move |asked: &Address| shown.texts(asked));
    let console = Console::with_clients(registry.clone(), stop, Some(clients));
    console.keep_history();
    console
}

/// Opens the data directory, and takes over what an old cache has left there.
async fn open_store(config: &Config) -> Result<Store, String> {
    let config = config.clone();
    let opening = tokio::task::spawn_blocking(move || {
        let store = Store::open(&config.storage.root).map_err(|error| error.to_string())?;
        adopt::adopt(&store, &config)?;
        Ok(store)
    });
    opening.await.map_err(|error| error.to_string())?
}

/// A socket that was given counts, and not the address that is configured.
async fn bind(
    config: &Config,
    acme: Option<&Acme>,
    limits: Limits,
    given: Option<Given>,
) -> Result<Server, String> {
    let tls = parts::tls(config, acme);
    let server = match given {
        Some(given) => Server::on(given, tls, limits),
        None => Server::bind(&parts::listen(config), tls, limits).await,
    };
    let server = server.map_err(|error| error.to_string())?;
    let server = server.with_h2c(config.http.h2c);
    Ok(server.with_sendfile(config.http.sendfile))
}

/// What goes on in the background for as long as the registry runs.
fn keep_house(registry: &Registry) {
    registry.keep_swept();
    registry.keep_upstreams_noted();
    registry.keep_collected();
    registry.keep_within_limits();
    registry.keep_warm();
    registry.keep_indexed();
}

/// Gets and renews the certificate until larder stops.
fn renew(acme: Acme, stop: CancellationToken) -> tokio::task::JoinHandle<()> {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is no work of the registry's, and is waited for by who starts it"
    )]
    tokio::spawn(acme.keep(stop))
}

/// The first signal to terminate or interrupt asks to stop, the second does not ask. A hang-up
/// asks to read the configuration again.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn catch() -> Result<Self, String> {
        let catch =
            |kind| signal(kind).map_err(|error| format!("cannot watch for signals: {error}"));
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
            hangup: catch(SignalKind::hangup())?,
        })
    }

    fn watch(
        mut self,
        stop: CancellationToken,
        mut running: Running,
    ) -> tokio::task::JoinHandle<()> {
        let watching = async move {
            loop {
                tokio::select! {
                    _ = self.terminate.recv() => {}
                    _ = self.interrupt.recv() => {}
                    _ = self.hangup.recv() => {
                        supervisor::tell(State::Reloading);
                        running = running.reload().await;
                        supervisor::tell(State::Ready);
                        continue;
                    }
                }
                if stop.is_cancelled() {
                    tracing::warn!("stopping at once");
                    std::process::exit(1);
                }
                tracing::info!(
                    "stopping: waiting for answers under way (a second signal stops at once)"
                );
                supervisor::tell(State::Stopping);
                stop.cancel();
            }
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "this task ends with the process, not with the registry's work"
        )]
        tokio::spawn(watching)
    }
}
