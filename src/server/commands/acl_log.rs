//! ACL LOG: the denials of all cores, merged.

use super::acl::wrong_number;
use crate::acl::log::{Entry, merge};
use crate::base::Args;
use crate::base::num::parse_i64;
use crate::command::{Fault, fault};
use crate::resp::Reply;
use crate::server::core::Core;
use crate::server::registry::Outcome;
use crate::session::conn::Conn;

/// Entries shown unless told otherwise.
const COUNT: i64 = 10;

pub fn log(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let count = match args {
        [_, _] => COUNT,
        [_, _, word] if word.eq_ignore_ascii_case(b"reset") => {
            return core.gather(conn, |c| c.denials.clear(), |_, _, r| r.ok());
        }
        [_, _, count] => parse_i64(count).ok_or(fault::NOT_AN_INTEGER)?,
        _ => return Err(wrong_number("LOG")),
    };
    let count = usize::try_from(count).unwrap_or(0);
    core.gather(
        conn,
        |c| c.denials.entries(),
        move |core, logs, r| {
            let mut entries = merge(logs);
            // Lowering the limit removes nothing; each core held to it by itself.
            let most = core.settings.acllog_max_len.max(1);
            if core.shared.cores > 1 && core.settings.acllog_max_len > 0 {
                entries.truncate(most);
            }
            entries.truncate(count);
            r.array(entries.len());
            entries.iter().for_each(|e| write_entry(r, e, core.now));
        },
    )
}

fn write_entry(r: &mut Reply, e: &Entry, now_ms: u64) {
    r.map(10);
    r.bulk(b"count");
    r.int(e.count as i64);
    let texts: [(&str, &[u8]); 4] = [
        ("reason", e.reason.name().as_bytes()),
        ("context", e.origin.name().as_bytes()),
        ("object", &e.object),
        ("username", &e.user),
    ];
    for (name, value) in texts {
        r.bulk(name.as_bytes());
        r.bulk(value);
    }
    r.bulk(b"age-seconds");
    r.double(now_ms.saturating_sub(e.updated_ms) as f64 / 1000.0);
    r.bulk(b"client-info");
    r.bulk(e.client.as_bytes());
    for (name, value) in
        [("entry-id", e.id), ("timestamp-created", e.created_ms), ("timestamp-last-updated", e.updated_ms)]
    {
        r.bulk(name.as_bytes());
        r.int(value as i64);
    }
}
