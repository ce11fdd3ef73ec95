//! Digests of values and of all keys, equal for equal content in whatever
//! order it came about: for DEBUG DIGEST and DEBUG DIGEST-VALUE.
//!
//! They are defined as those of redis-server 7.0 and agree with them, so that
//! a data set can be compared across both. Two operations build them: `mix`
//! hashes the sum so far together with something, for what has an order;
//! `join` only XORs the hash of something in, for what has none.

use crate::base::sha1::{hex, sha1};
use crate::store::Store;
use crate::store::entry::{Entry, Value};
use crate::store::object::Object;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest([u8; 20]);

impl Digest {
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// Adds the digest of other keys (of another core) to this one.
    pub fn xor(&mut self, other: &Digest) {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a ^= b);
    }

    pub fn bytes(&self) -> &[u8; 20] {
        &self.0
    }

    pub fn from_bytes(bytes: [u8; 20]) -> Digest {
        Digest(bytes)
    }

    fn join(&mut self, part: &[u8]) {
        self.xor(&Digest(sha1(part)));
    }

    fn mix(&mut self, part: &[u8]) {
        self.join(part);
        self.0 = sha1(&self.0);
    }
}

/// The type's number, its content, and whether it has a deadline; not the key.
pub fn value(entry: &Entry) -> Digest {
    let mut d = Digest::default();
    add_value(&mut d, entry);
    d
}

fn add_value(d: &mut Digest, entry: &Entry) {
    match entry.value() {
        Value::Str(s) => {
            d.mix(&0u32.to_be_bytes());
            d.mix(s);
        }
        Value::Object(o) => add_object(d, o),
    }
    if entry.deadline().is_some() {
        d.join(b"!!expire!!");
    }
}

fn add_object(d: &mut Digest, object: &Object) {
    let number: u32 = match object {
        Object::List(_) => 1,
        Object::Set(_) => 2,
        Object::ZSet(_) => 3,
        Object::Hash(_) => 4,
        Object::Stream(_) => 6,
    };
    d.mix(&number.to_be_bytes());
    match object {
        Object::List(x) => x.iter().for_each(|item| item.with(|s| d.mix(s))),
        Object::Set(x) => x.iter().for_each(|item| item.with(|s| d.join(s))),
        Object::ZSet(x) => x.iter().for_each(|(member, score)| {
            let score = crate::base::num::format_f64(score);
            d.join_pair(&member.to_vec(), score.as_bytes());
        }),
        Object::Hash(x) => x.iter().for_each(|(field, value)| {
            let field = field.to_vec();
            d.join_pair(&field, &value.to_vec());
            if x.deadline(&field).is_some() {
                d.join(b"!!hexpire!!");
            }
        }),
        Object::Stream(x) => x.iter().for_each(|row| {
            d.mix(format!("{}.{}", row.id.ms, row.id.seq).as_bytes());
            for (field, value) in row.pairs() {
                field.with(|s| d.mix(s));
                value.with(|s| d.mix(s));
            }
        }),
    }
}

impl Digest {
    fn join_pair(&mut self, a: &[u8], b: &[u8]) {
        let mut pair = Digest::default();
        pair.mix(a);
        pair.mix(b);
        self.join(&pair.0);
    }
}

/// One core's keys of one database; XOR with those of the other cores.
pub fn database(store: &Store, db: usize) -> Digest {
    let mut all = Digest::default();
    for entry in store.db(db).into_iter().flat_map(|d| d.iter()) {
        let mut d = Digest::default();
        d.mix(entry.key());
        add_value(&mut d, entry);
        all.join(&d.0);
    }
    all
}

/// The digest of a whole data set: of the databases that are not empty, in
/// ascending order, each the sum over all cores.
pub fn whole(databases: impl Iterator<Item = (usize, Digest)>) -> Digest {
    let mut all = Digest::default();
    for (db, keys) in databases {
        all.mix(&(db as u32).to_be_bytes());
        all.xor(&keys);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::slot::Key;
    use crate::command::testing::Bench;

    /// Digests that redis-server 7.0.15 replied for the same keys.
    #[test]
    fn digests_agree_with_redis() {
        let mut b = Bench::default();
        for line in [
            "set x y",
            "set t v pxat 9999999999999",
            "rpush l a b a",
            "sadd s 1 c b a",
            "zadd z 1e300 d 0.1 c 1.5 a 2 b",
            "hset h g w f v",
        ] {
            b.run(line);
        }
        for (key, want) in [
            ("x", "5de2ea9d5ffab1d9674bdd0e51d2eff013a722cc"),
            ("t", "311b17018163335616e089f6b951c82c477335ac"),
            ("l", "e92cf40ff90b137729488530c6870deed6c55138"),
            ("s", "6c563d3f017ec5083ac0b9f29fc635f90a47f2d9"),
            ("z", "ed4efb0addd53d2a67f32898333cfcff15efca7f"),
            ("h", "d127864ed50239662bf61bafc9bda63c17da5b37"),
        ] {
            assert_eq!(value(b.store.get(0, &Key::new(key.as_bytes())).unwrap()).hex(), want, "{key}");
        }
        let all = |b: &Bench| whole((0..16).filter(|&db| b.store.len(db) > 0).map(|db| (db, database(&b.store, db))));
        assert_eq!(all(&b).hex(), "0f9a7c0e150b725c51a70aca56cb5c2913905005");
        b.db = 3;
        b.run("set q 1");
        assert_eq!(all(&b).hex(), "03e5f291e7e8b9d5b547f1ddaca162a6d621d76a");
    }
}
