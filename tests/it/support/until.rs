//! Waiting for what tells nobody when it comes: whatever does tell is waited for in its own way.

use std::time::Duration;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a test waits for something that should happen soon.
const PATIENCE: Duration = Duration::from_secs(20);

/// Looks again and again until it is so; a panic with `what` was waited for if it never is.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !is_so().await {
            tokio::time::sleep(PAUSE).await;
        }
    };
    let looked = tokio::time::timeout(PATIENCE, looking).await;
    assert!(looked.is_ok(), "waited in vain until {what}");
}
