//! The abstract dataset: in each database, lists that values are appended to.
//! Every value is unique, so a command lost, repeated or out of order shows.

use std::collections::BTreeMap;

pub type Key = (u32, String);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Data {
    pub lists: BTreeMap<Key, Vec<u64>>,
}

impl Data {
    /// `APPEND key value`, the only write.
    pub fn append(&mut self, db: u32, key: &str, value: u64) {
        let list = self.lists.entry((db, key.to_string())).or_default();
        assert!(!list.contains(&value), "value {value} is applied twice to {key} in {db}");
        list.push(value);
    }

    pub fn values(&self) -> usize {
        self.lists.values().map(Vec::len).sum()
    }

    pub fn has(&self, value: u64) -> bool {
        self.lists.values().any(|l| l.contains(&value))
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = String::new();
        for ((db, key), list) in &self.lists {
            let list: Vec<String> = list.iter().map(u64::to_string).collect();
            out.push_str(&format!("{db} {key} {}\n", list.join(",")));
        }
        out.into_bytes()
    }

    pub fn decode(bytes: &[u8]) -> Data {
        let mut data = Data::default();
        for line in std::str::from_utf8(bytes).expect("text").lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let list = words[2].split(',').map(|v| v.parse().expect("a value")).collect();
            data.lists.insert((words[0].parse().expect("a database"), words[1].to_string()), list);
        }
        data
    }

    /// Transactions write one value to the keys `pair:a` and `pair:b`: both
    /// lists must always be equal.
    pub fn check_pairs(&self) {
        for ((db, key), list) in &self.lists {
            if let Some(pair) = key.strip_suffix(":a") {
                let other = self.lists.get(&(*db, format!("{pair}:b")));
                assert_eq!(Some(list), other, "half a transaction is visible in {key}");
            }
        }
    }
}
