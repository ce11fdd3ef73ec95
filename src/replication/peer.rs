//! What a replica says about itself before PSYNC: the REPLCONF options.

use crate::base::num::parse_i64;

/// Capabilities that a replica announces with `REPLCONF capa`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// It understands a snapshot framed by an end mark.
    pub eof: bool,
    /// It understands `+CONTINUE <id>`.
    pub psync2: bool,
}

impl Capabilities {
    /// What both of two replicas can do.
    pub fn both(self, other: Capabilities) -> Capabilities {
        Capabilities { eof: self.eof && other.eof, psync2: self.psync2 && other.psync2 }
    }

    /// Can it do all that `other` can?
    pub fn covers(self, other: Capabilities) -> bool {
        self.both(other) == other
    }
}

/// What a replica wants the snapshot to hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Only functions, no keys (`rdb-filter-only functions`).
    pub functions_only: bool,
    /// Nothing at all but an empty dataset (`rdb-filter-only ""`).
    pub nothing: bool,
}

/// See the module's description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Address of the socket.
    pub ip: String,
    /// `replica-announce-ip`, if given.
    pub announced_ip: Option<String>,
    /// Port that it serves clients on; 0 if it did not say.
    pub port: u16,
    pub capa: Capabilities,
    /// It wants the snapshot and then no stream (redis-cli --rdb).
    pub rdb_only: bool,
    pub wanted: Wanted,
    /// `REPLCONF version`, as Valkey 8 sends it.
    pub version: Option<String>,
}

/// What is to be done with a REPLCONF command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replconf {
    /// Answer `+OK`.
    Ok,
    /// A replica acknowledges; no answer.
    Ack { offset: u64, fsynced: Option<u64> },
    /// The primary asks for an acknowledgement; no answer.
    GetAck,
    /// Answer this error.
    Error(String),
}

/// Longest `ip-address` accepted (NET_HOST_STR_LEN - 1 in Redis).
const ADDRESS_MAX: usize = 255;

impl Peer {
    /// The address to show and to reach it at.
    pub fn address(&self) -> &str {
        self.announced_ip.as_deref().unwrap_or(&self.ip)
    }

    /// `ip:port`, as log lines name a replica.
    pub fn name(&self) -> String {
        format!("{}:{}", self.address(), self.port)
    }

    /// Takes the options of one REPLCONF; `args` begins with the command name.
    pub fn replconf(&mut self, args: &[&[u8]]) -> Replconf {
        if args.len().is_multiple_of(2) {
            return Replconf::Error("ERR syntax error".into());
        }
        let mut answer = Replconf::Ok;
        for pair in args[1..].chunks(2) {
            match self.option(&pair[0].to_ascii_lowercase(), pair[1], args) {
                Replconf::Ok => {}
                other => {
                    answer = other;
                    break;
                }
            }
        }
        answer
    }

    fn option(&mut self, name: &[u8], value: &[u8], args: &[&[u8]]) -> Replconf {
        match name {
            b"listening-port" => return self.listening_port(value),
            b"ip-address" if value.len() > ADDRESS_MAX => {
                return Replconf::Error(format!(
                    "ERR REPLCONF ip-address provided by replica instance is too long: {} bytes",
                    value.len()
                ));
            }
            b"ip-address" => {
                self.announced_ip = Some(String::from_utf8_lossy(value).into_owned()).filter(|a| !a.is_empty())
            }
            b"capa" => self.capability(value),
            b"ack" => return acknowledgement(value, args),
            b"getack" => return Replconf::GetAck,
            b"rdb-only" => match parse_i64(value) {
                Some(n @ 0..=1) => self.rdb_only = n == 1,
                Some(_) => return Replconf::Error("ERR value is out of range, value must between 0 and 1".into()),
                None => return not_an_integer(),
            },
            b"rdb-filter-only" => return self.filter(value),
            b"version" => self.version = Some(String::from_utf8_lossy(value).into_owned()),
            _ => {
                let name = String::from_utf8_lossy(name).into_owned();
                return Replconf::Error(format!("ERR Unrecognized REPLCONF option: {name}"));
            }
        }
        Replconf::Ok
    }

