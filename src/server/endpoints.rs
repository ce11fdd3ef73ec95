//! Every core as the node of a cluster: with `core-endpoints` each core
//! listens on a port of its own, and CLUSTER SLOTS, SHARDS and NODES name it as
//! the owner of its slots, so that a cluster client sends every key to the core
//! that holds it. At such a port SCAN, KEYS, DBSIZE and RANDOMKEY tell of that
//! core's slots, and PUBSUB of its subscribers, so that a client that asks all
//! nodes hears of each once; inside MULTI (but for PUBSUB), and at the common
//! port, they tell of the whole server.
//!
//! A key that comes to the wrong core is forwarded inside the server; with
//! `core-redirect` the core's own port answers MOVED instead, as a node of a
//! cluster does.

use std::sync::atomic::Ordering;

use super::core::Core;
use super::registry::{Entry, registry};
use crate::base::Args;
use crate::base::sha1::{hex, sha1};
use crate::base::slot::slot_of;
use crate::command::Fault;
use crate::command::keys::places;
use crate::command::spec::Spec;
use crate::config::Settings;
use crate::session::conn::{Conn, socket_name};

/// The port of core 0's own endpoint; the other cores' follow.
pub fn base(s: &Settings) -> usize {
    if s.core_port_base == 0 { usize::from(s.port) + 1 } else { usize::from(s.core_port_base) }
}

/// The port of a core's own endpoint.
pub fn port(base: usize, core: usize) -> Result<u16, String> {
    u16::try_from(base + core).map_err(|_| format!("core-port-base {base} leaves no port for core {core}"))
}

/// The address by which a client reaches the cores: the one it came by.
pub fn address(s: &Settings, conn: &Conn) -> String {
    if !s.cluster.announce_ip.is_empty() {
        return s.cluster.announce_ip.clone();
    }
    let name = socket_name(conn.fd, false);
    match name.rsplit_once(':') {
        Some((ip, _)) if !conn.unix_socket && ip != "?" => ip.trim_matches(['[', ']']).to_string(),
        _ => "127.0.0.1".into(),
    }
}

/// The slots of each core as ranges, both ends included.
pub fn ranges(map: &[u16], cores: usize) -> Vec<Vec<(u16, u16)>> {
    let mut out = vec![Vec::<(u16, u16)>::new(); cores];
    for (slot, core) in map.iter().enumerate() {
        let list = &mut out[*core as usize];
        match list.last_mut() {
            Some((_, last)) if usize::from(*last) + 1 == slot => *last = slot as u16,
            _ => list.push((slot as u16, slot as u16)),
        }
    }
    out
}

impl Core {
    /// Does the server present itself as a cluster of its cores?
    pub fn clustered(&self) -> bool {
        self.settings.core_endpoints
    }

    /// The port of a core's own endpoint.
    pub fn endpoint_port(&self, core: usize) -> u16 {
        port(self.shared.endpoint_base.load(Ordering::Relaxed), core).unwrap_or(0)
    }

    /// The node id of a core, the same as long as the process runs.
    pub fn node_id(&self, core: usize) -> String {
        hex(&sha1(format!("{}:{core}", self.shared.run_id).as_bytes()))
    }

    /// The id of its shard.
    pub fn shard_id(&self, core: usize) -> String {
        hex(&sha1(format!("{}:shard:{core}", self.shared.run_id).as_bytes()))
    }

    /// The error that sends a client elsewhere with its request, on a
    /// connection by the core's own port.
    pub fn redirect(&mut self, conn: &mut Conn, entry: &Entry, args: Args) -> Option<Fault> {
        if !self.settings.core_redirect {
            return None;
        }
        if entry.spec.name != "exec" {
            return self.misplaced(conn, &slots_of(entry.spec, args));
        }
        let multi = conn.extra.as_ref().and_then(|x| x.multi.as_ref())?;
        let mut slots = Vec::new();
        for q in &multi.queue {
            let line: Vec<&[u8]> = q.args.iter().map(|a| &a[..]).collect();
            slots.extend(slots_of(registry().entries[q.command].spec, &line));
        }
        let fault = self.misplaced(conn, &slots)?;
        self.discard_multi(conn);
        Some(fault)
    }

    fn misplaced(&self, conn: &Conn, slots: &[u16]) -> Option<Fault> {
        let slot = *slots.first()?;
        if slots.iter().any(|s| *s != slot) {
            return Some(Fault::Text("CROSSSLOT Keys in request don't hash to the same slot"));
        }
        if self.owns(slot) {
            return None;
        }
        // A slot on its way here would be sent back by its old owner.
        let owner = self.shared.sequencer.map()[slot as usize] as usize;
        if owner == self.id {
            return None;
        }
        let ip = address(&self.settings, conn);
        let port = self.endpoint_port(owner);
        Some(format!("MOVED {slot} {ip}:{port}").into())
    }
}

fn slots_of(spec: &Spec, args: Args) -> Vec<u16> {
    places(spec, args).unwrap_or_default().iter().map(|p| slot_of(args[p.index])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_told_as_ranges() {
        let r = ranges(&[0, 0, 1, 0, 1, 1], 3);
        assert_eq!(r, [vec![(0, 1), (3, 3)], vec![(2, 2), (4, 5)], vec![]]);
    }
}
