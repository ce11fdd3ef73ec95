//! Certificates and keys in PEM files.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::base::os::os_reason;
use crate::config::Settings;

/// Bytes of a file at most; anything longer holds no certificate.
const FILE_BYTES_MAX: u64 = 16 << 20;

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |e: std::io::Error| format!("Failed to read {}: {}", path.display(), os_reason(&e));
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, FILE_BYTES_MAX), &mut text).map_err(failed)?;
    Ok(text)
}

/// The certificate and those that lead from it to one that is trusted.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|e| format!("Failed to load certificate: {}: {e}", path.display()))?;
    if found.is_empty() {
        return Err(format!("Failed to load certificate: {}: there is none in the file", path.display()));
    }
    Ok(found)
}

/// The private key, which may be encrypted (PKCS #8).
pub fn key(path: &Path, password: &str) -> Result<PrivateKeyDer<'static>, String> {
    let failed = |e: String| format!("Failed to load private key: {}: {e}", path.display());
    let text = read(path)?;
    if memchr::memmem::find(&text, b"Proc-Type: 4,ENCRYPTED").is_some() {
        let advice = "this kind of encryption is not supported, use PKCS #8 (openssl pkcs8 -topk8)";
        return Err(failed(advice.into()));
    }
    const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
    let Some(at) = memchr::memmem::find(&text, ENCRYPTED.as_bytes()) else {
        return PrivateKeyDer::from_pem_slice(&text).map_err(|e| failed(e.to_string()));
    };
    let pem = std::str::from_utf8(&text[at..]).map_err(|e| failed(e.to_string()))?;
    let (_, document) = pkcs8::Document::from_pem(pem).map_err(|e| failed(e.to_string()))?;
    let sealed = pkcs8::EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|e| failed(e.to_string()))?;
    let plain = sealed.decrypt(password).map_err(|_| failed("tls-key-file-pass does not open it".into()))?;
    Ok(PrivatePkcs8KeyDer::from(plain.as_bytes().to_vec()).into())
}

/// Those whose signatures are trusted: of the file, and of all files of the
/// directory that hold certificates.
pub fn roots(s: &Settings) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let mut add = |certificates: Vec<CertificateDer<'static>>| {
        certificates.into_iter().try_for_each(|c| roots.add(c).map_err(|e| e.to_string()))
    };
    if !s.tls.ca_cert_file.is_empty() {
        let path = s.resolve(&s.tls.ca_cert_file);
        add(certificates(&path)?).map_err(|e| format!("Failed to load CA certificate {}: {e}", path.display()))?;
    }
    if !s.tls.ca_cert_dir.is_empty() {
        let dir = s.resolve(&s.tls.ca_cert_dir);
        let listed =
            std::fs::read_dir(&dir).map_err(|e| format!("Failed to read {}: {}", dir.display(), os_reason(&e)))?;
        for entry in listed.filter_map(Result::ok).filter(|e| e.path().is_file()) {
            // Other files may lie there, too.
            if let Ok(found) = certificates(&entry.path()) {
                add(found).map_err(|e| format!("Failed to load CA certificate {}: {e}", entry.path().display()))?;
            }
        }
    }
    Ok(roots)
}
