//! From bytes to requests: the batches of a turn.
//!
//! The requests of one connection are parsed in batches. Over a batch run
//! four passes: hash every key and prefetch its table's header; prefetch its
//! bucket; prefetch its entry; execute (elements of collections that requests name
//! are prefetched in passes of their own before that). So the memory latencies of a pipeline
//! overlap.

use super::core::Core;
use super::io::Arrival;
use super::registry::{Entry, Registry, Route, registry};
use crate::base::Args;
use crate::base::slot::{hash_bytes, hash_key};
use crate::resp::request::{self, Head, Limits, Resume, Step};
use crate::session::conn::Conn;
use crate::store::ahead::Depth;

/// Requests parsed, prefetched and executed together.
const BATCH: usize = 64;

/// Bytes of a request from which its memory is handed over, not copied.
const HANDOVER_MIN: usize = 64 * 1024;

/// Bytes of an arrival up to which it is taken for a single request.
const PEEK_MAX: usize = 512;

/// Requests of one connection in one turn; the rest waits for the next, so
/// that a flooding connection does not starve the others.
const TURN_MAX: usize = 1024;

/// One parsed request.
#[derive(Clone, Copy)]
pub struct Request {
    pub entry: Option<&'static Entry>,
    /// Its arguments' place among those of the batch, and how many there are.
    pub first: u32,
    pub argc: u32,
    /// Input consumed with this request.
    end: usize,
    /// Its key's, where the route is by one key.
    pub hash: u64,
}

/// Memory for parsing that is used again in every batch.
pub struct ParseSpace {
    args: Vec<&'static [u8]>,
    requests: Vec<Request>,
    /// The last command and the name it was called by.
    last: Option<(Name, &'static Entry)>,
    /// How the last request began, and its command.
    head: Option<(Head, &'static Entry)>,
    /// The key that was hashed ahead of parsing, by address, and its hash.
    peeked: (*const u8, u64),
    /// Hashes of the elements that a batch's requests name.
    elements: [Option<u64>; BATCH],
}

impl Default for ParseSpace {
    fn default() -> ParseSpace {
        ParseSpace {
            args: Vec::new(),
            requests: Vec::new(),
            last: None,
            head: None,
            peeked: (std::ptr::null(), 0),
            elements: [None; BATCH],
        }
    }
}

impl ParseSpace {
    /// Arguments and requests that memory is kept for between batches.
    const KEPT: usize = 4096;

    /// What was hashed ahead does not lie in the bytes that are parsed next.
    pub fn forget_peeked(&mut self) {
        self.peeked = (std::ptr::null(), 0);
    }

    /// Gives back what one huge request took.
    pub fn shrink(&mut self) {
        self.args.shrink_to(Self::KEPT);
        self.requests.shrink_to(Self::KEPT);
    }

    /// The next request, and its command.
    #[inline]
    fn read<'a>(
        &mut self,
        input: &'a [u8],
        limits: &Limits,
        resume: &mut Resume,
        args: &mut Vec<&'a [u8]>,
    ) -> (Step, Option<&'static Entry>) {
        if let Some((head, entry)) = &self.head
            && resume.is_fresh()
            && !limits.unauthenticated
            && let Some(n) = head.read(input, limits, args)
        {
            return (Step::Request(n), Some(entry));
        }
        self.read_any(input, limits, resume, args)
    }

    /// [`ParseSpace::read`] of a request that begins like no other.
    fn read_any<'a>(
        &mut self,
        input: &'a [u8],
        limits: &Limits,
        resume: &mut Resume,
        args: &mut Vec<&'a [u8]>,
    ) -> (Step, Option<&'static Entry>) {
        let first = args.len();
        let step = request::read(input, limits, resume, args);
        let entry = match step {
            Step::Request(_) if args.len() > first => self.find(registry(), args[first]),
            _ => None,
        };
        if let Some(e) = entry
            && let Some(head) = Head::of(input, &args[first..])
        {
            self.head = Some((head, e));
        }
        (step, entry)
    }

