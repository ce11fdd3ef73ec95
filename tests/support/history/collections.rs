//! Operations on lists, hashes, sets and sorted sets, and queues from which
//! blocked clients pop.
//!
//! | kind of key | written by | version |
//! | --- | --- | --- |
//! | shelf (a list) | RPUSH of unique elements | its length |
//! | field of a hash | HSET of unique tokens | the token |
//! | tally (a field of a hash, a member of a sorted set) | HINCRBY, ZINCRBY | the number |
//! | crowd (a set) | SADD of unique elements, with SCARD | its size |
//! | ball | SMOVE between two sets | none: it is in one of the two |
//! | queue: its pushes, and its pops | a script that numbers its elements; pops of all kinds | the last number |
//!
//! An element of a queue carries its number n. Its push is a write of the key
//! `pushes` from n-1 to n, its pop one of the key `pops`, and reads what the
//! push wrote to a key of the element's own. So an element that is popped twice
//! is a version that is written twice, a lost one a version that nobody wrote,
//! and one out of its turn a cycle.

use super::super::rng::Rng;
use super::super::value::Value;
use super::plan::{Keys, Plan, Planner, Says, held, parse_number, token};
use super::{Key, Op, Version};

/// How many elements of a queue have keys of their own.
const ELEMENTS: Key = 1 << 20;
const SETS: usize = 3;

/// A queue: a list, and the counter that numbers its elements.
#[derive(Clone, Debug)]
pub struct Queue {
    pub list: String,
    pub counter: String,
    pub pushes: Key,
    pub pops: Key,
    /// The key of the element with the number 0.
    first: Key,
}

/// The keys of one history that hold collections.
#[derive(Default)]
pub struct Collections {
    pub shelves: Vec<Key>,
    /// Two fields of each of some hashes: the names of the hashes are those of
    /// the keys.
    pub fields: Vec<[Key; 2]>,
    /// Members of sorted sets, and fields of hashes, with their numbers.
    pub members: Vec<[Key; 2]>,
    pub counted: Vec<[Key; 2]>,
    pub crowds: Vec<Key>,
    pub balls: [String; 2],
    pub queues: Vec<Queue>,
}

pub const NAMES: [&str; 2] = ["a", "b"];
const BALL: &str = "ball";

impl Collections {
    /// Adds names for the keys of collections to those that there are.
    pub fn new(names: &mut Vec<String>, rng: &mut Rng) -> Collections {
        // Two numbers for each name.
        let mut make = |kind: &str, rng: &mut Rng| -> Vec<[Key; 2]> {
            let mut one = || {
                let name = format!("{kind}:{:x}", rng.next());
                names.extend([name.clone(), name]);
                [names.len() as Key - 2, names.len() as Key - 1]
            };
            (0..SETS).map(|_| one()).collect()
        };
        let shelves = make("shelf", rng).into_iter().map(|[a, _]| a).collect();
        let crowds = make("crowd", rng).into_iter().map(|[a, _]| a).collect();
        let fields = make("hash", rng);
        let members = make("ranks", rng);
        let counted = make("tally", rng);
        let queues = (1..=SETS as Key)
            .map(|n| Queue {
                list: format!("queue:{:x}", rng.next()),
                counter: format!("number:{:x}", rng.next()),
                pushes: n << 24,
                pops: (n << 24) + 1,
                first: (n << 24) + 2,
            })
            .collect();
        let balls = [(); 2].map(|()| format!("court:{:x}", rng.next()));
        Collections { shelves, fields, members, counted, crowds, balls, queues }
    }

