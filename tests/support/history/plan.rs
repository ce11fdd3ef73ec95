//! The operations that clients perform: how each is asked for, and what its
//! replies say about versions.

use super::super::rng::Rng;
use super::super::value::Value;
use super::super::wire::encode_into;
use super::collections::{self, Collections, NAMES, Told};
use super::{Key, Op, Version};

/// The keys of one history, by kind; their numbers are places in `names`.
pub struct Keys {
    pub names: Vec<String>,
    pub registers: Vec<Key>,
    pub counters: Vec<Key>,
    pub logs: Vec<Key>,
    pub twins: Vec<Key>,
    pub pairs: Vec<[Key; 2]>,
    /// Destinations of copies of the counter at the same place.
    pub copies: Vec<Key>,
    pub collections: Collections,
}

impl Keys {
    /// Names with random parts, so that they spread over all slots.
    pub fn new(rng: &mut Rng) -> Keys {
        let mut names = Vec::new();
        let mut make = |kind: &str, count: usize| -> Vec<Key> {
            (0..count)
                .map(|_| {
                    names.push(format!("{kind}:{:x}", rng.next()));
                    names.len() as Key - 1
                })
                .collect()
        };
        let registers = make("register", 6);
        let counters = make("counter", 3);
        let logs = make("log", 3);
        let twins = make("twin", 4);
        let flat = make("pair", 4);
        let copies = make("copy", 3);
        let collections = Collections::new(&mut names, rng);
        Keys {
            names,
            registers,
            counters,
            logs,
            twins,
            pairs: flat.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect(),
            copies,
            collections,
        }
    }

    /// All that loads use.
    pub fn all_names(&self) -> impl Iterator<Item = &str> {
        let c = &self.collections;
        let queues = c.queues.iter().flat_map(|q| [&q.list, &q.counter]);
        self.names.iter().chain(queues).chain(&c.balls).map(String::as_str)
    }

    fn name(&self, key: Key) -> &str {
        &self.names[key as usize]
    }
}

/// What a reply at some place of an operation says.
#[derive(Clone, Debug)]
pub enum Says {
    Nothing,
    Told(Told),
    /// The register holds this version.
    Holds(Key),
    /// The counter holds this number.
    Counts(Key),
    /// INCR answered the number that it wrote.
    Counted(Key),
    /// APPEND answered the length after the element.
    Appended(Key, u64),
    /// The log holds these elements.
    Contents(Key),
    /// The log has this length.
    Length(Key),
    /// MGET of all twins.
    Twins,
    /// MGET of a pair, which may be absent.
    Pair([Key; 2]),
    /// MSETNX of a pair with a token.
    Created([Key; 2], Version),
    /// DEL of a pair, a write of nothing under this unique number.
    Deleted([Key; 2], Version),
    /// MGET of a counter and its copy.
    Copy(Key, Key),
}

/// Calls commands that are given as arguments, each behind its length.
const CALL_ALL: &str = "local out, i = {}, 1 while i <= #ARGV do local n = tonumber(ARGV[i]) \
                        out[#out + 1] = redis.call(unpack(ARGV, i + 1, i + n)) i = i + n + 1 end return out";

/// An operation to perform.
#[derive(Clone, Debug)]
pub struct Plan {
    pub label: String,
    /// The commands with what their replies say; inside MULTI, those of EXEC.
    steps: Vec<(Vec<String>, Says)>,
    multi: bool,
    /// The commands of a transaction are called by a script, which names so many
    /// of its keys.
    script: Option<usize>,
    /// Commands before, that are no part of the operation.
    prepare: Vec<Vec<String>>,
    writes: Vec<(Key, Version)>,
    hidden: Vec<(Key, Version)>,
    /// The replies, which are numbers, make one together.
    makes_one: bool,
}

impl Plan {
    pub fn new(label: &str) -> Plan {
        Plan {
            label: label.to_owned(),
            steps: Vec::new(),
            multi: false,
            script: None,
            prepare: Vec::new(),
            writes: Vec::new(),
            hidden: Vec::new(),
            makes_one: false,
        }
    }

    pub fn step(mut self, words: &[&str], says: Says) -> Plan {
        self.steps.push((words.iter().map(|w| (*w).to_owned()).collect(), says));
        self
    }

    pub fn writing(mut self, key: Key, version: Version) -> Plan {
        self.writes.push((key, version));
        self
    }

    pub fn in_multi(mut self) -> Plan {
        self.multi = true;
        self
    }

