//! Certificates for tests: an authority, and what it has signed.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// Files in a directory of their own, removed at the end.
pub struct Certs {
    dir: PathBuf,
}

impl Certs {
    /// An authority `ca.crt`; `server` and `client` (`.crt` and `.key`) that it
    /// has signed; and `stranger`, signed by another one, `other-ca.crt`.
    pub fn make(name: &str) -> Certs {
        let dir = std::env::temp_dir().join(format!("coreslot-certs-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("make a directory");
        authority(&dir, "ca", &["server", "client"]);
        authority(&dir, "other-ca", &["stranger"]);
        Certs { dir }
    }

    pub fn path(&self, file: &str) -> String {
        self.dir.join(file).to_string_lossy().into_owned()
    }

    /// Arguments of a server with `tls-port` at `port`.
    pub fn args(&self, port: u16, more: &[&str]) -> Vec<String> {
        let mut args = vec!["--tls-port".into(), port.to_string()];
        for (flag, file) in
            [("--tls-cert-file", "server.crt"), ("--tls-key-file", "server.key"), ("--tls-ca-cert-file", "ca.crt")]
        {
            args.extend([flag.to_string(), self.path(file)]);
        }
        args.extend(more.iter().map(|w| w.to_string()));
        args
    }
}

impl Drop for Certs {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn authority(dir: &Path, name: &str, signs: &[&str]) {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let cert = params.self_signed(&key).expect("an authority");
    write(dir, &format!("{name}.crt"), &cert.pem());
    let issuer = Issuer::new(params, key);
    for name in signs {
        sign(dir, name, &issuer);
    }
}

fn sign(dir: &Path, name: &str, issuer: &Issuer<'_, KeyPair>) {
    let mut params = CertificateParams::new(vec!["localhost".to_string()]).expect("parameters");
    // Of the same name as its issuer it would be taken for self-signed.
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().expect("a key");
    let cert = params.signed_by(&key, issuer).expect("a certificate");
    write(dir, &format!("{name}.crt"), &cert.pem());
    write(dir, &format!("{name}.key"), &key.serialize_pem());
}

fn write(dir: &Path, file: &str, text: &str) {
    std::fs::write(dir.join(file), text).expect("write a file");
}
