//! The lines that a test's thread logs, while other tests run in other threads.

use tracing::subscriber::{DefaultGuard, NoSubscriber, set_default};
use tracing::{Dispatch, Subscriber};

/// Somebody who listens, for as long as this lives.
pub(crate) struct Listening {
    _here: DefaultGuard,
    _other: Dispatch,
}

/// Lets a subscriber hear what this thread logs.
pub(crate) fn listen(subscriber: impl Subscriber + Send + Sync + 'static) -> Listening {
    // Where there is one subscriber alone, tracing asks the thread that comes to a line first whether
    // anybody wants it, for good: that of another test says no. Where there are two, it asks both.
    let other = Dispatch::new(NoSubscriber::new());
    let here = set_default(subscriber);
    // Lines that others came to in between.
    tracing::callsite::rebuild_interest_cache();
    Listening {
        _here: here,
        _other: other,
    }
}

#[test]
fn a_line_that_another_thread_came_to_first_is_heard() {
    use super::inside::Paper;

    fn log_line() {
        tracing::debug!("said in both");
    }
    let paper = Paper::default();
    let written = paper.clone();
    let lines = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || written.clone());
    let listening = listen(lines.finish());
    std::thread::spawn(log_line).join().expect("a thread");
    log_line();
    drop(listening);
    assert_eq!(paper.text().matches("said in both").count(), 1);
}
