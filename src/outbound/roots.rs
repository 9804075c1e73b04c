//! Whom this machine trusts.

use std::sync::{Arc, LazyLock};

use rustls::RootCertStore;

static SYSTEM: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    if roots.is_empty() {
        tracing::debug!("no root certificates on this machine: Mozilla's are used");
        let mozilla = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
        roots.add_parsable_certificates(mozilla.iter().cloned());
    }
    Arc::new(roots)
});

/// Whom this machine trusts; what Mozilla trusts, on a machine without an opinion (a container
/// from `scratch`).
///
/// Read at the first request for it, which takes some 20 ms, and shared from then on.
pub fn system_roots() -> Arc<RootCertStore> {
    Arc::clone(&SYSTEM)
}
