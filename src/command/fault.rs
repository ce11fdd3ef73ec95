//! Error replies of commands, in Redis's words.

/// Why a command failed. Nothing has been changed when one is returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A fixed text, its code included.
    Text(&'static str),
    /// A composed text, its code included.
    Composed(Vec<u8>),
}

pub const WRONG_TYPE: Fault = Fault::Text("WRONGTYPE Operation against a key holding the wrong kind of value");
pub const SYNTAX: Fault = Fault::Text("ERR syntax error");
pub const NOT_AN_INTEGER: Fault = Fault::Text("ERR value is not an integer or out of range");
pub const NOT_A_FLOAT: Fault = Fault::Text("ERR value is not a valid float");
pub const OUT_OF_RANGE: Fault = Fault::Text("ERR value is out of range");
pub const NOT_POSITIVE: Fault = Fault::Text("ERR value is out of range, must be positive");
pub const NO_SUCH_KEY: Fault = Fault::Text("ERR no such key");
pub const SAME_OBJECT: Fault = Fault::Text("ERR source and destination objects are the same");
pub const INDEX_OUT_OF_RANGE: Fault = Fault::Text("ERR index out of range");
pub const STRING_TOO_LONG: Fault = Fault::Text("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
pub const OFFSET_OUT_OF_RANGE: Fault = Fault::Text("ERR offset is out of range");
pub const OVERFLOW: Fault = Fault::Text("ERR increment or decrement would overflow");
pub const DB_OUT_OF_RANGE: Fault = Fault::Text("ERR DB index is out of range");

impl Fault {
    /// The error line without its leading `-`.
    pub fn text(&self) -> &[u8] {
        match self {
            Fault::Text(t) => t.as_bytes(),
            Fault::Composed(t) => t,
        }
    }

    /// The first word, by which errors are counted (`errorstat_*`).
    pub fn code(&self) -> &[u8] {
        let t = self.text();
        &t[..memchr::memchr(b' ', t).unwrap_or(t.len())]
    }

    /// A text with the client's words in it, which end at a zero byte as C
    /// strings do.
    pub fn with_words(parts: &[&[u8]]) -> Fault {
        let shown = |p: &&[u8]| p[..memchr::memchr(0, p).unwrap_or(p.len())].to_vec();
        Fault::Composed(parts.iter().flat_map(shown).collect())
    }

    pub fn arity(name: &str) -> Fault {
        Fault::Composed(format!("ERR wrong number of arguments for '{name}' command").into_bytes())
    }

    /// `invalid expire time in 'x' command`.
    pub fn expire_time(name: &str) -> Fault {
        Fault::Composed(format!("ERR invalid expire time in '{name}' command").into_bytes())
    }
}

impl From<String> for Fault {
    fn from(text: String) -> Fault {
        Fault::Composed(text.into_bytes())
    }
}
