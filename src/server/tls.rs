//! TLS as it is configured: certificates, protocols and ciphers of the ports
//! and of the connection to a primary.
//!
//! The directives are those of Redis, whose words are OpenSSL's; what rustls
//! cannot do is refused by name. Certificates are read when the server starts
//! and whenever a `tls-` directive is set, also to the same value; connections
//! that exist keep theirs.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, InconsistentKeys, RootCertStore};
use rustls::{ServerConfig, SignatureScheme};

use super::{tls_ciphers, tls_files};
use crate::config::{Settings, TlsAuthClients};
use crate::server::tls_sessions::Sessions;

/// What connections are made with.
#[derive(Clone, Debug)]
pub struct Tls {
    pub server: Arc<ServerConfig>,
    /// For the connection to a primary; only with `tls-replication`.
    pub to_primary: Option<Arc<ClientConfig>>,
    /// For MIGRATE's connection to its target; only with `tls-cluster`.
    pub to_target: Option<Arc<ClientConfig>>,
}

/// Is TLS wanted for anything?
pub fn wanted(s: &Settings) -> bool {
    s.tls.port > 0 || s.tls.replication || s.tls.cluster
}

/// Everything that the configuration asks for; nothing if it does not.
pub fn make(s: &Settings) -> Result<Option<Tls>, String> {
    if !wanted(s) {
        return Ok(None);
    }
    let t = &s.tls;
    if t.cert_file.is_empty() {
        return Err("No tls-cert-file configured!".into());
    }
    if t.key_file.is_empty() {
        return Err("No tls-key-file configured!".into());
    }
    let connects = t.replication || t.cluster;
    let verifies = connects || t.auth_clients != TlsAuthClients::No;
    if verifies && t.ca_cert_file.is_empty() && t.ca_cert_dir.is_empty() {
        return Err("Either tls-ca-cert-file or tls-ca-cert-dir must be specified when tls-cluster, tls-replication \
                    or tls-auth-clients are enabled!"
            .into());
    }
    let provider = Arc::new(tls_ciphers::provider(t)?);
    let roots = Arc::new(tls_files::roots(s)?);
    let server = Arc::new(server(s, &provider, &roots)?);
    let client = if connects { Some(Arc::new(client(s, &provider, &roots)?)) } else { None };
    let (to_primary, to_target) = (client.clone().filter(|_| t.replication), client.filter(|_| t.cluster));
    Ok(Some(Tls { server, to_primary, to_target }))
}

fn words(e: Error) -> String {
    e.to_string()
}

/// Certificate and key; old versions of certificates cannot be looked into,
/// so whether they belong together shows itself only in a handshake.
fn identity(s: &Settings, of_client: bool, provider: &CryptoProvider) -> Result<Arc<SingleCertAndKey>, String> {
    let t = &s.tls;
    let (cert, key, pass) = if of_client && !t.client_cert_file.is_empty() {
        (&t.client_cert_file, &t.client_key_file, &t.client_key_file_pass)
    } else {
        (&t.cert_file, &t.key_file, &t.key_file_pass)
    };
    let chain = tls_files::certificates(&s.resolve(cert))?;
    let key = tls_files::key(&s.resolve(key), pass)?;
    let key = provider.key_provider.load_private_key(key).map_err(words)?;
    let identity = CertifiedKey::new(chain, key);
    if let Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) = identity.keys_match() {
        return Err(format!("The private key does not belong to the certificate of {cert}"));
    }
    Ok(Arc::new(identity.into()))
}

fn server(s: &Settings, provider: &Arc<CryptoProvider>, roots: &Arc<RootCertStore>) -> Result<ServerConfig, String> {
    let t = &s.tls;
    let versions = tls_ciphers::versions(&t.protocols)?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .map_err(|e| format!("tls-ciphers and tls-ciphersuites leave nothing for tls-protocols: {e}"))?;
    let builder = if t.auth_clients == TlsAuthClients::No {
        builder.with_no_client_auth()
    } else {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
        let verifier =
            if t.auth_clients == TlsAuthClients::Optional { verifier.allow_unauthenticated() } else { verifier };
        builder.with_client_cert_verifier(verifier.build().map_err(|e| e.to_string())?)
    };
    let mut config = builder.with_cert_resolver(identity(s, false, provider)?);
    config.ignore_client_order = t.prefer_server_ciphers;
    config.session_storage = if t.session_caching {
        Arc::new(Sessions::new(t.session_cache_size as usize, t.session_cache_timeout_s))
    } else {
        config.send_tls13_tickets = 0;
        Arc::new(NoServerSessionStorage {})
    };
    Ok(config)
}

fn client(s: &Settings, provider: &Arc<CryptoProvider>, roots: &Arc<RootCertStore>) -> Result<ClientConfig, String> {
    let chain = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone());
    let chain = chain.build().map_err(|e| e.to_string())?;
    let versions = tls_ciphers::versions(&s.tls.protocols)?;
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .map_err(|e| format!("tls-ciphers and tls-ciphersuites leave nothing for tls-protocols: {e}"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyName(chain)))
        .with_client_cert_resolver(identity(s, true, provider)?);
    Ok(config)
}

/// Verifies who signed a primary's certificate, but not its name: as Redis,
/// whose `replicaof` mostly holds an address.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The name is looked at last, once all else is found to be right.
        match self.0.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// The provider of all cryptography.
pub fn provider() -> CryptoProvider {
    ring::default_provider()
}
