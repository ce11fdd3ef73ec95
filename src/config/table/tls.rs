//! TLS.

use super::{choice, flag, number, text};
use crate::config::directive::Directive;

const NO_TLS: &str = "TLS is not built yet";

pub(super) static ROWS: &[Directive] = &[
    number!("tls-port", 0, 0, 65535, tls.port).later(NO_TLS),
    flag!("tls-replication", false, tls.replication).later(NO_TLS),
    flag!("tls-cluster", false, tls.cluster).later(NO_TLS),
    text!("tls-cert-file", tls.cert_file).kept(NO_TLS),
    text!("tls-key-file", tls.key_file).kept(NO_TLS),
    text!("tls-key-file-pass", tls.key_file_pass).sensitive().kept(NO_TLS),
    text!("tls-client-cert-file", tls.client_cert_file).kept(NO_TLS),
    text!("tls-client-key-file", tls.client_key_file).kept(NO_TLS),
    text!("tls-client-key-file-pass", tls.client_key_file_pass).sensitive().kept(NO_TLS),
    text!("tls-dh-params-file", tls.dh_params_file).kept(NO_TLS),
    text!("tls-ca-cert-file", tls.ca_cert_file).kept(NO_TLS),
    text!("tls-ca-cert-dir", tls.ca_cert_dir).kept(NO_TLS),
    choice!("tls-auth-clients", TlsAuthClients::Yes, tls.auth_clients).kept(NO_TLS),
    text!("tls-protocols", tls.protocols).kept(NO_TLS),
    text!("tls-ciphers", tls.ciphers).kept(NO_TLS),
    text!("tls-ciphersuites", tls.ciphersuites).kept(NO_TLS),
    flag!("tls-prefer-server-ciphers", false, tls.prefer_server_ciphers).kept(NO_TLS),
    flag!("tls-session-caching", true, tls.session_caching).kept(NO_TLS),
    number!("tls-session-cache-size", 20480, 0, i32::MAX, tls.session_cache_size).kept(NO_TLS),
    number!("tls-session-cache-timeout", 300, 0, i32::MAX, tls.session_cache_timeout_s).kept(NO_TLS),
];