    fn listening_port(&mut self, value: &[u8]) -> Replconf {
        match parse_i64(value) {
            Some(n) => {
                self.port = u16::try_from(n).unwrap_or(0);
                Replconf::Ok
            }
            None => not_an_integer(),
        }
    }

    fn capability(&mut self, value: &[u8]) {
        self.capa.eof |= value.eq_ignore_ascii_case(b"eof");
        self.capa.psync2 |= value.eq_ignore_ascii_case(b"psync2");
    }

    fn filter(&mut self, value: &[u8]) -> Replconf {
        let Some(words) = crate::base::words::split(value) else {
            return Replconf::Error("ERR Missing rdb-filter-only values".into());
        };
        let mut wanted = Wanted { functions_only: false, nothing: true };
        for word in &words {
            if !word.eq_ignore_ascii_case(b"functions") {
                let word = String::from_utf8_lossy(word);
                return Replconf::Error(format!("ERR Unsupported rdb-filter-only option: {word}"));
            }
            wanted = Wanted { functions_only: true, nothing: false };
        }
        self.wanted = wanted;
        Replconf::Ok
    }
}

fn not_an_integer() -> Replconf {
    Replconf::Error("ERR value is not an integer or out of range".into())
}

/// `ACK <offset>`, from Redis 7.2 on also `ACK <offset> FACK <offset>`. An
/// offset that is no number is taken for no acknowledgement, as in Redis.
fn acknowledgement(value: &[u8], args: &[&[u8]]) -> Replconf {
    let number = |text: &[u8]| parse_i64(text).and_then(|n| u64::try_from(n).ok());
    let fsynced = match args {
        [_, _, _, name, value] if name.eq_ignore_ascii_case(b"fack") => number(value),
        _ => None,
    };
    Replconf::Ack { offset: number(value).unwrap_or(0), fsynced }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(peer: &mut Peer, line: &str) -> Replconf {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        peer.replconf(&args)
    }

    #[test]
    fn options_of_stock_replicas() {
        let mut p = Peer { ip: "10.0.0.1".into(), ..Peer::default() };
        assert_eq!(run(&mut p, "REPLCONF listening-port 6380"), Replconf::Ok);
        assert_eq!(run(&mut p, "REPLCONF capa eof capa psync2 capa dual-channel"), Replconf::Ok);
        assert!(p.capa.eof && p.capa.psync2);
        assert_eq!(p.name(), "10.0.0.1:6380");
        assert_eq!(run(&mut p, "REPLCONF ip-address example.org"), Replconf::Ok);
        assert_eq!(p.name(), "example.org:6380");
        assert_eq!(run(&mut p, "REPLCONF version 8.0.1"), Replconf::Ok);
        assert_eq!(run(&mut p, "REPLCONF rdb-only 1"), Replconf::Ok);
        assert!(p.rdb_only);
        assert_eq!(run(&mut p, "REPLCONF rdb-filter-only functions"), Replconf::Ok);
        assert!(p.wanted.functions_only);
    }

    #[test]
    fn acknowledgements() {
        let mut p = Peer::default();
        assert_eq!(run(&mut p, "REPLCONF ACK 17"), Replconf::Ack { offset: 17, fsynced: None });
        assert_eq!(run(&mut p, "replconf ack 17 fack 9"), Replconf::Ack { offset: 17, fsynced: Some(9) });
        assert_eq!(run(&mut p, "REPLCONF ACK -4"), Replconf::Ack { offset: 0, fsynced: None });
        assert_eq!(run(&mut p, "REPLCONF GETACK *"), Replconf::GetAck);
    }

    #[test]
    fn refused() {
        let mut p = Peer::default();
        assert_eq!(run(&mut p, "REPLCONF capa"), Replconf::Error("ERR syntax error".into()));
        assert_eq!(run(&mut p, "REPLCONF foo 1"), Replconf::Error("ERR Unrecognized REPLCONF option: foo".into()));
        assert!(matches!(run(&mut p, "REPLCONF listening-port x"), Replconf::Error(_)));
    }
}
