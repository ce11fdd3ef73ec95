//! Access rules, files of users, and encrypted connections.

use std::sync::Arc;

use coreslot::acl::rules::Context;
use coreslot::acl::{Users, check};
use coreslot::config;
use coreslot::server::registry::registry;
use coreslot::server::users_file;
use coreslot::session::tls::Session;

use super::fuzz;
use super::rng::Rng;

const PIECES: [&str; 40] = [
    "+",
    "-",
    "@",
    "~",
    "&",
    "%",
    "R",
    "W",
    "RW~",
    "(",
    ")",
    ">",
    "<",
    "#",
    "!",
    "|",
    "get",
    "set",
    "config",
    "all",
    "read",
    "dangerous",
    "*",
    "on",
    "off",
    "reset",
    "nopass",
    "resetpass",
    "select",
    "0",
    "allkeys",
    "allchannels",
    "allcommands",
    "resetkeys",
    "clearselectors",
    "+@all",
    "(+get",
    "~x)",
    "\"",
    "\\",
];

fn word(rng: &mut Rng) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..rng.below(5) {
        if rng.below(12) == 0 {
            let n = rng.below(4);
            out.extend(rng.bytes(n));
        } else {
            out.extend_from_slice(rng.pick(&PIECES).as_bytes());
        }
    }
    out
}

fn words(rng: &mut Rng) -> Vec<Vec<u8>> {
    (0..rng.below(12)).map(|_| word(rng)).collect()
}

/// What is accepted can be written to a file and read again; who is said to be
/// unrestricted may do everything.
#[test]
fn rules() {
    let catalog = &registry().catalog;
    let cx = Context { catalog, all_channels: false };
    let lines: [&[&[u8]]; 4] =
        [&[b"get", b"k"], &[b"publish", b"c", b"m"], &[b"config", b"set", b"a", b"b"], &[b"debug", b"sleep", b"0"]];
    fuzz(
        "access rules",
        words,
        |w| format!("{w:?}"),
        |rules| {
            let rules: Vec<&[u8]> = rules.iter().map(|w| &w[..]).collect();
            let mut users = Users::new(cx);
            if users.set(b"u", &rules, cx).is_err() {
                return;
            }
            let user = users.get(b"u").expect("it was made").clone();
            for line in lines {
                let entry = registry().resolve(line).expect("a command");
                let verdict = check(&user, catalog, entry.index, line);
                assert!(user.is_restricted() || verdict.is_ok());
            }
            let file = users_file::lines(&users);
            let split = |l: &Vec<u8>| config::split_words(l).expect("a line");
            let lines: Vec<_> = file.iter().map(split).collect();
            let again = Users::read(&lines, &Users::new(cx), cx).expect("a file of users");
            // `%RW~*` is written as `~*`, which says the same.
            assert_eq!(users_file::lines(&again), file);
        },
    );
}

/// Whatever comes in place of a handshake, the session ends with an error.
#[test]
fn handshakes() {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_string()]).expect("a certificate");
    let provider = Arc::new(coreslot::server::tls::provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![key.cert.der().clone()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()).into(),
        )
        .expect("a configuration");
    let config = Arc::new(config);
    let make = |rng: &mut Rng| {
        let mut bytes = vec![22, 3, 1];
        let n = rng.below(400);
        bytes.extend((n as u16).to_be_bytes());
        bytes.push(1);
        bytes.extend(rng.bytes(n));
        let cut = rng.below(bytes.len());
        (bytes, cut)
    };
    fuzz(
        "handshakes",
        make,
        |(b, cut)| format!("{} cut at {cut}", b.escape_ascii()),
        |(bytes, cut)| {
            let mut session = Session::server(config.clone()).expect("a session");
            let (mut plain, mut out) = (Vec::new(), Vec::new());
            for piece in [&bytes[..*cut], &bytes[*cut..]] {
                if session.open(piece, &mut plain).is_err() {
                    break;
                }
            }
            session.seal(&[], &mut out);
            assert!(plain.is_empty() && session.is_handshaking());
        },
    );
}
