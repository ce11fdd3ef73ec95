//! Commands over connections and the server with random arguments: CLIENT,
//! CONFIG, ACL and their kin. Whatever they are given, there is a reply, and the
//! server goes on.

use super::support::wire::{Wire, encode, is_closed};
use super::support::{Rng, Server, eventually, simple, with_cores};
use std::time::Duration;

/// Lines whose words are then changed.
const LINES: &[&str] = &[
    "CLIENT KILL ID 1 ADDR 127.0.0.1:1 LADDR 127.0.0.1:2 TYPE normal USER default SKIPME yes MAXAGE 100000",
    "CLIENT KILL TYPE pubsub",
    "CLIENT KILL 127.0.0.1:1",
    "CLIENT LIST TYPE replica",
    "CLIENT LIST ID 1 2 3",
    "CLIENT TRACKING on REDIRECT 0 PREFIX a PREFIX b BCAST NOLOOP",
    "CLIENT TRACKING on OPTIN",
    "CLIENT TRACKING on OPTOUT NOLOOP",
    "CLIENT TRACKING off",
    "CLIENT CACHING yes",
    "CLIENT TRACKINGINFO",
    "CLIENT GETREDIR",
    "CLIENT SETNAME me",
    "CLIENT SETINFO LIB-NAME x",
    "CLIENT UNBLOCK 5 TIMEOUT",
    "CLIENT NO-EVICT on",
    "CLIENT NO-TOUCH off",
    "CLIENT INFO",
    "CONFIG GET max* *log*",
    "CONFIG SET maxmemory-samples 5 hz 10",
    "CONFIG SET notify-keyspace-events KEA",
    "CONFIG SET client-output-buffer-limit normal",
    "CONFIG SET latency-tracking-info-percentiles 50",
    "CONFIG RESETSTAT",
    "ACL SETUSER u on >p ~k* &c* +get (+set ~x)",
    "ACL GETUSER u",
    "ACL DELUSER u",
    "ACL DRYRUN u GET k",
    "ACL LOG 5",
    "ACL CAT read",
    "ACL GENPASS 64",
    "HELLO 3 SETNAME x",
    "AUTH u p",
    "SCRIPT EXISTS a b",
    "SCRIPT FLUSH SYNC",
    "FUNCTION LIST LIBRARYNAME l WITHCODE",
    "FUNCTION RESTORE x FLUSH",
    "FUNCTION DELETE l",
    "LATENCY HISTORY command",
    "LATENCY HISTOGRAM get",
    "LATENCY RESET command",
    "SLOWLOG GET 5",
    "MEMORY USAGE k SAMPLES 5",
    "MODULE LIST",
    "OBJECT FREQ k",
    "COMMAND DOCS get",
    "COMMAND GETKEYSANDFLAGS SET k v",
    "COMMAND LIST FILTERBY PATTERN g*",
    "CORE MOVE 0 1",
    "CORE SLOTS",
    "CLUSTER KEYSLOT a",
    "PUBSUB NUMSUB a b",
    "DEBUG JMAP",
    "WAIT 0 1",
    "LOLWUT VERSION 5 1 1 1",
    "RESTORE k 0 x REPLACE IDLETIME 5 FREQ 3",
    "MIGRATE 127.0.0.1 1 k 0 1 COPY REPLACE AUTH2 u p KEYS a b",
    "INFO everything commandstats",
    "SELECT 1",
    "SWAPDB 0 1",
    "RESET",
];

const WORDS: &[&str] = &[
    "",
    "0",
    "1",
    "-1",
    "9223372036854775807",
    "9223372036854775808",
    "99999999999999999999",
    "1e400",
    "nan",
    "*",
    "[",
    "\\",
    "yes",
    "no",
    "on",
    "off",
    "ID",
    "ADDR",
    "TYPE",
    "USER",
    "SKIPME",
    "MAXAGE",
    "normal",
    "slave",
    "master",
    "REDIRECT",
    "PREFIX",
    "BCAST",
    "OPTIN",
    "+@all",
    "-@all",
    "(",
    ")",
    "~",
    "%R~x",
    ">",
    "#",
    "\0",
    "\u{e9}",
    "a b",
    "\r\n",
];

fn line(rng: &mut Rng) -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u8>> = rng.pick(LINES).split(' ').map(|w| w.as_bytes().to_vec()).collect();
    // The first two words say which command it is.
    for _ in 0..rng.below(4) {
        let at = 2.min(words.len()) + rng.below(words.len());
        let word = rng.pick(WORDS).as_bytes().to_vec();
        match rng.below(5) {
            0 => words.push(word),
            1 if at < words.len() => words[at] = word,
            2 if at < words.len() => drop(words.remove(at)),
            3 if at < words.len() => {
                let again = words[at].clone();
                words.insert(at, again);
            }
            _ if at < words.len() => {
                let n = rng.below(12);
                words[at] = rng.bytes(n);
            }
            _ => {}
        }
    }
    words
}

fn sound(server: &Server) {
    let mut c = server.wire();
    let pong = c.run("PING");
    assert!(pong == simple("PONG") || pong.is_error(), "{pong:?}");
}

#[test]
fn server_commands_with_random_arguments() {
    for cores in [1, 4] {
        with_cores(cores, |server| {
            let mut rng = Rng::new(cores as u64);
            let mut c: Option<Wire> = None;
            let mut accepted = 0;
            for round in 0..4000 {
                let words = line(&mut rng);
                let wire = c.get_or_insert_with(|| server.wire());
                // It may close its own connection, or be a client that may do
                // nothing any more.
                let reply = wire.try_send(encode(&words)).and_then(|()| wire.try_read());
                accepted += usize::from(reply.as_ref().is_ok_and(|value| !value.is_error()));
                let closed = reply.is_err_and(|e| is_closed(&e));
                if closed || rng.one_in(40) {
                    c = None;
                }
                if round % 200 == 0 {
                    sound(server);
                }
            }
            drop(c);
            assert!(accepted > 400, "only {accepted} were accepted: the others test little");
            eventually("the connections' end", Duration::from_secs(60), || {
                let text = server.wire().run("INFO clients");
                text.is_error() || text.as_text().contains("connected_clients:1\r\n")
            });
        });
    }
}
