//! Time and connections. A connection delivers bytes in order, each piece
//! after a random delay; it can be cut (both sides learn it), hang (neither
//! side learns anything, nothing arrives) or end on one side only.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use coreslot::base::rng::Rng;
use coreslot::config::Settings;
use coreslot::replication::event::{Event, Ms};
use coreslot::replication::policy::Policy;

use super::server::{Chore, Server, Wish};

/// Time between two ticks of a server.
const TICK_MS: Ms = 50;

struct Wire {
    /// The replica's index and its epoch for this connection; the primary's.
    down: (usize, u64),
    up: usize,
    /// Which side still holds its end.
    down_open: bool,
    up_open: bool,
    /// Nothing arrives any more, in either direction.
    hangs: bool,
    /// When the last piece arrives, by direction.
    last: [Ms; 2],
}

enum Happening {
    Tick(usize),
    Chore(usize, u64, Chore),
    Opened(u64),
    Refused(usize, u64, u64),
    /// Bytes on a connection; towards the primary or not.
    Bytes(u64, bool, Vec<u8>),
    /// The other side closed.
    Closed(u64, bool),
}

pub struct World {
    pub now: Ms,
    pub rng: Rng,
    pub servers: Vec<Server>,
    /// Counts restarts, so that chores of the past are dropped.
    lives: Vec<u64>,
    wires: BTreeMap<u64, Wire>,
    next_wire: u64,
    queue: BinaryHeap<Reverse<(Ms, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    next_happening: u64,
    pub policy: Policy,
    pub delay_ms: usize,
    next_value: u64,
}

pub fn policy(backlog: u64, diskless: bool, ping_ms: Ms) -> Policy {
    Policy {
        backlog_bytes: backlog,
        diskless_sync: diskless,
        diskless_sync_delay_ms: 200,
        ping_period_ms: ping_ms,
        timeout_ms: 5000,
        output_hard_bytes: 0,
        output_soft_bytes: 0,
        ..Policy::new(&Settings::default())
    }
}

impl World {
    pub fn new(seed: u64, servers: usize, policy: Policy) -> World {
        let mut rng = Rng::new(seed);
        let mut world = World {
            now: 0,
            servers: Vec::new(),
            lives: vec![0; servers],
            wires: BTreeMap::new(),
            next_wire: 1,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            next_happening: 0,
            delay_ms: 1 + rng.below(20),
            next_value: 1,
            policy,
            rng,
        };
        for i in 0..servers {
            let seed = world.rng.next_u64();
            world.servers.push(Server::new(port(i), world.listening(i), seed));
            world.at(1 + i as Ms, Happening::Tick(i));
        }
        world
    }

    fn listening(&self, i: usize) -> Policy {
        Policy { listening_port: port(i), ..self.policy.clone() }
    }

    fn at(&mut self, at: Ms, what: Happening) {
        self.queue.push(Reverse((at, self.next_happening)));
        self.happenings.insert(self.next_happening, what);
        self.next_happening += 1;
    }

    /// Lets time pass.
    pub fn run(&mut self, ms: Ms) {
        let until = self.now + ms;
        while let Some(Reverse((at, id))) = self.queue.peek().copied() {
            if at > until {
                break;
            }
            self.queue.pop();
            self.now = at;
            let what = self.happenings.remove(&id).expect("queued");
            self.happen(what);
        }
        self.now = until;
    }

    fn happen(&mut self, what: Happening) {
        let now = self.now;
        match what {
            Happening::Tick(i) => {
                if self.servers[i].up {
                    self.servers[i].event(now, Event::Tick);
                    self.serve(i);
                }
                let skew = self.rng.below(10) as Ms;
                self.at(now + TICK_MS + skew, Happening::Tick(i));
            }
            Happening::Chore(i, life, chore) => {
                if self.lives[i] == life && self.servers[i].up {
                    self.servers[i].chore(now, chore);
                    self.serve(i);
                }
            }
            Happening::Opened(wire) => self.opened(wire),
            Happening::Refused(i, life, epoch) => {
                if self.lives[i] == life && self.servers[i].up {
                    self.servers[i].event(now, Event::Lost { epoch, reason: "refused".into() });
                    self.serve(i);
                }
            }
            Happening::Bytes(wire, up, bytes) => self.bytes(wire, up, bytes),
            Happening::Closed(wire, up) => self.closed(wire, up),
        }
    }

