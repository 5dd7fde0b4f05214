//! Certificates and TLS for sinks.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::SinkError;

/// Certificates in a PEM file: one at least.
pub(super) fn certificates(
    sink: &str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, SinkError> {
    let pem = std::fs::read(path).map_err(|source| SinkError::Read {
        sink: sink.to_owned(),
        path: path.to_owned(),
        source,
    })?;
    let bad = |reason: String| SinkError::Certificate {
        sink: sink.to_owned(),
        path: path.to_owned(),
        reason,
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|error| bad(error.to_string()))?;
    if found.is_empty() {
        return Err(bad("no CERTIFICATE section".to_owned()));
    }
    Ok(found)
}

/// A client that trusts the certificates in `ca_file`, or the public ones without it.
pub(super) fn client(
    sink: &str,
    ca_file: Option<&Path>,
) -> Result<Arc<rustls::ClientConfig>, SinkError> {
    let mut roots = rustls::RootCertStore::empty();
    match ca_file {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            for certificate in certificates(sink, path)? {
                roots.add(certificate).map_err(|error| SinkError::Certificate {
                    sink: sink.to_owned(),
                    path: path.to_owned(),
                    reason: error.to_string(),
                })?;
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|source| SinkError::Tls { sink: sink.to_owned(), source })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
