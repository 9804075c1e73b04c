//! What may be done with what is asked for.

use http::Method;

use crate::oci::route::Route;

use super::api;
use super::pushes::UPLOAD_METHODS;

/// The methods of a route, in the order in which Distribution lists them.
pub(super) fn allowed(route: &Route) -> &'static str {
    match route {
        Route::Root | Route::Base => "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT",
        Route::Api(route) => api::allowed(route),
        Route::Token { .. } | Route::Catalog(_) | Route::Tags(..) | Route::Referrers(..) => "GET",
        Route::Asset(_) | Route::Metrics => "GET, HEAD",
        Route::Manifest(..) => "DELETE, GET, HEAD, PUT",
        Route::Blob(..) => "DELETE, GET, HEAD",
        Route::Uploads(..) => "POST",
        Route::Upload(..) => UPLOAD_METHODS,
    }
}

/// Whether the answer says in `X-Cache` how it was made.
pub(super) fn is_pull(route: &Route, method: &Method) -> bool {
    let reads = *method == Method::GET || *method == Method::HEAD;
    reads
        && matches!(
            route,
            Route::Manifest(..)
                | Route::Blob(..)
                | Route::Tags(..)
                | Route::Catalog(_)
                | Route::Referrers(..)
        )
}