    pub fn makes_one(mut self) -> Plan {
        self.makes_one = true;
        self
    }

    /// Can a script call its commands?
    fn may_be_script(&self) -> bool {
        self.multi && self.prepare.is_empty() && self.steps.iter().all(|(words, _)| words[0] != "EVAL")
    }

    /// Appends the bytes to send; tells how many replies will come.
    pub fn encode(&self, out: &mut Vec<u8>) -> usize {
        for words in &self.prepare {
            encode_into(out, words);
        }
        if let Some(named) = self.script {
            self.encode_script(out, named);
            return self.prepare.len() + 1;
        }
        if self.multi {
            encode_into(out, &["MULTI"]);
        }
        for (words, _) in &self.steps {
            encode_into(out, words);
        }
        if self.multi {
            encode_into(out, &["EXEC"]);
        }
        self.prepare.len() + self.steps.len() + if self.multi { 2 } else { 0 }
    }

    fn encode_script(&self, out: &mut Vec<u8>, named: usize) {
        let keys: Vec<&String> = self.steps.iter().filter_map(|(words, _)| words.get(1)).take(named).collect();
        let count = keys.len().to_string();
        let mut words = vec!["EVAL", CALL_ALL, &count];
        words.extend(keys.iter().map(|k| k.as_str()));
        let lengths: Vec<String> = self.steps.iter().map(|(words, _)| words.len().to_string()).collect();
        for (length, (step, _)) in lengths.iter().zip(&self.steps) {
            words.push(length);
            words.extend(step.iter().map(String::as_str));
        }
        encode_into(out, &words);
    }

    /// What the replies say, or nothing when EXEC was refused by WATCH.
    pub fn interpret(&self, keys: &Keys, replies: &[Value]) -> Option<Op> {
        for reply in replies {
            assert!(!reply.is_error(), "{}: {reply:?}", self.label);
        }
        let replies = &replies[self.prepare.len()..];
        let results = match (self.multi, replies.last()) {
            (true, Some(exec)) if exec.is_nil() => return None,
            (true, Some(exec)) => exec.items(),
            _ => replies,
        };
        assert_eq!(results.len(), self.steps.len(), "{}", self.label);
        let mut op =
            Op { label: self.label.clone(), writes: self.writes.clone(), hidden: self.hidden.clone(), ..Op::default() };
        for ((_, says), reply) in self.steps.iter().zip(results) {
            note(&mut op, keys, says, reply);
        }
        if self.makes_one && results.iter().map(Value::as_int).sum::<i64>() != 1 {
            op.torn = Some(format!("not one: {results:?}"));
        }
        Some(op)
    }
}

/// The version in a register: `t` and a number.
pub fn token(version: Version) -> String {
    format!("t{version}")
}

fn parse_token(reply: &Value) -> Option<Version> {
    if reply.is_nil() {
        return None;
    }
    let text = reply.as_text();
    let version = text.strip_prefix('t').and_then(|digits| digits.parse().ok());
    Some(version.unwrap_or_else(|| panic!("not a token: {text:?}")))
}

pub fn parse_number(reply: &Value) -> Version {
    if let Value::Int(n) = reply {
        return *n as Version;
    }
    let text = reply.as_text();
    text.parse().unwrap_or_else(|_| panic!("not a count: {text:?}"))
}

const ELEMENT_DIGITS: usize = 12;

