//! What the log says of single clients, in Redis's words: who they are, so that
//! they can be found again.

use super::commands::client_list::describe;
use super::core::Core;
use crate::config::{LogLevel, quote_bytes};
use crate::observe::log;
use crate::session::conn::{Conn, socket_name};

/// Bytes of a query buffer that are shown.
const SHOWN: usize = 64;

impl Core {
    pub fn log_accepted(&self, conn: &Conn) {
        if !log::enabled(LogLevel::Verbose) {
            return;
        }
        match conn.unix_socket {
            true => log::verbose(format_args!("Accepted connection to {}", self.settings.unixsocket)),
            false => log::verbose(format_args!("Accepted {}", socket_name(conn.fd, true))),
        }
    }

    /// The peer has ended the connection.
    pub fn log_gone(&self, conn: &Conn) {
        if log::enabled(LogLevel::Verbose) {
            log::verbose(format_args!("Client closed connection {}", describe(self, conn)));
        }
    }

    pub fn log_protocol_error(&self, conn: &Conn, text: &[u8], input: &[u8]) {
        if log::enabled(LogLevel::Verbose) {
            log::verbose(format_args!(
                "Protocol error ({}) from client: {}. Query buffer: {}",
                String::from_utf8_lossy(text),
                describe(self, conn),
                self.shown(input)
            ));
        }
    }

    pub fn log_too_much_input(&self, conn: &Conn, input: &[u8]) {
        log::warning(format_args!(
            "Closing client that reached max query buffer length: {} (qbuf initial bytes: {})",
            describe(self, conn),
            self.shown(input)
        ));
    }

    pub fn log_too_much_output(&self, conn: &Conn) {
        log::warning(format_args!(
            "Client {} scheduled to be closed ASAP for overcoming of output buffer limits.",
            describe(self, conn)
        ));
    }

    fn shown(&self, input: &[u8]) -> String {
        match self.settings.hide_user_data_from_log {
            true => "*redacted*".to_owned(),
            false => quote_bytes(&input[..input.len().min(SHOWN)]),
        }
    }
}
