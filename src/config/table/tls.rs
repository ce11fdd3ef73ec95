//! TLS.

use super::{choice, flag, number, text};
use crate::config::directive::Directive;

const NO_DH: &str = "keys are exchanged over elliptic curves only";

pub(super) static ROWS: &[Directive] = &[
    number!("tls-port", 0, 0, 65535, tls.port),
    flag!("tls-replication", false, tls.replication),
    flag!("tls-cluster", false, tls.cluster),
    text!("tls-cert-file", tls.cert_file),
    text!("tls-key-file", tls.key_file),
    text!("tls-key-file-pass", tls.key_file_pass).sensitive(),
    text!("tls-client-cert-file", tls.client_cert_file),
    text!("tls-client-key-file", tls.client_key_file),
    text!("tls-client-key-file-pass", tls.client_key_file_pass).sensitive(),
    text!("tls-dh-params-file", tls.dh_params_file).later(NO_DH),
    text!("tls-ca-cert-file", tls.ca_cert_file),
    text!("tls-ca-cert-dir", tls.ca_cert_dir),
    choice!("tls-auth-clients", TlsAuthClients::Yes, tls.auth_clients),
    text!("tls-protocols", tls.protocols),
    text!("tls-ciphers", tls.ciphers),
    text!("tls-ciphersuites", tls.ciphersuites),
    flag!("tls-prefer-server-ciphers", false, tls.prefer_server_ciphers),
    flag!("tls-session-caching", true, tls.session_caching),
    number!("tls-session-cache-size", 20480, 0, i32::MAX, tls.session_cache_size),
    number!("tls-session-cache-timeout", 300, 0, i32::MAX, tls.session_cache_timeout_s),
];
