//! TLS to a server: who is trusted, who we are, and what is said when that does not fit.
//!
//! The provider of ciphers is named here and not left to the process: rustls would panic where an application has installed none.

use crate::error::{Error, Result};
use std::sync::Arc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error as TlsError, RootCertStore};

/// Whom to trust, and who we are. Certificates and keys are PEM.
#[derive(Clone, Default)]
pub struct Tls {
    /// The certificates of the authorities to trust; the system's if there are none.
    pub ca: Option<Vec<u8>>,
    /// Our certificate, and those up to the authority that the server trusts.
    pub certificate: Option<Vec<u8>>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// The name that the server's certificate is for, if that is not the host's.
    pub server_name: Option<String>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// What opens a TLS connection.
#[derive(Clone)]
pub struct Opener {
    /// Its configuration.
    pub connector: TlsConnector,
    server_name: Option<String>,
}

impl Opener {
    /// From options.
    ///
    /// # Errors
    ///
    /// A configuration error that names the option.
    pub fn new(tls: &Tls) -> Result<Self> {
        let roots = match &tls.ca {
            Some(ca) => own_roots(ca)?,
            None => system_roots()?,
        };
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().map_err(|error| bad("tls", &error, "report this"))?;
        let config = config.with_root_certificates(roots);
        let config = match (&tls.certificate, &tls.key) {
            (None, None) => config.with_no_client_auth(),
            (Some(certificate), Some(key)) => {
                let chain = certificates("tls.certificate", certificate)?;
                let key = PrivateKeyDer::from_pem_slice(key);
                let key =
                    key.map_err(|error| bad("tls.key", &error, "give the PEM of the certificate's private key"))?;
                let cure = "give a certificate and the private key that belongs to it";
                config.with_client_auth_cert(chain, key).map_err(|error| bad("tls.certificate", &error, cure))?
            }
            _ => return Err(Error::config("tls", "a certificate or a key alone", "give both or none")),
        };
        if let Some(name) = &tls.server_name {
            let cure = "give the DNS name or address in the server's certificate";
            ServerName::try_from(name.as_str()).map_err(|error| bad("tls.server_name", &error, cure))?;
        }
        Ok(Opener { connector: Arc::new(config).into(), server_name: tls.server_name.clone() })
    }

    /// The name that the certificate of this host has to be for.
    pub fn name(&self, host: &str) -> std::io::Result<ServerName<'static>> {
        let name = self.server_name.as_deref().unwrap_or(host);
        ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)
    }
}

fn bad(option: &str, error: &dyn std::fmt::Display, cure: &str) -> Error {
    Error::config(option, error.to_string(), cure)
}

fn certificates(option: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let all: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| bad(option, &error, "give certificates as PEM"))?;
    if all.is_empty() {
        Err(Error::config(option, "no certificate in it", "give certificates as PEM"))
    } else {
        Ok(all)
    }
}

fn own_roots(ca: &[u8]) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("tls.ca", ca)? {
        roots.add(certificate).map_err(|error| bad("tls.ca", &error, "give the certificate of the authority"))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(Error::config(
            "tls.ca",
            "none, and the system has none either",
            "give the authority's PEM as tls.ca",
        ));
    }
    Ok(roots)
}

/// What to do about a handshake that failed.
pub fn cure(error: &std::io::Error) -> Option<&'static str> {
    let error = error.get_ref()?.downcast_ref::<TlsError>()?;
    Some(match error {
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the authority that signed the server's certificate is not trusted here: give its PEM as tls.ca"
        }
        TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the server's certificate is for another name: use that name in the URL, or give it as tls.server_name",
        TlsError::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the server's certificate has expired: renew it, or mend the clock"
        }
        TlsError::InvalidCertificate(_) => "mend the server's certificate, or what is trusted as tls.ca",
        TlsError::InvalidMessage(_) => "the server speaks no TLS on this port: use redis:// or its TLS port",
        TlsError::AlertReceived(_) => {
            "the server refused us: it may want a client certificate, given as tls.certificate and tls.key"
        }
        _ => "compare the TLS settings of both sides",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_cannot_be_are_named() {
        let garbage = || Some(b"garbage".to_vec());
        for (tls, option) in [
            (Tls { ca: garbage(), ..Tls::default() }, "tls.ca"),
            (Tls { certificate: garbage(), key: garbage(), ..Tls::default() }, "tls.certificate"),
            (Tls { key: garbage(), ..Tls::default() }, "give both or none"),
            (Tls { server_name: Some("a b".into()), ..Tls::default() }, "tls.server_name"),
        ] {
            let error = Opener::new(&tls).err().unwrap().to_string();
            // Where the system trusts nobody, that is said first.
            assert!(error.contains(option) || error.contains("the system has none"), "{error}");
        }
    }
}
