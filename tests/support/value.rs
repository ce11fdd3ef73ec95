//! A reply of either protocol version, typed, with short constructors.

use std::fmt;

/// One RESP2 or RESP3 value. Doubles keep their text, so that comparing two
/// servers compares what was sent.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    Simple(String),
    Error(String),
    Int(i64),
    Bulk(Vec<u8>),
    /// `$-1`
    NilBulk,
    /// `*-1`
    NilArray,
    /// `_`
    Null,
    Bool(bool),
    Double(String),
    BigNumber(String),
    Verbatim(String, Vec<u8>),
    Array(Vec<Value>),
    Set(Vec<Value>),
    Push(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Attribute(Vec<(Value, Value)>, Box<Value>),
}

impl Value {
    /// An empty reply of any kind that stands for "nothing".
    pub fn is_nil(&self) -> bool {
        matches!(self, Value::NilBulk | Value::NilArray | Value::Null)
    }

    pub fn is_error(&self) -> bool {
        matches!(self, Value::Error(_))
    }

    #[track_caller]
    pub fn as_int(&self) -> i64 {
        match self {
            Value::Int(n) => *n,
            other => panic!("not an integer: {other:?}"),
        }
    }

    #[track_caller]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Value::Bulk(bytes) | Value::Verbatim(_, bytes) => bytes,
            Value::Simple(text) => text.as_bytes(),
            other => panic!("not a string: {other:?}"),
        }
    }

    #[track_caller]
    pub fn as_text(&self) -> String {
        String::from_utf8_lossy(self.as_bytes()).into_owned()
    }

    /// The text of an error reply.
    #[track_caller]
    pub fn as_error(&self) -> &str {
        match self {
            Value::Error(text) => text,
            other => panic!("not an error: {other:?}"),
        }
    }

    /// The elements of an array, set or push.
    #[track_caller]
    pub fn items(&self) -> &[Value] {
        match self {
            Value::Array(items) | Value::Set(items) | Value::Push(items) => items,
            other => panic!("not an array: {other:?}"),
        }
    }

    /// A field of a map, or of a flat array of names and values.
    #[track_caller]
    pub fn field(&self, name: &str) -> &Value {
        let found = match self {
            Value::Map(pairs) => {
                pairs.iter().find(|(key, _)| key.as_bytes() == name.as_bytes()).map(|(_, value)| value)
            }
            Value::Array(items) => {
                items.chunks_exact(2).find(|pair| pair[0].as_bytes() == name.as_bytes()).map(|pair| &pair[1])
            }
            other => panic!("not a map: {other:?}"),
        };
        found.unwrap_or_else(|| panic!("no field {name} in {self:?}"))
    }

    /// The same value with its top-level elements sorted.
    pub fn sorted(mut self) -> Value {
        match &mut self {
            Value::Array(items) | Value::Set(items) => items.sort(),
            Value::Map(pairs) => pairs.sort(),
            _ => {}
        }
        self
    }

    /// The same value with the pairs of a flat array sorted (HGETALL in RESP2).
    pub fn sorted_pairs(self) -> Value {
        match self {
            Value::Array(items) if items.len() % 2 == 0 => {
                let mut pairs: Vec<_> = items.chunks_exact(2).map(<[Value]>::to_vec).collect();
                pairs.sort();
                Value::Array(pairs.concat())
            }
            other => other.sorted(),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Simple(text) => write!(f, "+{text}"),
            Value::Error(text) => write!(f, "-{text}"),
            Value::Int(n) => write!(f, ":{n}"),
            Value::Bulk(bytes) => write!(f, "{}", quoted(bytes)),
            Value::NilBulk => write!(f, "nil"),
            Value::NilArray => write!(f, "nil-array"),
            Value::Null => write!(f, "null"),
            Value::Bool(b) => write!(f, "{b}"),
            Value::Double(text) => write!(f, ",{text}"),
            Value::BigNumber(text) => write!(f, "({text}"),
            Value::Verbatim(kind, bytes) => write!(f, "={kind}:{}", quoted(bytes)),
            Value::Array(items) => f.debug_list().entries(items).finish(),
            Value::Set(items) => f.debug_set().entries(items).finish(),
            Value::Push(items) => {
                write!(f, ">")?;
                f.debug_list().entries(items).finish()
            }
            Value::Map(pairs) => f.debug_map().entries(pairs.iter().map(|(key, value)| (key, value))).finish(),
            Value::Attribute(_, value) => write!(f, "|{value:?}"),
        }
    }
}

/// Bytes as redis-cli shows them, cut when they are long.
pub fn quoted(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 200;
    let mut text = format!("\"{}\"", bytes[..bytes.len().min(SHOWN_MAX)].escape_ascii());
    if bytes.len() > SHOWN_MAX {
        text.push_str(&format!("...({} bytes)", bytes.len()));
    }
    text
}

pub fn simple(text: &str) -> Value {
    Value::Simple(text.into())
}

pub fn ok() -> Value {
    simple("OK")
}

pub fn error(text: &str) -> Value {
    Value::Error(text.into())
}

pub fn int(n: i64) -> Value {
    Value::Int(n)
}

pub fn bulk(bytes: impl AsRef<[u8]>) -> Value {
    Value::Bulk(bytes.as_ref().to_vec())
}

pub fn nil() -> Value {
    Value::NilBulk
}

pub fn nil_array() -> Value {
    Value::NilArray
}

pub fn array(items: impl IntoIterator<Item = Value>) -> Value {
    Value::Array(items.into_iter().collect())
}

/// An array of bulk strings from words.
pub fn bulks(words: &str) -> Value {
    array(words.split_whitespace().map(bulk))
}
