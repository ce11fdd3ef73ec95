//! One TLS session: what the network carries on one side, plain bytes on the
//! other. It moves no bytes itself.
//!
//! It stands between the received bytes and the request parser, and between a
//! connection's output and its sends. Output waits in `pending` and is sealed
//! piece by piece, so that a huge reply is not in memory three times.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, Connection, Error, ServerConfig, ServerConnection, pki_types};

/// Plain bytes that one send carries at most.
const SEAL_MAX: usize = 1 << 20;

/// What a session takes besides its buffers, roughly.
const MEMORY: usize = 24 << 10;

/// See the module's description.
pub struct Session {
    link: Connection,
    /// Output to be sealed, from `pending_at` on.
    pending: Vec<u8>,
    pending_at: usize,
    /// The end of our output has been told to the peer.
    said_goodbye: bool,
}

impl Session {
    /// The side that accepts.
    pub fn server(config: Arc<ServerConfig>) -> Result<Session, Error> {
        Ok(Session::new(ServerConnection::new(config)?.into()))
    }

    /// The side that connects. Names are not verified, so `host` only has to
    /// be some name or address.
    pub fn client(config: Arc<ClientConfig>, host: &str) -> Result<Session, Error> {
        let name = pki_types::ServerName::try_from(host.to_owned())
            .unwrap_or(pki_types::ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()));
        Ok(Session::new(ClientConnection::new(config, name)?.into()))
    }

    fn new(mut link: Connection) -> Session {
        // Output is bounded by the limits of its connection's class.
        link.set_buffer_limit(None);
        Session { link, pending: Vec::new(), pending_at: 0, said_goodbye: false }
    }

    /// Is the session still being negotiated?
    pub fn is_handshaking(&self) -> bool {
        self.link.is_handshaking()
    }

    /// Takes in received bytes and appends what they carry to `plain`. True
    /// when the peer has ended its side. After an error there may be an alert
    /// to be sent, and nothing more can be received.
    pub fn open(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>) -> Result<bool, Error> {
        loop {
            let taken = if bytes.is_empty() {
                0
            } else {
                self.link.read_tls(&mut bytes).map_err(|e| Error::General(e.to_string()))?
            };
            let state = self.link.process_new_packets()?;
            let n = state.plaintext_bytes_to_read();
            if n > 0 {
                let at = plain.len();
                plain.resize(at + n, 0);
                self.link.reader().read_exact(&mut plain[at..]).map_err(|e| Error::General(e.to_string()))?;
            }
            if taken == 0 || bytes.is_empty() {
                return Ok(state.peer_has_closed());
            }
        }
    }

    /// Has it anything to send of its own accord: of the handshake, an alert?
    pub fn wants_write(&self) -> bool {
        self.link.wants_write()
    }

    /// Appends `plain`, and whatever else is to be sent, as records to `out`.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        // Neither can fail: the buffer has no limit, and `out` takes all.
        let _ = self.link.writer().write_all(plain);
        while self.link.wants_write() {
            let _ = self.link.write_tls(out);
        }
    }

    /// The next piece of output for the network: from what is pending, then
    /// from `output`, which is taken over.
    pub fn fill(&mut self, output: &mut Vec<u8>, out: &mut Vec<u8>) {
        if self.pending_at == self.pending.len() {
            self.pending.clear();
            self.pending_at = 0;
            std::mem::swap(&mut self.pending, output);
        }
        let end = self.pending.len().min(self.pending_at + SEAL_MAX);
        let pending = std::mem::take(&mut self.pending);
        self.seal(&pending[self.pending_at..end], out);
        self.pending_at = end;
        self.pending = pending;
        if end == self.pending.len() {
            self.pending.clear();
            self.pending_at = 0;
        }
    }

    /// Output that `fill` has taken over and not sealed yet.
    pub fn pending(&self) -> &[u8] {
        &self.pending[self.pending_at..]
    }

    /// The same, taken away.
    pub fn take_pending(&mut self) -> Vec<u8> {
        let mut pending = std::mem::take(&mut self.pending);
        pending.drain(..std::mem::take(&mut self.pending_at));
        pending
    }

    /// Tells the peer, once, that nothing more will come; false when that has
    /// been said.
    pub fn say_goodbye(&mut self, out: &mut Vec<u8>) -> bool {
        if std::mem::replace(&mut self.said_goodbye, true) {
            return false;
        }
        self.link.send_close_notify();
        self.seal(&[], out);
        !out.is_empty()
    }

    /// Approximate memory.
    pub fn memory(&self) -> usize {
        MEMORY + self.pending.capacity()
    }
}