fn note(op: &mut Op, keys: &Keys, says: &Says, reply: &Value) {
    match says {
        Says::Nothing => {}
        Says::Told(told) => collections::note(op, keys, told, reply),
        Says::Holds(key) => match parse_token(reply) {
            Some(version) => op.reads.push((*key, version)),
            None => op.torn = Some(format!("register {} is absent", keys.name(*key))),
        },
        Says::Counts(key) => op.reads.push((*key, parse_number(reply))),
        Says::Counted(key) => {
            let number = reply.as_int() as Version;
            op.reads.push((*key, number - 1));
            op.writes.push((*key, number));
        }
        Says::Appended(key, element) => {
            let length = reply.as_int() as usize;
            assert_eq!(length % ELEMENT_DIGITS, 0, "a torn log");
            let places = (length / ELEMENT_DIGITS) as Version;
            op.reads.push((*key, places - 1));
            op.writes.push((*key, places));
            op.appended.push((*key, *element));
        }
        Says::Length(key) => {
            op.reads.push((*key, (reply.as_int() as usize / ELEMENT_DIGITS) as Version));
        }
        Says::Contents(key) => {
            let bytes = reply.as_bytes();
            assert_eq!(bytes.len() % ELEMENT_DIGITS, 0, "a torn log");
            let elements: Vec<u64> = bytes
                .chunks(ELEMENT_DIGITS)
                .map(|digits| {
                    let text = String::from_utf8_lossy(digits).into_owned();
                    u64::from_str_radix(&text, 16).unwrap_or_else(|_| panic!("not an element: {text}"))
                })
                .collect();
            op.reads.push((*key, elements.len() as Version));
            op.contents.push((*key, elements));
        }
        Says::Twins => note_twins(op, keys, reply),
        Says::Pair(pair) => note_pair(op, pair, reply),
        Says::Created(pair, version) => {
            if reply.as_int() == 1 {
                op.writes.extend(pair.map(|key| (key, *version)));
            }
        }
        Says::Deleted(pair, version) => match reply.as_int() {
            0 => {}
            2 => op.writes.extend(pair.map(|key| (key, *version))),
            n => op.torn = Some(format!("DEL found {n} of a pair")),
        },
        Says::Copy(counter, copy) => {
            let [count, copied] = reply.items() else {
                panic!("an odd MGET: {reply:?}");
            };
            op.reads.push((*counter, parse_number(count)));
            if parse_number(copied) > parse_number(count) {
                op.torn = Some(format!("copy {copy} is ahead of its counter: {reply:?}"));
            }
        }
    }
}

fn note_twins(op: &mut Op, keys: &Keys, reply: &Value) {
    let versions: Vec<Option<Version>> = reply.items().iter().map(parse_token).collect();
    if versions.iter().any(|version| *version != versions[0]) {
        op.torn = Some(format!("twins differ: {reply:?}"));
    }
    for (key, version) in keys.twins.iter().zip(&versions) {
        op.reads.extend(version.map(|version| (*key, version)));
    }
}

fn note_pair(op: &mut Op, pair: &[Key; 2], reply: &Value) {
    let versions: Vec<Option<Version>> = reply.items().iter().map(parse_token).collect();
    if versions[0] != versions[1] {
        op.torn = Some(format!("a pair differs: {reply:?}"));
    }
    for (key, version) in pair.iter().zip(&versions) {
        op.reads.extend(version.map(|version| (*key, version)));
    }
}

/// Makes plans; every version that it hands out is unique in its history.
pub struct Planner<'a> {
    pub keys: &'a Keys,
    pub rng: Rng,
    pub client: u32,
    mix: Mix,
    next: u64,
}

/// Which operations a load is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mix {
    #[default]
    Strings,
    Collections,
    /// Keys that are only ever written together, and read one by one: shows who
    /// sees one part of a command before another part has run.
    Twins,
}