    /// What gives all of them their first versions: commands, and versions.
    pub fn prepare(&self, names: &[String]) -> (Vec<Vec<String>>, Vec<(Key, Version)>) {
        let mut commands = vec![words(&["SADD", &self.balls[0], BALL])];
        let mut first: Vec<(Key, Version)> = Vec::new();
        for key in
            self.fields.iter().flatten().chain(self.members.iter().flatten()).chain(self.counted.iter().flatten())
        {
            first.push((*key, 0));
        }
        for [a, _] in &self.fields {
            commands.push(words(&["HSET", &names[*a as usize], NAMES[0], &token(0), NAMES[1], &token(0)]));
        }
        for [a, _] in &self.counted {
            commands.push(words(&["HSET", &names[*a as usize], NAMES[0], "0", NAMES[1], "0"]));
        }
        for [a, _] in &self.members {
            commands.push(words(&["ZADD", &names[*a as usize], "0", NAMES[0], "0", NAMES[1]]));
        }
        first.extend(self.shelves.iter().chain(&self.crowds).map(|key| (*key, 0)));
        first.extend(self.queues.iter().flat_map(|q| [(q.pushes, 0), (q.pops, 0)]));
        (commands, first)
    }
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|w| (*w).to_owned()).collect()
}

/// What a reply about collections says.
#[derive(Clone, Debug)]
pub enum Told {
    /// RPUSH or SCARD answered the size after this element was added.
    Grown(Key, u64),
    /// LRANGE of a whole shelf.
    Shelf(Key),
    /// LLEN, SCARD.
    Size(Key),
    /// HMGET of the fields with tokens.
    Fields([Key; 2]),
    /// ZINCRBY or HINCRBY answered the number that it wrote.
    Tallied(Key),
    /// HMGET or ZMSCORE of the numbers.
    Tallies([Key; 2]),
    /// SUNION of all crowds.
    Crowds,
    /// SUNION of the two sets of which one has the ball.
    Ball,
    /// A script has pushed an element with this number.
    Pushed(usize),
    /// LPOP or LMOVE of one element.
    Popped(usize),
    /// BLPOP: the queue, and the element; or nothing.
    PoppedFrom,
    /// LMPOP and BLMPOP: the queue, and elements; or nothing.
    PoppedSome,
}

/// Notes what a reply says.
pub fn note(op: &mut Op, keys: &Keys, told: &Told, reply: &Value) {
    let c = &keys.collections;
    match told {
        Told::Grown(key, element) => {
            let size = parse_number(reply);
            op.reads.push((*key, size - 1));
            op.writes.push((*key, size));
            op.appended.push((*key, *element));
        }
        Told::Shelf(key) => {
            let elements: Vec<u64> = reply.items().iter().map(|e| number_of(&e.as_text())).collect();
            op.reads.push((*key, elements.len() as Version));
            op.contents.push((*key, elements));
        }
        Told::Size(key) => op.reads.push((*key, parse_number(reply))),
        Told::Fields(pair) => op.reads.extend(pair.iter().copied().zip(reply.items().iter().map(held))),
        Told::Tallied(key) => {
            let number = parse_number(reply);
            op.reads.push((*key, number - 1));
            op.writes.push((*key, number));
        }
        Told::Tallies(pair) => op.reads.extend(pair.iter().copied().zip(reply.items().iter().map(parse_number))),
        Told::Crowds => note_crowds(op, c, reply),
        // One ball, and no other.
        Told::Ball if reply.items().len() == 1 => {}
        Told::Ball => op.torn = Some(format!("one ball in {reply:?}")),
        Told::Pushed(at) => note_push(op, &c.queues[*at], parse_number(reply)),
        Told::Popped(_) | Told::PoppedFrom | Told::PoppedSome if reply.is_nil() => {}
        Told::Popped(at) => note_pops(op, &c.queues[*at], &[parse_number(reply)]),
        Told::PoppedFrom | Told::PoppedSome => {
            let [name, popped] = reply.items() else { panic!("an odd pop: {reply:?}") };
            let queue = c.queues.iter().find(|q| q.list == name.as_text()).expect("a queue");
            let numbers: Vec<Version> = match told {
                Told::PoppedFrom => vec![parse_number(popped)],
                _ => popped.items().iter().map(parse_number).collect(),
            };
            note_pops(op, queue, &numbers);
        }
    }
}

fn number_of(element: &str) -> u64 {
    u64::from_str_radix(element, 16).unwrap_or_else(|_| panic!("not an element: {element}"))
}

