//! The requests that one core sends to another together, and their replies in
//! the same memory.
//!
//! What one core writes and another reads moves between their caches line by
//! line, there and back, since the memory is used again. So it is packed: whose
//! the requests are stands once for all that follow each other, and the length of
//! an argument in front of it.

use std::ops::Range;

use super::msg::{Head, Job, Origin};
use crate::session::conn::ConnRef;

/// Bytes of arguments in one batch at most; a larger request has its own.
pub const BATCH_BYTES: usize = 1 << 20;

/// Instead of a command's index: a key is to be watched. The token follows the
/// arguments, as if it were one.
const WATCH: u16 = u16::MAX;

/// The end of a reply that comes later by itself.
const LATER: usize = usize::MAX;

/// A [`Head`] without what is the same for its neighbours.
#[derive(Clone, Copy)]
struct Packed {
    hash: u64,
    seq: u32,
    argc: u32,
    key_at: u32,
    /// Its place in [`Requests::origins`].
    origin: u32,
    /// Index in the registry.
    command: u16,
}

/// Requests with their arguments.
#[derive(Default)]
pub struct Requests {
    /// Whose they are; `seq` is of no meaning.
    origins: Vec<Origin>,
    heads: Vec<Packed>,
    /// The arguments of all, a length (see [`put`]) in front of each.
    data: Vec<u8>,
}

impl Requests {
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Bytes of the arguments, about.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    pub fn clear(&mut self) {
        self.origins.clear();
        self.heads.clear();
        self.data.clear();
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        self.origins.capacity() * size_of::<Origin>()
            + self.heads.capacity() * size_of::<Packed>()
            + self.data.capacity()
    }

    /// Adds a request; `head.argc` is the number of `args`.
    #[inline]
    pub fn push<'a>(&mut self, head: &Head, args: impl IntoIterator<Item = &'a [u8]>) {
        let of = head.origin;
        if !self.origins.last().is_some_and(|last| last.is_of_same(&of)) {
            self.origins.push(of);
        }
        for arg in args {
            put(&mut self.data, arg);
        }
        let command = match head.job {
            Job::Command(index) => index as u16,
            Job::Watch(token) => {
                put(&mut self.data, &token.to_le_bytes());
                WATCH
            }
        };
        let origin = self.origins.len() as u32 - 1;
        let Head { hash, argc, key_at, .. } = *head;
        self.heads.push(Packed { hash, seq: of.seq, argc, key_at, origin, command });
    }

    /// The core that the first request came from.
    pub fn sender(&self) -> Option<usize> {
        self.origins.first().map(|o| o.conn.core as usize)
    }

    /// Databases and hashes of the keys of those requests that have one.
    pub fn keys(&self, of: Range<usize>) -> impl Iterator<Item = (usize, u64)> + Clone {
        let keyed = self.heads[of].iter().filter(|h| h.key_at > 0);
        keyed.map(|h| (self.origins[h.origin as usize].db as usize, h.hash))
    }

    /// Reads them from the first on.
    pub fn read(&self) -> Reader<'_> {
        Reader { requests: self, next: 0, rest: &self.data }
    }
}

/// See [`Requests::read`].
pub struct Reader<'a> {
    requests: &'a Requests,
    next: usize,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// The next request, its arguments in `args`.
    #[inline]
    pub fn next(&mut self, args: &mut Vec<&'a [u8]>) -> Option<Head> {
        let p = self.requests.heads.get(self.next)?;
        self.next += 1;
        args.clear();
        for _ in 0..p.argc {
            args.push(take(&mut self.rest));
        }
        let job = match p.command {
            WATCH => Job::Watch(u64::from_le_bytes(take(&mut self.rest).try_into().unwrap_or_default())),
            index => Job::Command(usize::from(index)),
        };
        let origin = Origin { seq: p.seq, ..self.requests.origins[p.origin as usize] };
        Some(Head { origin, job, argc: p.argc, hash: p.hash, key_at: p.key_at })
    }
}

/// Appends an argument behind its length: seven bits a byte, the lowest first,
/// with the eighth set in all but the last.
#[inline]
fn put(out: &mut Vec<u8>, arg: &[u8]) {
    let mut len = arg.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(arg);
}