    /// The command of that name; pipelines mostly repeat the last one.
    #[inline]
    fn find(&mut self, reg: &'static Registry, name: &[u8]) -> Option<&'static Entry> {
        let words = Name::of(name);
        if let (Some(words), Some((last, entry))) = (words, self.last)
            && last == words
        {
            return Some(entry);
        }
        let entry = reg.find(name)?;
        if let Some(words) = words {
            self.last = Some((words, entry));
        }
        Some(entry)
    }
}

/// A name of 1 to 16 bytes in two words, which are compared without a call.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Name {
    len: usize,
    words: [u64; 2],
}

impl Name {
    #[inline]
    fn of(name: &[u8]) -> Option<Name> {
        let len = name.len();
        let long = |at: usize| u64::from_le_bytes(name[at..at + 8].try_into().unwrap_or_default());
        let short = |at: usize| u64::from(u32::from_le_bytes(name[at..at + 4].try_into().unwrap_or_default()));
        // The two words may overlap; together they are all bytes.
        let words = match len {
            1..=3 => [u64::from(name[0]) | u64::from(name[len / 2]) << 8 | u64::from(name[len - 1]) << 16, 0],
            4..=7 => [short(0), short(len - 4)],
            8..=16 => [long(0), long(len - 8)],
            _ => return None,
        };
        Some(Name { len, words })
    }
}

/// What to do after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Next,
    /// It has run; what follows waits for the next turn.
    Yield,
    /// It cannot run yet: it and what follows wait.
    Hold,
    /// The connection is to be closed once its output is sent.
    Stop,
}

/// How a batch ended.
enum End {
    Full,
    Partial,
    Inline(usize),
    Malformed(request::Malformed),
}

