//! Any path and query is a route or an error; a route's name is always a safe relative path.
#![no_main]

use larder::oci::route::{Route, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let (path, query) = match input.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (input, None),
    };
    let target = match parse(path, query) {
        Ok(
            Route::Tags(target, _)
            | Route::Manifest(target, ..)
            | Route::Blob(target, _)
            | Route::Uploads(target, _)
            | Route::Upload(target, _)
            | Route::Referrers(target, ..),
        ) => target,
        _ => return,
    };
    for step in target.name.as_str().split('/') {
        assert!(!step.is_empty() && !step.starts_with(['.', '_']) && !step.contains('\0'));
    }
});
