//! Whom the relay's certificate has to convince.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::SettingsError;
use crate::files;

/// TLS 1.2 or 1.3 that trusts the system's authorities and those of `ca_file`.
pub(super) fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, SettingsError> {
    let mut roots = RootCertStore::empty();
    // A certificate of the system that rustls cannot read only means that it is not trusted.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let broken = |detail: String| SettingsError::CaFile { path: path.to_owned(), detail };
        let mut pem = Vec::new();
        files::open(path).and_then(|mut file| file.read_to_end(&mut pem)).map_err(|error| broken(error.to_string()))?;
        let mut found = false;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| broken(error.to_string()))?;
            roots.add(certificate).map_err(|error| broken(error.to_string()))?;
            found = true;
        }
        if !found {
            return Err(broken("it holds none".into()));
        }
    }
    if roots.is_empty() {
        return Err(SettingsError::NoRoots);
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