/// Empties a vector of borrowed arguments for use with another lifetime; the
/// allocation is kept (the standard library maps in place).
fn recycled<'b>(mut v: Vec<&[u8]>) -> Vec<&'b [u8]> {
    v.clear();
    v.into_iter().map(|_| -> &'b [u8] { b"" }).collect()
}

impl Core {
    /// Works on all connections with input, each at most once.
    pub fn serve_all(&mut self) {
        if self.arrivals.is_empty() && self.ready.is_empty() {
            return;
        }
        let congested = self.congested();
        let listed = self.ready.len();
        let mut arrivals = std::mem::take(&mut self.arrivals);
        self.prefetch_arrivals(&mut arrivals);
        self.arrivals = arrivals;
        // They stay where a slow script finds those that come after it.
        while let Some(a) = self.arrivals.get(self.arrivals_done).copied() {
            self.arrivals_done += 1;
            self.used_buffers.push(a.buffer);
            self.keep_room_and_tell();
            self.parse.peeked = (a.key, a.hash);
            self.serve_arrival(&a, congested);
        }
        self.arrivals.clear();
        self.arrivals_done = 0;
        for _ in 0..listed {
            let Some(index) = self.ready.pop_front() else { break };
            self.keep_room_and_tell();
            let Some(mut conn) = self.conns.take_at(index) else { continue };
            conn.listed_ready = false;
            if congested {
                self.mark_ready(&mut conn);
            } else {
                self.serve_waiting(&mut conn);
            }
            self.put_conn(conn);
        }
    }

    /// Works on what has come for one connection; its buffer must not have
    /// been given back yet.
    #[inline]
    pub fn serve_arrival(&mut self, a: &Arrival, congested: bool) {
        // SAFETY: the caller gives the buffer back after this call, or in the
        // flush stage of this turn.
        let bytes = unsafe { self.buffers.filled(a.buffer, a.len) };
        if let Some(mut conn) = self.conns.take(a.index, a.generation) {
            if conn.tls.is_some() {
                self.receive_sealed(&mut conn, bytes, congested);
            } else {
                self.receive_bytes(&mut conn, bytes, congested);
            }
            self.put_conn(conn);
        }
    }

    /// Single requests of many connections are prefetched as a pipeline's are.
    fn prefetch_arrivals(&mut self, arrivals: &mut [Arrival]) {
        if arrivals.len() < 2 {
            return;
        }
        for a in arrivals.iter_mut().filter(|a| a.len <= PEEK_MAX) {
            // SAFETY: the buffer is given back in the flush stage of this turn.
            let bytes = unsafe { self.buffers.filled(a.buffer, a.len) };
            let (Some(key), Some(conn)) = (request::likely_key(bytes), self.conns.get(a.index)) else { continue };
            a.db = conn.db;
            a.key = key.as_ptr();
            a.hash = hash_key(key);
            self.store.prefetch_table(a.db, a.hash);
        }
        let peeked = || arrivals.iter().filter(|a| a.hash != 0);
        peeked().for_each(|a| self.store.prefetch_bucket(a.db, a.hash));
        peeked().for_each(|a| self.store.prefetch_entry(a.db, a.hash));
    }

    pub fn receive_bytes(&mut self, conn: &mut Conn, bytes: &[u8], congested: bool) {
        conn.bytes_in += bytes.len() as u64;
        conn.active_ms = self.now;
        self.stats.bytes_in += bytes.len() as u64;
        self.stats.reads += 1;
        if conn.closing || conn.close_after {
            if conn.departing {
                keep(conn, bytes);
            }
            return;
        }
        if conn.input_bytes() == 0 && !congested && !conn.listed_ready {
            let used = self.serve(conn, bytes);
            if used < bytes.len() && !conn.close_after {
                keep(conn, &bytes[used..]);
            }
            return self.after_serving(conn);
        }
        keep(conn, bytes);
        if conn.input_bytes() as u64 > self.settings.client_query_buffer_limit {
            self.stats.query_buffer_closes += 1;
            self.log_too_much_input(conn, &conn.input[conn.input_at..]);
            return self.close(conn);
        }
        self.mark_ready(conn);
    }

    /// Goes on with input that was kept.
    pub fn serve_waiting(&mut self, conn: &mut Conn) {
        if conn.input_bytes() > 0 && !conn.closing && !conn.close_after {
            let alone = conn.resume.needed() == Some(conn.input_bytes());
            if alone && conn.input_bytes() >= HANDOVER_MIN {
                self.serve_donated(conn);
                return self.after_serving(conn);
            }
            // Both are taken, so that a command that looks at the connection
            // (CLIENT LIST, ACL LOG) finds its input empty.
            let (input, at) = (std::mem::take(&mut conn.input), std::mem::take(&mut conn.input_at));
            let used = self.serve(conn, &input[at..]);
            conn.input = input;
            conn.input_at = at + used;
            compact(conn);
        }
        self.after_serving(conn);
    }

    /// Executes the one large request that the input consists of; the command
    /// may keep the input's memory as its value instead of copying it.
    fn serve_donated(&mut self, conn: &mut Conn) {
        let input = std::mem::take(&mut conn.input);
        let at = std::mem::take(&mut conn.input_at);
        // SAFETY: the bytes stay where they are while the vector moves; they
        // are freed only with the vector, which lives in the store's `donor`
        // or in the entry that took it. Nothing but this one request runs
        // before this function ends, so that entry is not deleted meanwhile.
        let bytes = unsafe { std::slice::from_raw_parts(input.as_ptr(), input.len()) };
        self.store.donor = Some(input);
        let used = self.serve(conn, &bytes[at..]);
        if let Some(input) = self.store.donor.take() {
            conn.input = input;
            conn.input_at = at + used;
            compact(conn);
        }
    }

    fn after_serving(&mut self, conn: &mut Conn) {
        if conn.receiving || conn.throttled {
            self.throttle(conn);
        }
        if conn.replies.has_output() || conn.close_after || conn.eof {
            self.mark_dirty(conn);
        }
    }

    /// Executes requests from the start of `input`; the number of bytes done.
    fn serve(&mut self, conn: &mut Conn, input: &[u8]) -> usize {
        self.lend_buffer(conn);
        self.output_before = conn.output_bytes();
        let mut args: Vec<&[u8]> = recycled(std::mem::take(&mut self.parse.args));
        let mut requests = std::mem::take(&mut self.parse.requests);
        let mut at = 0;
        let mut done = 0;
        let used = loop {
            if conn.barrier || done >= TURN_MAX {
                if at < input.len() && !conn.barrier {
                    self.mark_ready(conn);
                }
                break at;
            }
            args.clear();
            requests.clear();
            let limits = Limits { bulk_max: self.options.proto_max_bulk_len, unauthenticated: !conn.authenticated };
            let end = self.parse(conn, &input[at..], &limits, &mut args, &mut requests);
            done += requests.len();
            let (flow, used) = self.execute_batch(conn, &requests, &args);
            self.settle_clock();
            let whole = flow == Flow::Next;
            at += used;
            if flow == Flow::Yield && at < input.len() {
                self.mark_ready(conn);
            }
            if !whole {
                conn.resume.reset();
                break if flow == Flow::Stop { input.len() } else { at };
            }
            match end {
                End::Full => {}
                End::Partial => break at,
                End::Inline(n) => {
                    let words = std::mem::take(&mut conn.resume.words);
                    match self.serve_inline(conn, &words) {
                        Flow::Next => at += n,
                        Flow::Yield => {
                            at += n;
                            self.mark_ready(conn);
                            break at;
                        }
                        Flow::Hold => break at,
                        Flow::Stop => break input.len(),
                    }
                }
                // What was parsed before an AUTH ran was held to tighter limits.
                End::Malformed(_) if limits.unauthenticated && conn.authenticated => conn.resume.reset(),
                End::Malformed(m) => {
                    self.protocol_error(conn, m, input);
                    break input.len();
                }
            }
        };
        self.parse.args = recycled(args);
        self.parse.requests = requests;
        used
    }

    /// Parses up to a batch; the passes before the last.
    #[inline]
    fn parse<'a>(
        &mut self,
        conn: &mut Conn,
        input: &'a [u8],
        limits: &Limits,
        args: &mut Vec<&'a [u8]>,
        requests: &mut Vec<Request>,
    ) -> End {
        let mut elements = 0;
        let mut at = 0;
        let end = loop {
            if requests.len() == BATCH {
                break End::Full;
            }
            let first = args.len();
            let (step, entry) = self.parse.read(&input[at..], limits, &mut conn.resume, args);
            match step {
                Step::Request(n) => {
                    at += n;
                    let argc = args.len() - first;
                    let mut hash = 0;
                    if let Some(Entry { route: Route::Key(k), element, .. }) = entry
                        && *k < argc
                    {
                        elements |= element;
                        let key = args[first + k];
                        if key.as_ptr() == self.parse.peeked.0 {
                            hash = self.parse.peeked.1;
                        } else {
                            hash = hash_key(key);
                            self.store.prefetch_table(conn.db, hash);
                        }
                    }
                    requests.push(Request { entry, first: first as u32, argc: argc as u32, end: at, hash });
                }
                Step::Inline(n) if requests.is_empty() => break End::Inline(n),
                Step::Inline(_) => break End::Full,
                Step::Partial => break End::Partial,
                Step::Malformed(m) => break End::Malformed(m),
            }
        };
        if requests.len() > 1 {
            let hashed = || requests.iter().filter(|r| r.hash != 0);
            hashed().for_each(|r| self.store.prefetch_bucket(conn.db, r.hash));
            hashed().for_each(|r| self.store.prefetch_entry(conn.db, r.hash));
            if elements != 0 {
                self.prefetch_elements(conn.db, requests, args);
            }
        }
        end
    }

    /// Further passes over a batch with commands on elements of collections.
    fn prefetch_elements(&mut self, db: usize, requests: &[Request], args: &[&[u8]]) {
        let element = |r: &Request| {
            let at = usize::from(r.entry.map_or(0, |e| e.element));
            (r.hash != 0 && at != 0 && at < r.argc as usize).then(|| hash_bytes(args[r.first as usize + at]))
        };
        self.parse.elements.iter_mut().zip(requests).for_each(|(e, r)| *e = element(r));
        let each = || requests.iter().zip(&self.parse.elements).filter_map(|(r, e)| Some((r.hash, (*e)?)));
        each().for_each(|(key, _)| self.store.prefetch_object(db, key));
        each().for_each(|(key, e)| self.store.prefetch_element(db, key, e, Depth::Place));
        each().for_each(|(key, e)| self.store.prefetch_element(db, key, e, Depth::Bytes));
    }

    #[inline]
    fn execute_batch(&mut self, conn: &mut Conn, requests: &[Request], args: &[&[u8]]) -> (Flow, usize) {
        self.keep_room();
        self.start_clock();
        let mut at = 0;
        let mut next = 0;
        while let Some(r) = requests.get(next) {
            let (n, flow) = self.run_alike(conn, &requests[next..], args);
            if n > 0 {
                next += n;
                at = requests[next - 1].end;
                if flow == Flow::Next {
                    continue;
                }
                return (flow, at);
            }
            next += 1;
            if r.argc > 0 {
                let args = &args[r.first as usize..(r.first + r.argc) as usize];
                match self.dispatch(conn, r.entry, args, r.hash) {
                    Flow::Next => {}
                    Flow::Yield => return (Flow::Yield, r.end),
                    Flow::Hold => return (Flow::Hold, at),
                    Flow::Stop => return (Flow::Stop, r.end),
                }
            }
            at = r.end;
            if conn.barrier {
                return (if at == requests[requests.len() - 1].end { Flow::Next } else { Flow::Hold }, at);
            }
        }
        (Flow::Next, at)
    }

    fn serve_inline(&mut self, conn: &mut Conn, words: &[Vec<u8>]) -> Flow {
        let args: Vec<&[u8]> = words.iter().map(|w| &w[..]).collect();
        if args.is_empty() {
            return Flow::Next;
        }
        let entry = registry().find(args[0]);
        let hash = match entry {
            Some(Entry { route: Route::Key(k), .. }) if *k < args.len() => hash_key(args[*k]),
            _ => 0,
        };
        self.keep_room();
        self.start_clock();
        self.dispatch(conn, entry, &args, hash)
    }

    fn protocol_error(&mut self, conn: &mut Conn, m: request::Malformed, input: &[u8]) {
        let mut text = b"ERR Protocol error: ".to_vec();
        text.extend_from_slice(&m.text());
        self.log_protocol_error(conn, &m.text(), input);
        self.stats.protocol_errors += 1;
        self.stats.count_error(b"ERR");
        conn.error(&text);
        conn.close_after = true;
    }

    /// The key's place, when the route is by one key and it is there.
    #[inline]
    pub fn one_key<'a>(entry: &Entry, args: Args<'a>) -> Option<&'a [u8]> {
        match entry.route {
            Route::Key(k) => args.get(k).copied(),
            _ => None,
        }
    }
}

