//! Connections of a data core that are encrypted.

use super::core::Core;
use crate::session::conn::{Conn, socket_name};
use crate::session::tls::Session;

impl Core {
    /// The session of a connection that has just come.
    pub fn new_session(&mut self) -> Option<Box<Session>> {
        let config = self.tls.as_ref()?.server.clone();
        match Session::server(config) {
            Ok(session) => Some(Box::new(session)),
            Err(e) => {
                super::log_warning(&format!("Error accepting a client connection: {e}"));
                None
            }
        }
    }

    /// Takes in what came for an encrypted connection. `peeked` hashes do not
    /// concern it: they are of bytes that nobody has opened.
    pub fn receive_sealed(&mut self, conn: &mut Conn, bytes: &[u8], congested: bool) {
        if (conn.closing && !conn.departing) || conn.close_after {
            return;
        }
        self.parse.forget_peeked();
        let Some(mut tls) = conn.tls.take() else { return };
        let mut plain = std::mem::take(&mut self.opened);
        plain.clear();
        let outcome = tls.open(bytes, &mut plain);
        let answers = tls.wants_write();
        conn.tls = Some(tls);
        if !plain.is_empty() {
            self.receive_bytes(conn, &plain, congested);
        }
        self.opened = plain;
        if answers {
            self.mark_dirty(conn);
        }
        match outcome {
            Ok(false) => {}
            // The peer has said that this was all.
            Ok(true) => {
                conn.eof = true;
                self.mark_ready(conn);
            }
            Err(e) => {
                let who = socket_name(conn.fd, true);
                super::log_verbose(&format!("Error on an encrypted client connection: {e} (addr={who})"));
                conn.close_after = true;
                self.mark_dirty(conn);
            }
        }
    }
}
