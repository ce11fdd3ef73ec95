//! A blocking RESP2/RESP3 client over a plain socket. Every read has a time
//! limit, so a test of a server that does not answer fails instead of hanging.

use super::value::Value;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// How long a reply may take unless a test says otherwise.
pub const REPLY_LIMIT: Duration = Duration::from_secs(60);
const READ_SIZE: usize = 64 * 1024;

/// A connection.
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    position: usize,
    limit: Duration,
}

/// The RESP encoding of one command.
pub fn encode<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_into(&mut out, args);
    out
}

/// Appends the RESP encoding of one command.
pub fn encode_into<A: AsRef<[u8]>>(out: &mut Vec<u8>, args: &[A]) {
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        let arg = arg.as_ref();
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

impl Wire {
    #[track_caller]
    pub fn connect(port: u16) -> Wire {
        Wire::try_connect(port).unwrap_or_else(|e| panic!("connect to {port}: {e}"))
    }

    pub fn try_connect(port: u16) -> io::Result<Wire> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_LIMIT))?;
        stream.set_write_timeout(Some(REPLY_LIMIT))?;
        Ok(Wire { stream, buffer: Vec::new(), position: 0, limit: REPLY_LIMIT })
    }

    /// A connection that speaks RESP3.
    #[track_caller]
    pub fn connect_resp3(port: u16) -> Wire {
        let mut wire = Wire::connect(port);
        assert!(matches!(wire.run("HELLO 3"), Value::Map(_)));
        wire
    }

    /// Changes how long each following read and write may take.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
        self.stream.set_read_timeout(Some(limit)).expect("set the read timeout");
        self.stream.set_write_timeout(Some(limit)).expect("set the write timeout");
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The local port, as CLIENT LIST shows it in `addr`.
    pub fn local_port(&self) -> u16 {
        self.stream.local_addr().expect("a local address").port()
    }

    /// Sends raw bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("send");
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends one command.
    #[track_caller]
    pub fn send_cmd<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        self.send(encode(args));
    }

    /// Sends one command given as words.
    #[track_caller]
    pub fn send_words(&mut self, words: &str) {
        let words: Vec<&str> = words.split_whitespace().collect();
        self.send_cmd(&words);
    }

    /// Sends one command and reads its reply.
    #[track_caller]
    pub fn cmd<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Value {
        self.send_cmd(args);
        self.read()
    }

    /// Sends one command given as words separated by spaces and reads its reply.
    #[track_caller]
    pub fn run(&mut self, words: &str) -> Value {
        self.send_words(words);
        self.read()
    }

    /// Sends `bytes` from a second thread while reading `replies` replies, so
    /// that neither side's socket buffers can stop the other.
    #[track_caller]
    pub fn pipeline(&mut self, bytes: &[u8], replies: usize) -> Vec<Value> {
        let mut out = self.stream.try_clone().expect("clone the socket");
        std::thread::scope(|scope| {
            let writer = scope.spawn(move || out.write_all(bytes));
            let values = (0..replies).map(|_| self.read()).collect();
            writer.join().expect("the writer").expect("send a pipeline");
            values
        })
    }

    /// Reads one value; panics when none comes in time.
    #[track_caller]
    pub fn read(&mut self) -> Value {
        self.try_read().unwrap_or_else(|e| panic!("no reply: {e}"))
    }

    /// Reads one value or tells why none came.
    pub fn try_read(&mut self) -> io::Result<Value> {
        let value = self.read_value()?;
        if self.position == self.buffer.len() {
            self.buffer.clear();
            self.position = 0;
        }
        Ok(value)
    }

    /// Asserts that nothing arrives for this long.
    #[track_caller]
    pub fn expect_silence(&mut self, duration: Duration) {
        let before = self.limit;
        self.set_limit(duration);
        let result = self.try_read();
        self.set_limit(before);
        match result {
            Err(e) if is_timeout(&e) => {}
            other => panic!("expected silence, got {other:?}"),
        }
    }

    /// Asserts that the server closes the connection and sends nothing first.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        match self.try_read() {
            Err(e) if is_closed(&e) => {}
            other => panic!("expected a closed connection, got {other:?}"),
        }
    }

    /// Reads and drops everything until the server closes.
    #[track_caller]
    pub fn drain_until_closed(&mut self, limit: Duration) -> usize {
        let deadline = Instant::now() + limit;
        let mut total = self.buffer.len() - self.position;
        let mut chunk = vec![0; READ_SIZE];
        loop {
            assert!(Instant::now() < deadline, "still open after {limit:?}");
            match self.stream.read(&mut chunk) {
                Ok(0) => return total,
                Ok(n) => total += n,
                Err(e) if is_timeout(&e) => {}
                Err(_) => return total,
            }
        }
    }

    /// Closes our sending side only.
    pub fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("shut the sending side");
    }

    fn read_value(&mut self) -> io::Result<Value> {
        let line = self.read_line()?;
        let (kind, rest) = line.split_first().ok_or_else(|| bad("an empty line as reply"))?;
        let text = || String::from_utf8_lossy(rest).into_owned();
        let number = || text().parse::<i64>().map_err(|_| bad(&format!("not a length or number: {:?}", text())));
        Ok(match kind {
            b'+' => Value::Simple(text()),
            b'-' => Value::Error(text()),
            b':' => Value::Int(number()?),
            b'_' => Value::Null,
            b'#' => Value::Bool(rest == b"t"),
            b',' => Value::Double(text()),
            b'(' => Value::BigNumber(text()),
            b'$' => match number()? {
                -1 => Value::NilBulk,
                length => Value::Bulk(self.read_bulk(length)?),
            },
            b'!' => Value::Error(String::from_utf8_lossy(&self.read_bulk(number()?)?).into()),
            b'=' => {
                let bytes = self.read_bulk(number()?)?;
                let kind = String::from_utf8_lossy(&bytes[..3]).into_owned();
                Value::Verbatim(kind, bytes[4..].to_vec())
            }
            b'*' => match number()? {
                -1 => Value::NilArray,
                length => Value::Array(self.read_items(length)?),
            },
            b'~' => Value::Set(self.read_items(number()?)?),
            b'>' => Value::Push(self.read_items(number()?)?),
            b'%' => Value::Map(self.read_pairs(number()?)?),
            b'|' => {
                let pairs = self.read_pairs(number()?)?;
                Value::Attribute(pairs, Box::new(self.read_value()?))
            }
            _ => {
                return Err(bad(&format!("unknown reply type: {:?}", line.escape_ascii().to_string())));
            }
        })
    }

    fn read_items(&mut self, length: i64) -> io::Result<Vec<Value>> {
        (0..length).map(|_| self.read_value()).collect()
    }

    fn read_pairs(&mut self, length: i64) -> io::Result<Vec<(Value, Value)>> {
        (0..length).map(|_| Ok((self.read_value()?, self.read_value()?))).collect()
    }

    fn read_line(&mut self) -> io::Result<Vec<u8>> {
        let mut searched = self.position;
        loop {
            let found = self.buffer[searched..].windows(2).position(|pair| pair == b"\r\n");
            if let Some(offset) = found {
                let end = searched + offset;
                let line = self.buffer[self.position..end].to_vec();
                self.position = end + 2;
                return Ok(line);
            }
            searched = self.buffer.len().saturating_sub(1).max(self.position);
            self.fill(READ_SIZE)?;
        }
    }

    fn read_bulk(&mut self, length: i64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(length).map_err(|_| bad("a negative length"))?;
        let end = self.position + length;
        while self.buffer.len() < end + 2 {
            self.fill((end + 2 - self.buffer.len()).max(READ_SIZE))?;
        }
        if &self.buffer[end..end + 2] != b"\r\n" {
            return Err(bad("a bulk string without its line end"));
        }
        let bytes = self.buffer[self.position..end].to_vec();
        self.position = end + 2;
        if self.position > 8 * READ_SIZE {
            self.buffer.drain(..self.position);
            self.position = 0;
        }
        Ok(bytes)
    }

    fn fill(&mut self, size: usize) -> io::Result<()> {
        let before = self.buffer.len();
        self.buffer.resize(before + size, 0);
        let result = loop {
            match self.stream.read(&mut self.buffer[before..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        self.buffer.truncate(before + *result.as_ref().unwrap_or(&0));
        match result {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")),
            Ok(_) => Ok(()),
            Err(e) => Err(e),
        }
    }
}

fn bad(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

pub fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}