    fn opened(&mut self, wire: u64) {
        let Some(w) = self.wires.get(&wire) else { return };
        if w.hangs {
            return;
        }
        let ((down, epoch), up) = (w.down, w.up);
        if w.up_open {
            let peer = coreslot::replication::peer::Peer { ip: "sim".into(), ..Default::default() };
            self.servers[up].inputs.insert(wire, (Vec::new(), peer));
        }
        if w.down_open {
            self.servers[down].event(self.now, Event::Connected { epoch });
            self.serve(down);
        }
    }

    fn bytes(&mut self, wire: u64, to_primary: bool, bytes: Vec<u8>) {
        let Some(w) = self.wires.get(&wire) else { return };
        let (open, ((down, epoch), up)) = (if to_primary { w.up_open } else { w.down_open }, (w.down, w.up));
        if !open || w.hangs {
            return;
        }
        let i = if to_primary { up } else { down };
        match to_primary {
            true => self.servers[i].hear_replica(self.now, wire, &bytes),
            false => self.servers[i].hear_primary(self.now, epoch, bytes),
        }
        self.serve(i);
    }

    fn closed(&mut self, wire: u64, to_primary: bool) {
        let Some(w) = self.wires.get_mut(&wire) else { return };
        if w.hangs {
            return;
        }
        let ((down, epoch), up) = (w.down, w.up);
        let open = if to_primary { &mut w.up_open } else { &mut w.down_open };
        if !std::mem::take(open) {
            return;
        }
        let i = if to_primary { up } else { down };
        if to_primary {
            self.servers[i].forget(wire);
            self.servers[i].event(self.now, Event::Gone { link: wire });
        } else {
            self.servers[i].event(self.now, Event::Lost { epoch, reason: "closed".into() });
        }
        self.serve(i);
    }

    /// Carries out what a server wants.
    pub fn serve(&mut self, i: usize) {
        for (at, chore) in std::mem::take(&mut self.servers[i].chores) {
            self.at(at, Happening::Chore(i, self.lives[i], chore));
        }
        for wish in std::mem::take(&mut self.servers[i].wishes) {
            match wish {
                Wish::Connect { epoch, port } => self.connect(i, epoch, port),
                Wish::Up { epoch, bytes } => {
                    if let Some(wire) = self.wire_up(i, epoch) {
                        self.transmit(wire, true, bytes);
                    }
                }
                Wish::Down { link, bytes } => self.transmit(link, false, bytes),
                Wish::CloseUp { epoch } => {
                    if let Some(wire) = self.wire_up(i, epoch) {
                        self.close_end(wire, false);
                    }
                }
                Wish::CloseDown { link } => self.close_end(link, true),
            }
        }
    }

    fn wire_up(&self, i: usize, epoch: u64) -> Option<u64> {
        self.wires.iter().rev().find(|(_, w)| w.down == (i, epoch) && w.down_open).map(|(id, _)| *id)
    }

    fn connect(&mut self, i: usize, epoch: u64, port: u16) {
        let up = usize::from(port - 1);
        if !self.servers[up].up {
            return self.at(self.now + 2, Happening::Refused(i, self.lives[i], epoch));
        }
        let wire = self.next_wire;
        self.next_wire += 1;
        let at = self.now + 1 + self.rng.below(self.delay_ms) as Ms;
        self.wires
            .insert(wire, Wire { down: (i, epoch), up, down_open: true, up_open: true, hangs: false, last: [at, at] });
        self.at(at, Happening::Opened(wire));
    }

    fn transmit(&mut self, wire: u64, to_primary: bool, bytes: Vec<u8>) {
        let delay = 1 + self.rng.below(self.delay_ms) as Ms;
        let Some(w) = self.wires.get_mut(&wire) else { return };
        if !(if to_primary { w.down_open } else { w.up_open }) {
            return;
        }
        let at = (self.now + delay).max(w.last[usize::from(to_primary)]);
        w.last[usize::from(to_primary)] = at;
        self.at(at, Happening::Bytes(wire, to_primary, bytes));
    }

    /// One side closes its end; the other learns it behind what was sent.
    fn close_end(&mut self, wire: u64, at_primary: bool) {
        let Some(w) = self.wires.get_mut(&wire) else { return };
        let (open, to_primary) = if at_primary { (&mut w.up_open, false) } else { (&mut w.down_open, true) };
        if std::mem::take(open) {
            let at = self.now.max(w.last[usize::from(to_primary)]);
            self.at(at, Happening::Closed(wire, to_primary));
        }
    }

    /// Connections that both sides hold.
    fn live_wires(&self) -> Vec<u64> {
        self.wires.iter().filter(|(_, w)| w.down_open && w.up_open && !w.hangs).map(|(id, _)| *id).collect()
    }