/// Elements say of which crowd they are.
fn note_crowds(op: &mut Op, c: &Collections, reply: &Value) {
    for (at, key) in c.crowds.iter().enumerate() {
        let mark = format!("{at}:");
        let size = reply.items().iter().filter(|e| e.as_text().starts_with(&mark)).count();
        op.reads.push((*key, size as Version));
    }
}

fn note_push(op: &mut Op, queue: &Queue, n: Version) {
    op.reads.push((queue.pushes, n - 1));
    op.writes.push((queue.pushes, n));
    op.writes.push((element(queue, n), n));
}

/// Several elements that are popped at once follow one another.
fn note_pops(op: &mut Op, queue: &Queue, numbers: &[Version]) {
    let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else { return };
    if numbers.windows(2).any(|w| w[1] != w[0] + 1) {
        op.torn = Some(format!("popped from {}: {numbers:?}", queue.list));
    }
    op.reads.push((queue.pops, first - 1));
    for n in numbers {
        op.reads.push((element(queue, *n), *n));
    }
    op.hidden.extend(numbers.iter().filter(|n| *n != last).map(|n| (queue.pops, *n)));
    op.writes.push((queue.pops, *last));
}

fn element(queue: &Queue, n: Version) -> Key {
    assert!(n < Version::from(ELEMENTS), "too many elements");
    queue.first + n as Key
}

/// What is left in a queue when all clients have ended: nothing was lost, and
/// nothing is there twice. `counter` is the number of its last push.
pub fn left_over(queue: &Queue, counter: Version, left: &[Version]) -> Op {
    let mut op = Op { label: format!("what is left in {}", queue.list), ..Op::default() };
    let expected: Vec<Version> = (counter + 1 - left.len() as Version..=counter).collect();
    if left != expected {
        op.torn = Some(format!("{counter} were pushed to {}, left are {left:?}", queue.list));
    }
    op.reads.push((queue.pushes, counter));
    op.reads.push((queue.pops, counter - left.len() as Version));
    op
}

/// Numbers an element and pushes it; the counter may lie on another core.
const PUSH: &str = "local n = redis.call('incr', KEYS[2] or ARGV[1]) redis.call('rpush', KEYS[1], n) return n";
/// Pops without a named key.
const POP: &str = "return redis.call('lpop', ARGV[1])";