/// Keeps bytes that could not be executed yet.
fn keep(conn: &mut Conn, bytes: &[u8]) {
    if conn.input_at > 0 && conn.input_at == conn.input.len() {
        conn.input.clear();
        conn.input_at = 0;
    }
    if let Some(n) = conn.resume.needed() {
        // The whole argument will be needed: few allocations instead of many,
        // but in proportion to what has come. Announcing bytes costs a client
        // nothing, and even untouched memory may be backed by huge pages.
        if conn.input.capacity() - conn.input.len() < bytes.len() {
            let believed = (conn.input_bytes() * 4).clamp(256 << 10, 64 << 20);
            let missing = n.saturating_sub(conn.input_bytes()).min(believed);
            conn.input.reserve_exact(missing.max(bytes.len()));
        }
    }
    conn.input.extend_from_slice(bytes);
    conn.input_peak = conn.input_peak.max(conn.input.len());
}

/// Drops executed input, in amortized constant time per byte.
fn compact(conn: &mut Conn) {
    if conn.input_at == conn.input.len() {
        conn.input.clear();
        conn.input_at = 0;
        if conn.input.capacity() > 64 * 1024 {
            conn.input = Vec::new();
        }
    } else if conn.input_at > conn.input.len() / 2 {
        conn.input.drain(..conn.input_at);
        conn.input_at = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn names_are_compared_whole() {
        for len in 1..=16u8 {
            let name: Vec<u8> = (1..=len).collect();
            assert!(Name::of(&name) == Name::of(&name.clone()) && Name::of(&name).is_some());
            assert!(Name::of(&name) != Name::of(&[&name[..], b"x"].concat()));
            for i in 0..name.len() {
                let mut other = name.clone();
                other[i] ^= 0x20;
                assert!(Name::of(&other) != Name::of(&name), "byte {i} of {len}");
            }
        }
        assert!(Name::of(b"").is_none() && Name::of(&[b'x'; 17]).is_none());
    }
}
