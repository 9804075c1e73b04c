//! Ending long work early, and tidily: the first signal asks for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

/// Whether somebody wants this process to end.
#[derive(Clone, Debug, Default)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Catches SIGINT and SIGTERM from now on. The second one ends the process at once.
    pub(super) fn catch() -> Result<Self, String> {
        let wrong = |error: std::io::Error| format!("cannot watch for signals: {error}");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(wrong)?;
        let interrupted = Self::default();
        let asked = Arc::clone(&interrupted.0);
        let (mut interrupt, mut terminate) = {
            let _inside = runtime.enter();
            let interrupt = signal(SignalKind::interrupt()).map_err(wrong)?;
            (interrupt, signal(SignalKind::terminate()).map_err(wrong)?)
        };
        thread::spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    if asked.swap(true, Ordering::Relaxed) {
                        std::process::exit(1);
                    }
                }
            });
        });
        Ok(interrupted)
    }

    pub(super) fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