impl<'a> Planner<'a> {
    fn name_of(&self, key: Key) -> &'a str {
        &self.keys.names[key as usize]
    }

    /// A random operation on collections.
    pub fn collection(&mut self) -> Plan {
        match self.rng.below(12) {
            0 | 1 => self.shelf(),
            2 => self.hash(),
            3 => self.tally(),
            4 | 5 => self.crowd(),
            6 => self.ball(),
            7 | 8 => self.push(),
            9 => self.pop(),
            _ => self.several(),
        }
    }

    fn shelf(&mut self) -> Plan {
        let key = *self.rng.pick(&self.keys.collections.shelves);
        let name = self.name_of(key);
        let element = self.version();
        match self.rng.below(4) {
            0 | 1 => Plan::new("RPUSH")
                .step(&["RPUSH", name, &format!("{element:x}")], Says::Told(Told::Grown(key, element))),
            2 => Plan::new("LRANGE").step(&["LRANGE", name, "0", "-1"], Says::Told(Told::Shelf(key))),
            _ => Plan::new("LLEN").step(&["LLEN", name], Says::Told(Told::Size(key))),
        }
    }

    fn hash(&mut self) -> Plan {
        let pair = *self.rng.pick(&self.keys.collections.fields);
        let name = self.name_of(pair[0]);
        let version = self.version();
        let text = token(version);
        let at = self.rng.below(2);
        match self.rng.below(4) {
            0 => Plan::new("HSET").step(&["HSET", name, NAMES[at], &text], Says::Nothing).writing(pair[at], version),
            1 => Plan::new("HSET both")
                .step(&["HSET", name, NAMES[0], &text, NAMES[1], &text], Says::Nothing)
                .writing(pair[0], version)
                .writing(pair[1], version),
            _ => Plan::new("HMGET").step(&["HMGET", name, NAMES[0], NAMES[1]], Says::Told(Told::Fields(pair))),
        }
    }

    fn tally(&mut self) -> Plan {
        let at = self.rng.below(2);
        let c = &self.keys.collections;
        if self.rng.one_in(2) {
            let pair = *self.rng.pick(&c.members);
            let name = self.name_of(pair[0]);
            return match self.rng.below(2) {
                0 => Plan::new("ZINCRBY").step(&["ZINCRBY", name, "1", NAMES[at]], Says::Told(Told::Tallied(pair[at]))),
                _ => Plan::new("ZMSCORE").step(&["ZMSCORE", name, NAMES[0], NAMES[1]], Says::Told(Told::Tallies(pair))),
            };
        }
        let pair = *self.rng.pick(&c.counted);
        let name = self.name_of(pair[0]);
        match self.rng.below(2) {
            0 => Plan::new("HINCRBY").step(&["HINCRBY", name, NAMES[at], "1"], Says::Told(Told::Tallied(pair[at]))),
            _ => Plan::new("HMGET").step(&["HMGET", name, NAMES[0], NAMES[1]], Says::Told(Told::Tallies(pair))),
        }
    }

    fn crowd(&mut self) -> Plan {
        let crowds = &self.keys.collections.crowds;
        let at = self.rng.below(crowds.len());
        let name = self.name_of(crowds[at]);
        let element = self.version();
        match self.rng.below(4) {
            0 | 1 => Plan::new("SADD SCARD")
                .step(&["SADD", name, &format!("{at}:{element:x}")], Says::Nothing)
                .step(&["SCARD", name], Says::Told(Told::Grown(crowds[at], element)))
                .in_multi(),
            2 => Plan::new("SCARD").step(&["SCARD", name], Says::Told(Told::Size(crowds[at]))),
            _ => {
                let mut words = vec!["SUNION"];
                words.extend(crowds.iter().map(|key| self.name_of(*key)));
                Plan::new("SUNION crowds").step(&words, Says::Told(Told::Crowds))
            }
        }
    }

    fn ball(&mut self) -> Plan {
        let [a, b] = &self.keys.collections.balls;
        match self.rng.below(4) {
            0 => Plan::new("SMOVE").step(&["SMOVE", a, b, BALL], Says::Nothing),
            1 => Plan::new("SMOVE").step(&["SMOVE", b, a, BALL], Says::Nothing),
            2 => Plan::new("SUNION ball").step(&["SUNION", a, b], Says::Told(Told::Ball)),
            _ => Plan::new("SISMEMBER twice")
                .step(&["SISMEMBER", a, BALL], Says::Nothing)
                .step(&["SISMEMBER", b, BALL], Says::Nothing)
                .in_multi()
                .makes_one(),
        }
    }

    /// The counter is declared, or not; on the core of the list, or not.
    fn push(&mut self) -> Plan {
        let at = self.rng.below(self.keys.collections.queues.len());
        let queue = &self.keys.collections.queues[at];
        let call: Vec<&str> = if self.rng.one_in(2) {
            vec!["EVAL", PUSH, "2", &queue.list, &queue.counter]
        } else {
            vec!["EVAL", PUSH, "1", &queue.list, &queue.counter]
        };
        let plan = Plan::new("EVAL push").step(&call, Says::Told(Told::Pushed(at)));
        if !self.rng.one_in(3) {
            return plan;
        }
        // Two of them in a transaction: whoever waits gets both, or none.
        let other = self.rng.below(self.keys.collections.queues.len());
        let queue = &self.keys.collections.queues[other];
        let more = ["EVAL", PUSH, "2", &queue.list, &queue.counter];
        if other == at {
            return plan.in_multi();
        }
        plan.step(&more, Says::Told(Told::Pushed(other))).in_multi()
    }

    /// Pops that do not wait.
    fn pop(&mut self) -> Plan {
        let at = self.rng.below(self.keys.collections.queues.len());
        let name = &self.keys.collections.queues[at].list;
        let own = format!("own:{}", self.client);
        match self.rng.below(4) {
            0 => Plan::new("LPOP").step(&["LPOP", name], Says::Told(Told::Popped(at))),
            1 => Plan::new("LMOVE").step(&["LMOVE", name, &own, "LEFT", "RIGHT"], Says::Told(Told::Popped(at))),
            2 => Plan::new("EVAL pop").step(&["EVAL", POP, "0", name], Says::Told(Told::Popped(at))),
            _ => {
                let mut words = vec!["LMPOP", "3"];
                words.extend(self.keys.collections.queues.iter().map(|q| &q.list[..]));
                words.extend(["LEFT", "COUNT", "2"]);
                Plan::new("LMPOP").step(&words, Says::Told(Told::PoppedSome))
            }
        }
    }

    /// A pop that waits for a short time, to be sent alone.
    pub fn waiting_pop(&mut self) -> Plan {
        const SECONDS: &str = "0.05";
        let queues = &self.keys.collections.queues;
        let mut names: Vec<&str> = queues.iter().map(|q| &q.list[..]).collect();
        self.rng.shuffle(&mut names);
        let own = format!("own:{}", self.client);
        match self.rng.below(4) {
            0 => {
                let words = [&["BLMPOP", SECONDS, "3"], &names[..], &["LEFT", "COUNT", "3"]].concat();
                Plan::new("BLMPOP").step(&words, Says::Told(Told::PoppedSome))
            }
            1 => {
                let at = self.rng.below(queues.len());
                let words = ["BLMOVE", &queues[at].list, &own, "LEFT", "RIGHT", SECONDS];
                Plan::new("BLMOVE").step(&words, Says::Told(Told::Popped(at)))
            }
            _ => {
                names.truncate(1 + self.rng.below(names.len()));
                let words = [&["BLPOP"], &names[..], &[SECONDS]].concat();
                Plan::new("BLPOP").step(&words, Says::Told(Told::PoppedFrom))
            }
        }
    }

    /// Collections of several kinds in one transaction, or one script.
    fn several(&mut self) -> Plan {
        let c = &self.keys.collections;
        let (shelf, element) = (*self.rng.pick(&c.shelves), self.version());
        let (pair, version) = (*self.rng.pick(&c.fields), self.version());
        let member = *self.rng.pick(&c.members);
        let counted = *self.rng.pick(&c.counted);
        let (shelf_name, hash) = (self.name_of(shelf), self.name_of(pair[0]));
        let (ranks, tally) = (self.name_of(member[0]), self.name_of(counted[0]));
        let sums = ["ZMSCORE", ranks, NAMES[0], NAMES[1]];
        match self.rng.below(3) {
            0 => Plan::new("MULTI of collections")
                .step(&["RPUSH", shelf_name, &format!("{element:x}")], Says::Told(Told::Grown(shelf, element)))
                .step(&["HINCRBY", tally, NAMES[1], "1"], Says::Told(Told::Tallied(counted[1])))
                .step(&["HMGET", hash, NAMES[0], NAMES[1]], Says::Told(Told::Fields(pair)))
                .in_multi(),
            1 => Plan::new("MULTI reads of collections")
                .step(&["LRANGE", shelf_name, "0", "-1"], Says::Told(Told::Shelf(shelf)))
                .step(&sums, Says::Told(Told::Tallies(member)))
                .step(&["HMGET", tally, NAMES[0], NAMES[1]], Says::Told(Told::Tallies(counted)))
                .in_multi(),
            _ => Plan::new("MULTI HSET ZINCRBY")
                .step(&["HMGET", hash, NAMES[0], NAMES[1]], Says::Told(Told::Fields(pair)))
                .step(&["HSET", hash, NAMES[0], &token(version)], Says::Nothing)
                .step(&["ZINCRBY", ranks, "1", NAMES[0]], Says::Told(Told::Tallied(member[0])))
                .writing(pair[0], version)
                .in_multi(),
        }
    }
}