impl<'a> Planner<'a> {
    pub fn new(keys: &'a Keys, rng: Rng, client: u32, mix: Mix) -> Planner<'a> {
        Planner { keys, rng, client, mix, next: 1 }
    }

    pub fn version(&mut self) -> Version {
        self.next += 1;
        u64::from(self.client + 1) << 32 | self.next
    }

    fn register(&mut self) -> (Key, &'a str) {
        let key = *self.rng.pick(&self.keys.registers);
        (key, self.keys.name(key))
    }

    fn two_registers(&mut self) -> [(Key, &'a str); 2] {
        let first = self.rng.below(self.keys.registers.len());
        let step = 1 + self.rng.below(self.keys.registers.len() - 1);
        let second = (first + step) % self.keys.registers.len();
        [first, second].map(|place| {
            let key = self.keys.registers[place];
            (key, self.keys.name(key))
        })
    }

    /// A random operation.
    pub fn plan(&mut self) -> Plan {
        let mut plan = match self.mix {
            Mix::Strings => self.plan_commands(),
            Mix::Collections => self.collection(),
            Mix::Twins if self.rng.one_in(4) => self.write_twins(),
            Mix::Twins => self.read_twin(),
        };
        if plan.may_be_script() && self.rng.one_in(2) {
            plan.script = Some(self.rng.below(3));
            plan.label = format!("EVAL of {}", plan.label);
        }
        plan
    }

    fn plan_commands(&mut self) -> Plan {
        match self.rng.below(10) {
            0..=2 => self.single(),
            3 => self.count_or_append(),
            4 => self.read_many(),
            5 => self.write_many(),
            6 => self.move_in(),
            7 => self.pair(),
            8 => self.copy(),
            _ => self.transaction(),
        }
    }

    fn single(&mut self) -> Plan {
        let (key, name) = self.register();
        let version = self.version();
        let text = token(version);
        match self.rng.below(5) {
            0 | 1 => Plan::new("GET").step(&["GET", name], Says::Holds(key)),
            2 => Plan::new("GETSET").step(&["GETSET", name, &text], Says::Holds(key)).writing(key, version),
            3 => Plan::new("SET GET").step(&["SET", name, &text, "GET"], Says::Holds(key)).writing(key, version),
            _ => Plan::new("SET").step(&["SET", name, &text], Says::Nothing).writing(key, version),
        }
    }

    fn count_or_append(&mut self) -> Plan {
        let counter = *self.rng.pick(&self.keys.counters);
        let log = *self.rng.pick(&self.keys.logs);
        let (count, book) = (self.keys.name(counter), self.keys.name(log));
        let element = self.version();
        match self.rng.below(6) {
            0 | 1 => Plan::new("INCR").step(&["INCR", count], Says::Counted(counter)),
            2 => Plan::new("GET").step(&["GET", count], Says::Counts(counter)),
            3 => Plan::new("APPEND").step(&["APPEND", book, &format!("{element:012x}")], Says::Appended(log, element)),
            4 => Plan::new("GET").step(&["GET", book], Says::Contents(log)),
            _ => Plan::new("STRLEN").step(&["STRLEN", book], Says::Length(log)),
        }
    }

    fn read_many(&mut self) -> Plan {
        if self.rng.one_in(2) {
            let mut words = vec!["MGET"];
            words.extend(self.keys.twins.iter().map(|key| self.keys.name(*key)));
            return Plan::new("MGET twins").step(&words, Says::Twins);
        }
        // One command per key in MULTI: the same atomic read by another way.
        let [(a, a_name), (b, b_name)] = self.two_registers();
        let counter = self.keys.counters[0];
        let log = self.keys.logs[0];
        Plan::new("MULTI reads")
            .step(&["GET", a_name], Says::Holds(a))
            .step(&["GET", self.keys.name(counter)], Says::Counts(counter))
            .step(&["GET", b_name], Says::Holds(b))
            .step(&["STRLEN", self.keys.name(log)], Says::Length(log))
            .in_multi()
    }

    fn read_twin(&mut self) -> Plan {
        let key = *self.rng.pick(&self.keys.twins);
        Plan::new("GET of a twin").step(&["GET", self.keys.name(key)], Says::Holds(key))
    }

    fn write_twins(&mut self) -> Plan {
        let version = self.version();
        let text = token(version);
        let mut words = vec!["MSET"];
        for key in &self.keys.twins {
            words.extend([self.keys.name(*key), &text]);
        }
        let plan = Plan::new("MSET twins").step(&words, Says::Nothing);
        self.keys.twins.iter().fold(plan, |plan, key| plan.writing(*key, version))
    }

    fn write_many(&mut self) -> Plan {
        if self.rng.one_in(2) {
            return self.write_twins();
        }
        let version = self.version();
        let text = token(version);
        let [(a, a_name), (b, b_name)] = self.two_registers();
        Plan::new("MSET")
            .step(&["MSET", a_name, &text, b_name, &text], Says::Nothing)
            .writing(a, version)
            .writing(b, version)
    }

    /// Writes a register by a two-key command from a key of our own.
    fn move_in(&mut self) -> Plan {
        let (key, name) = self.register();
        let version = self.version();
        let own = format!("own:{}:{version:x}", self.keys.name(key));
        let (label, words): (&str, Vec<&str>) = match self.rng.below(3) {
            0 => ("RENAME", vec!["RENAME", &own, name]),
            1 => ("COPY", vec!["COPY", &own, name, "REPLACE"]),
            _ => ("BITOP", vec!["BITOP", "OR", name, &own]),
        };
        let mut plan = Plan::new(label).step(&words, Says::Nothing).writing(key, version);
        plan.prepare.push(vec!["SET".into(), own.clone(), token(version)]);
        plan
    }

    fn pair(&mut self) -> Plan {
        let pair = *self.rng.pick(&self.keys.pairs);
        let [a, b] = pair.map(|key| self.keys.name(key));
        let version = self.version();
        let text = token(version);
        match self.rng.below(6) {
            0 | 1 => Plan::new("MSETNX").step(&["MSETNX", a, &text, b, &text], Says::Created(pair, version)),
            2 => Plan::new("DEL").step(&["DEL", a, b], Says::Deleted(pair, version)),
            3 => Plan::new("MULTI MGET DEL")
                .step(&["MGET", a, b], Says::Pair(pair))
                .step(&["DEL", b, a], Says::Deleted(pair, version))
                .in_multi(),
            _ => Plan::new("MGET pair").step(&["MGET", a, b], Says::Pair(pair)),
        }
    }

    fn copy(&mut self) -> Plan {
        let place = self.rng.below(self.keys.copies.len());
        let (counter, copy) = (self.keys.counters[place], self.keys.copies[place]);
        let (from, to) = (self.keys.name(counter), self.keys.name(copy));
        let through = format!("through:{to}");
        match self.rng.below(4) {
            0 => Plan::new("COPY counter").step(&["COPY", from, to, "REPLACE"], Says::Nothing),
            1 => Plan::new("COPY RENAME")
                .step(&["COPY", from, &through, "REPLACE"], Says::Nothing)
                .step(&["RENAME", &through, to], Says::Nothing)
                .in_multi(),
            _ => Plan::new("MGET counter copy").step(&["MGET", from, to], Says::Copy(counter, copy)),
        }
    }

    fn transaction(&mut self) -> Plan {
        let [(a, a_name), (b, b_name)] = self.two_registers();
        let (first, second) = (self.version(), self.version());
        let (one, two) = (token(first), token(second));
        match self.rng.below(4) {
            0 => Plan::new("MULTI swap")
                .step(&["GET", a_name], Says::Holds(a))
                .step(&["GETSET", b_name, &two], Says::Holds(b))
                .step(&["SET", a_name, &one], Says::Nothing)
                .writing(a, first)
                .writing(b, second)
                .in_multi(),
            1 => {
                // The first value of the two must never be seen.
                let mut plan = Plan::new("MULTI twice")
                    .step(&["SET", a_name, &one], Says::Nothing)
                    .step(&["GET", b_name], Says::Holds(b))
                    .step(&["SET", a_name, &two], Says::Nothing)
                    .writing(a, second)
                    .in_multi();
                plan.hidden.push((a, first));
                plan
            }
            2 => {
                let [c, d] = [0, 1].map(|place| self.keys.counters[place]);
                let log = *self.rng.pick(&self.keys.logs);
                Plan::new("MULTI counts")
                    .step(&["INCR", self.keys.name(c)], Says::Counted(c))
                    .step(&["APPEND", self.keys.name(log), &format!("{first:012x}")], Says::Appended(log, first))
                    .step(&["INCR", self.keys.name(d)], Says::Counted(d))
                    .in_multi()
            }
            _ => Plan::new("MULTI MSET")
                .step(&["GET", a_name], Says::Holds(a))
                .step(&["GET", b_name], Says::Holds(b))
                .step(&["MSET", b_name, &one, a_name, &one], Says::Nothing)
                .writing(a, first)
                .writing(b, first)
                .in_multi(),
        }
    }

    /// A transaction that reads two registers, or fields of hashes, under WATCH
    /// and writes one: the keys to watch and how to read them, and the plan of
    /// MULTI to EXEC.
    pub fn watched(&mut self) -> ([(Key, &'a str); 2], Vec<&'static str>, Plan) {
        if self.mix == Mix::Collections {
            return self.watched_fields();
        }
        let watched = self.two_registers();
        let version = self.version();
        let (key, name) = watched[self.rng.below(2)];
        let plan = Plan::new("WATCH EXEC")
            .step(&["SET", name, &token(version)], Says::Nothing)
            .writing(key, version)
            .in_multi();
        (watched, vec!["GET"], plan)
    }

    fn watched_fields(&mut self) -> ([(Key, &'a str); 2], Vec<&'static str>, Plan) {
        let at = self.rng.below(2);
        let fields = &self.keys.collections.fields;
        let first = self.rng.below(fields.len());
        let watched = [first, (first + 1) % fields.len()].map(|n| (fields[n][at], self.keys.name(fields[n][at])));
        let version = self.version();
        let (key, name) = watched[self.rng.below(2)];
        let plan = Plan::new("WATCH EXEC of hashes")
            .step(&["HSET", name, NAMES[at], &token(version)], Says::Nothing)
            .writing(key, version)
            .in_multi();
        (watched, vec!["HGET", NAMES[at]], plan)
    }
}

/// The version in a reply to GET of a register.
pub fn held(reply: &Value) -> Version {
    parse_token(reply).expect("a register is never absent")
}