#[inline]
fn take<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let len = match rest.split_first() {
        Some((&short @ 0..0x80, behind)) => {
            *rest = behind;
            usize::from(short)
        }
        _ => long_length(rest),
    };
    let (arg, behind) = rest.split_at(len);
    *rest = behind;
    arg
}

#[cold]
fn long_length(rest: &mut &[u8]) -> usize {
    let (mut len, mut shift) = (0, 0);
    while let Some((byte, behind)) = rest.split_first() {
        *rest = behind;
        len |= usize::from(byte & 0x7F) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    len
}

/// Requests on their way to a core, and then the same memory with the replies.
#[derive(Default)]
pub struct Batch {
    pub requests: Requests,
    pub replies: Replies,
    /// Bytes of large replies, while they are on their way.
    pub passing: usize,
}

impl Batch {
    pub fn clear(&mut self) {
        self.requests.clear();
        self.replies.bytes.clear();
        self.replies.ends.clear();
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        self.requests.memory() + self.replies.bytes.capacity() + self.replies.ends.capacity() * size_of::<usize>()
    }

    /// The replies that have come: connection, place on it, bytes.
    pub fn answers(&self) -> impl Iterator<Item = (ConnRef, u32, &[u8])> {
        let mut start = 0;
        self.requests.heads.iter().zip(&self.replies.ends).filter(|(_, end)| **end != LATER).map(move |(h, end)| {
            let reply = &self.replies.bytes[start..*end];
            start = *end;
            (self.requests.origins[h.origin as usize].conn, h.seq, reply)
        })
    }
}

/// Replies in the order of the requests.
#[derive(Default)]
pub struct Replies {
    pub bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Replies {
    /// What has been appended to `bytes` is the reply to the next request; if not
    /// `now`, it comes later by itself.
    #[inline]
    pub fn end(&mut self, now: bool) {
        self.ends.push(if now { self.bytes.len() } else { LATER });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::reply::Proto;

    fn head(client: u64, seq: u32, job: Job, argc: u32) -> Head {
        let conn = ConnRef { core: 2, index: client as u32, generation: 1 };
        let (proto, db) = (Proto::Resp2, client as u32 % 3);
        let origin = Origin { conn, seq, client, db, proto, no_touch: false, tracked: seq.is_multiple_of(2) };
        Head { origin, job, argc, hash: u64::from(seq) << 40, key_at: u32::from(argc > 1) }
    }

    #[test]
    fn what_goes_in_comes_out() {
        let long = vec![b'x'; 70_000];
        let requests: Vec<(Head, Vec<&[u8]>)> = vec![
            (head(1, 7, Job::Command(3), 2), vec![b"GET", b"k"]),
            (head(1, 9, Job::Command(300), 3), vec![b"SET", b"", &long]),
            (head(1, 10, Job::Watch(u64::MAX - 5), 1), vec![b"watched"]),
            (head(4, 0, Job::Command(0), 1), vec![&long[..127]]),
            (head(4, 2, Job::Command(0), 1), vec![&long[..128]]),
            (head(1, 12, Job::Command(3), 0), vec![]),
        ];
        let mut batch = Batch::default();
        requests.iter().for_each(|(h, args)| batch.requests.push(h, args.iter().copied()));
        assert_eq!((batch.requests.len(), batch.requests.sender()), (requests.len(), Some(2)));
        let (mut reader, mut args) = (batch.requests.read(), Vec::new());
        for (h, given) in &requests {
            let found = reader.next(&mut args).unwrap();
            assert_eq!((format!("{found:?}"), &args), (format!("{h:?}"), given));
        }
        assert!(reader.next(&mut args).is_none());
        let keys: Vec<_> = batch.requests.keys(0..2).collect();
        assert_eq!(keys, [(1, 7 << 40), (1, 9 << 40)]);
        for (i, now) in [true, false, true, false, false, true].into_iter().enumerate() {
            batch.replies.bytes.extend(vec![b'0' + i as u8; if now { i } else { 0 }]);
            batch.replies.end(now);
        }
        let answers: Vec<_> = batch.answers().map(|(c, seq, bytes)| (c.index, seq, bytes)).collect();
        assert_eq!(answers, [(1, 7, &b""[..]), (1, 10, b"22"), (1, 12, b"55555")]);
        batch.clear();
        assert!(batch.requests.is_empty() && batch.answers().next().is_none());
    }
}