    /// Cuts a random connection; what is on its way is lost.
    pub fn cut_one(&mut self) {
        let wires = self.live_wires();
        if wires.is_empty() {
            return;
        }
        let wire = wires[self.rng.below(wires.len())];
        for to_primary in [true, false] {
            self.closed(wire, to_primary);
        }
        self.wires.remove(&wire);
    }

    /// A random connection hangs: the replica learns it, the primary does not;
    /// or the other way round; or nobody.
    pub fn hang_one(&mut self) {
        let wires = self.live_wires();
        if wires.is_empty() {
            return;
        }
        let wire = wires[self.rng.below(wires.len())];
        match self.rng.below(3) {
            0 => self.closed(wire, true),
            1 => self.closed(wire, false),
            _ => {}
        }
        if let Some(w) = self.wires.get_mut(&wire) {
            w.hangs = true;
        }
    }

    /// A server dies at once.
    pub fn crash(&mut self, i: usize) {
        self.lives[i] += 1;
        self.servers[i].up = false;
        let wires: Vec<_> = self.wires.iter().filter(|(_, w)| w.down.0 == i || w.up == i).map(|(id, _)| *id).collect();
        for wire in wires {
            let w = self.wires.get_mut(&wire).expect("listed");
            match w.up == i {
                true => w.up_open = false,
                false => w.down_open = false,
            }
            let to_primary = w.up != i;
            self.closed(wire, to_primary);
            self.wires.remove(&wire);
        }
    }

    pub fn restart(&mut self, i: usize, replica_of: Option<usize>) {
        let seed = self.rng.next_u64();
        let (policy, now) = (self.listening(i), self.now);
        self.servers[i].restart(policy, seed, replica_of.map(port), now);
        self.serve(i);
    }

    pub fn tell(&mut self, i: usize, event: Event) {
        let now = self.now;
        self.servers[i].event(now, event);
        self.serve(i);
    }

    pub fn replicate(&mut self, i: usize, of: usize) {
        self.tell(i, Event::ReplicaOf { host: "sim".into(), port: port(of) });
    }

    /// Does server `i`, or one that it follows, follow `of`?
    pub fn follows(&self, i: usize, of: usize) -> bool {
        let mut at = i;
        loop {
            if at == of {
                return true;
            }
            match &self.servers[at].node.upstream {
                Some(up) => at = usize::from(up.port) - 1,
                None => return false,
            }
        }
    }

    /// A write of random shape; the value if it was accepted.
    pub fn write(&mut self, i: usize) -> Option<u64> {
        let value = self.next_value;
        self.next_value += 1;
        let db = self.rng.below(3) as u32;
        let key = self.rng.below(5);
        let writes = match self.rng.below(4) {
            0 => vec![(db, format!("p{key}:a"), value), (db, format!("p{key}:b"), value)],
            _ => vec![(db, format!("k{key}"), value)],
        };
        let now = self.now;
        let taken = self.servers[i].write(now, &writes);
        self.serve(i);
        taken.then_some(value)
    }

    /// Runs until the condition holds; whether it came to hold in time.
    pub fn run_until(&mut self, ms: Ms, holds: impl Fn(&World) -> bool) -> bool {
        let end = self.now + ms;
        while self.now < end {
            if holds(self) {
                return true;
            }
            self.run(100);
        }
        holds(self)
    }

    /// Every server but `top` has a working link, and all stand at one offset
    /// with one history.
    pub fn consistent(&self, top: usize) -> bool {
        let t = &self.servers[top];
        self.servers.iter().enumerate().all(|(i, s)| {
            let linked = i == top || s.node.upstream.as_ref().is_some_and(|u| u.connected());
            s.up && linked && s.window.end == t.window.end && s.node.history.id == t.node.history.id
        })
    }

    pub fn check_equal(&self, top: usize) {
        let t = &self.servers[top];
        for s in &self.servers {
            assert_eq!(s.window.end, t.window.end, "offset of {}", s.port);
            assert!(s.data == t.data, "the data of {} and {} differ", s.port, t.port);
        }
    }

    pub fn full_syncs(&self) -> u64 {
        self.servers.iter().map(|s| s.node.counters.full).sum()
    }

    /// What every server thinks, for a failure's message.
    pub fn describe(&self) -> String {
        let line = |s: &Server| {
            let link = s.node.upstream.as_ref().map(|u| format!("{} of {} at {}", u.state_name(), u.port, u.offset()));
            format!("{}: up {} end {} id {} {link:?}", s.port, s.up, s.window.end, s.node.history.id)
        };
        self.servers.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

fn port(i: usize) -> u16 {
    i as u16 + 1
}
