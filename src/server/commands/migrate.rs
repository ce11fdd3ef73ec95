//! MIGRATE: sends keys to another server. What follows is [`crate::server::migrating`].

use crate::base::Args;
use crate::base::num::parse_i64;
use crate::command::parse::is;
use crate::command::spec::{Begin, Find, KeySpec, Spec, acl, flag, keyflag};
use crate::command::{Fault, fault};
use crate::server::core::Core;
use crate::server::migrating::Order;
use crate::server::registry::{ConnCommand, Outcome};
use crate::session::conn::Conn;

const MOVED: u32 = keyflag::RW | keyflag::ACCESS | keyflag::DELETE;

pub const ROWS: &[ConnCommand] = &[ConnCommand {
    spec: Spec {
        name: "migrate",
        syntax: "host port:int key-selector(key#0|empty-string='') destination-db:int timeout:int [COPY@3.0.0] \
            [REPLACE@3.0.0] [authentication(AUTH auth'password'@4.0.7|AUTH2 auth2(username password)@6.0.0)] [KEYS \
            keys'key'#1...@3.0.6]",
        arity: -6,
        flags: flag::WRITE | flag::MOVABLE_KEYS,
        keys: &[
            KeySpec::one(MOVED, 3),
            KeySpec {
                flags: MOVED | keyflag::INCOMPLETE,
                begin: Begin::Keyword("KEYS", -2),
                find: Find::Range { last: -1, step: 1, limit: 0 },
            },
        ],
        acl: acl::KEYSPACE | acl::DANGEROUS,
        since: "2.6.0",
        complexity: "O(N) for N bytes of the values, here and at the target",
        summary: "Sends keys to another server and deletes them here.",
        tips: &["nondeterministic_output"],
        ..Spec::DEFAULT
    },
    run: Some(migrate),
    light: false,
}];

/// Time to wait for the target if a client says none, milliseconds.
const TIMEOUT_MS: i64 = 1000;

fn migrate(core: &mut Core, conn: &mut Conn, args: Args) -> Result<Outcome, Fault> {
    let order = parse(args)?;
    if core.in_exec {
        return Err(Fault::Text("ERR MIGRATE is not allowed inside a transaction"));
    }
    if order.keys.is_empty() {
        conn.reply(|r| r.simple("NOKEY"));
        return Ok(Outcome::Done);
    }
    core.begin_migration(conn, order)
}

/// The options are looked at before the numbers, as in Redis.
fn parse(args: Args) -> Result<Order, Fault> {
    let mut order = Order {
        host: String::from_utf8_lossy(args[1]).into_owned(),
        port: parse_i64(args[2]).and_then(|n| u16::try_from(n).ok()).unwrap_or(0),
        keys: vec![args[3].to_vec()],
        ..Order::default()
    };
    let mut i = 6;
    while i < args.len() {
        let word = args[i];
        let mut next = || {
            i += 1;
            args.get(i).map(|a| a.to_vec()).ok_or(fault::SYNTAX)
        };
        if is(word, "copy") {
            order.copy = true;
        } else if is(word, "replace") {
            order.replace = true;
        } else if is(word, "auth") {
            order.login = vec![next()?];
        } else if is(word, "auth2") {
            order.login = vec![next()?, next()?];
        } else if is(word, "keys") {
            if !args[3].is_empty() {
                return Err(Fault::Text(
                    "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string",
                ));
            }
            order.keys = args[i + 1..].iter().map(|a| a.to_vec()).collect();
            break;
        } else {
            return Err(fault::SYNTAX);
        }
        i += 1;
    }
    let timeout_ms = parse_i64(args[5]).ok_or(fault::NOT_AN_INTEGER)?;
    order.db = parse_i64(args[4]).ok_or(fault::NOT_AN_INTEGER)?;
    order.timeout_ms = if timeout_ms <= 0 { TIMEOUT_MS } else { timeout_ms } as u64;
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Order, String> {
        let args: Vec<&[u8]> = line.split(' ').map(|w| if w == "''" { &b""[..] } else { w.as_bytes() }).collect();
        parse(&args).map_err(|f| String::from_utf8_lossy(f.text()).into_owned())
    }

    #[test]
    fn options_in_any_order() {
        let o = parsed("migrate h 7 '' 3 50 REPLACE AUTH2 u p copy keys a keys").unwrap();
        assert_eq!((o.host.as_str(), o.port, o.db, o.timeout_ms), ("h", 7, 3, 50));
        assert!(o.copy && o.replace);
        assert_eq!(o.login, [b"u", b"p"]);
        assert_eq!(o.keys, [&b"a"[..], b"keys"]);
        let o = parsed("migrate h 7 k 0 0 AUTH keys").unwrap();
        assert_eq!((o.timeout_ms, o.login, o.keys), (1000, vec![b"keys".to_vec()], vec![b"k".to_vec()]));
        assert!(parsed("migrate h 7 k 0 -5").unwrap().timeout_ms == 1000);
        assert!(parsed("migrate h 7 '' 0 1 KEYS").unwrap().keys.is_empty());
    }

    #[test]
    fn syntax_comes_before_numbers() {
        for line in ["migrate h 7 k x y foo", "migrate h 7 k 0 1 auth", "migrate h 7 k 0 1 auth2 u"] {
            assert_eq!(parsed(line).err().unwrap(), "ERR syntax error", "{line}");
        }
        assert!(parsed("migrate h 7 k 0 1 KEYS a").err().unwrap().contains("must be set to the empty string"));
        assert!(parsed("migrate h 7 k 0 y").err().unwrap().contains("not an integer"));
        assert!(parsed("migrate h 7 k x 1").err().unwrap().contains("not an integer"));
    }
}
