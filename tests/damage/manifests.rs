//! Manifests, changed at every place, as the server reads them.

use coreslot::journal::aof::manifest::Manifest;

use super::corpus::MANIFEST;
use super::damaged::{TEXT_CHANGES, each};
use super::memory::peak;

#[test]
fn changes_are_refused_or_say_something_else() {
    for text in
        [MANIFEST, "# comment\nfile \"a b\" seq 3 type b\nfile x seq 1 type h startoffset 5\nfile y seq 2 type i\n"]
    {
        let (mut taken, mut refused) = (0, 0);
        let mut one = |bad: &[u8]| {
            let (result, used) = peak(|| Manifest::parse(bad));
            assert!(used < 64 << 10, "{used} bytes");
            match result {
                Ok(m) => {
                    taken += 1;
                    let again = Manifest::parse(m.print().as_bytes());
                    assert!(again.as_ref() == Ok(&m) || m.print().is_empty(), "{}: {again:?}", bad.escape_ascii());
                    assert!(m.files().all(|f| !f.name.contains('/')));
                }
                Err(e) => {
                    refused += 1;
                    assert!(e.line <= bad.split(|b| *b == b'\n').count());
                }
            }
        };
        (0..text.len()).for_each(|at| one(&text.as_bytes()[..at]));
        each(text.as_bytes(), &TEXT_CHANGES, None, |_, _, bad| one(bad));
        println!("{taken} manifests taken, {refused} refused");
    }
}
