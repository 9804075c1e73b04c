//! Any `WWW-Authenticate` lines are a challenge that can be met, or none.
#![no_main]

use larder::upstream::challenge::{Challenge, choose};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|lines: Vec<&str>| {
    if let Some(Challenge::Bearer(bearer)) = choose(lines) {
        assert!(!bearer.realm.is_empty());
    }
});
