//! Running commands in unit tests, without a server.

use super::cx::{Cx, NO_HINT, Options, Touch};
use super::effect::{Effect, Event, Item};
use super::{Command, families};
use crate::base::rng::Rng;
use crate::resp::Reply;
use crate::resp::reply::Proto;
use crate::resp::request::{self, Limits, Resume, Step};
use crate::store::Store;

/// A keyspace on a bench: a clock that the test sets, all effects wanted.
pub struct Bench {
    pub store: Store,
    pub now: u64,
    /// The host's time where `now` is 0 (what is applied, not served).
    pub clock: u64,
    pub db: usize,
    pub proto: Proto,
    pub options: Options,
    /// Stream of the last command, one line per command, words joined by spaces.
    pub stream: Vec<String>,
    pub events: Vec<Event>,
    pub dirty: u64,
    pub rng: Rng,
    /// Commands beside those of this module.
    pub more: &'static [Command],
}

impl Default for Bench {
    fn default() -> Bench {
        Bench {
            store: Store::new(16),
            now: 1_700_000_000_000,
            clock: 0,
            db: 0,
            proto: Proto::Resp2,
            options: Options::default(),
            stream: Vec::new(),
            events: Vec::new(),
            dirty: 0,
            rng: Rng::new(1),
            more: &[],
        }
    }
}

fn find(name: &[u8], more: &'static [Command]) -> Option<&'static Command> {
    families().into_iter().chain([more]).flatten().find(|c| c.spec.name.as_bytes().eq_ignore_ascii_case(name))
}

impl Bench {
    /// Runs one command, or one subcommand, and returns its encoded reply.
    pub fn raw(&mut self, args: &[&[u8]]) -> Vec<u8> {
        let sub = || find(&[args[0], b"|", args.get(1)?].concat(), self.more);
        let unknown = || panic!("no such command: {}", String::from_utf8_lossy(args[0]));
        let command = find(args[0], self.more).or_else(sub).unwrap_or_else(unknown);
        let mut out = Vec::new();
        let mut fx = Effect { wants_stream: true, wants_events: true, ..Effect::default() };
        if !command.spec.arity_fits(args.len()) {
            Reply::new(&mut out, self.proto).error(super::Fault::arity(command.spec.name).text());
            return out;
        }
        let mut cx = Cx {
            store: &mut self.store,
            db: self.db,
            now: self.now,
            clock: if self.now == 0 { self.clock } else { self.now },
            reply: Reply::new(&mut out, self.proto),
            fx: &mut fx,
            options: &self.options,
            rng: &mut self.rng,
            touch: Touch::Lru(crate::store::clock::lru(self.now)),
            owns: &|_| true,
            hint: NO_HINT,
        };
        let result = (command.run)(&mut cx, args);
        if let Err(fault) = result {
            out.clear();
            Reply::new(&mut out, self.proto).error(fault.text());
        }
        self.stream = lines(&fx, args);
        self.events = fx.events;
        self.dirty = fx.dirty;
        out
    }

    /// Runs a line of words; the reply as printable text (`\r\n` as spaces,
    /// trimmed), e.g. `+OK`, `:1`, `$1 v`, `*2 $1 a $1 b`.
    pub fn run(&mut self, line: &str) -> String {
        let words = crate::base::words::split(line.as_bytes()).expect("balanced quotes");
        let args: Vec<&[u8]> = words.iter().map(|w| &w[..]).collect();
        String::from_utf8_lossy(&self.raw(&args)).replace("\r\n", " ").trim_end().to_string()
    }

    /// Names and keys of the last command's notified events, e.g. `set k`.
    pub fn events(&self) -> Vec<String> {
        use super::effect::Class;
        let shown = self.events.iter().filter(|e| !matches!(e.class, Class::Silent | Class::New | Class::Miss));
        shown.map(|e| format!("{} {}", e.name, String::from_utf8_lossy(&e.key))).collect()
    }
}

/// The stream's commands as text; those of another database with its number.
fn lines(fx: &Effect, args: &[&[u8]]) -> Vec<String> {
    let mut start = 0;
    let line = |item: &Item| match *item {
        Item::Verbatim => join(args.iter().copied()),
        Item::Encoded { end, db } => {
            let bytes = &fx.encoded[std::mem::replace(&mut start, end)..end];
            let (mut words, mut resume) = (Vec::new(), Resume::default());
            let limits = Limits { bulk_max: usize::MAX, unauthenticated: false };
            assert_eq!(request::read(bytes, &limits, &mut resume, &mut words), Step::Request(bytes.len()));
            db.map_or(String::new(), |db| format!("[{db}] ")) + &join(words.into_iter())
        }
    };
    fx.stream.iter().map(line).collect()
}

fn join<'a>(words: impl Iterator<Item = &'a [u8]>) -> String {
    words.map(|w| String::from_utf8_lossy(w).into_owned()).collect::<Vec<_>>().join(" ")
}
