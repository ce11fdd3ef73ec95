//! Every file of `tests/transcripts`, with 1 and with 4 data cores.

use super::support::{each_cores, transcript};

macro_rules! transcripts {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            each_cores(|server| transcript::play(server, stringify!($name)));
        }
    )*};
}

transcripts!(
    strings,
    bits,
    keys,
    expiry,
    transactions,
    connection,
    object,
    sort,
    scripting,
    dump_restore,
    streams,
    hyperloglog,
    geo,
    acl
);

/// A file without a test would be forgotten.
#[test]
fn every_file_has_a_test() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts");
    let source = include_str!("transcripts.rs");
    for entry in std::fs::read_dir(dir).expect("read the directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy();
        assert!(source.contains(name.as_ref()), "no test plays {name}");
    }
}
