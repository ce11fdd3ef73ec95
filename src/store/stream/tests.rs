//! Streams against an ordered map.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap as Model;

const SMALL: Limits = Limits { bytes: 100, entries: 4 };

fn ids<'a>(rows: impl Iterator<Item = Row<'a>>) -> Vec<StreamId> {
    rows.map(|r| r.id).collect()
}

fn id(n: u64) -> StreamId {
    StreamId::new(n / 3, n % 3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn behaves_as_an_ordered_map(ops in proptest::collection::vec((0u8..8, 1u64..40, 0usize..3), 1..80)) {
        let mut s = Stream::default();
        let mut model: Model<StreamId, Vec<Vec<u8>>> = Model::new();
        let mut next = 1;
        for (op, n, width) in ops {
            match op {
                0 => prop_assert_eq!(s.delete(id(n)), model.remove(&id(n)).is_some()),
                1 => {
                    let max = n / 2;
                    let mut removed = 0;
                    while model.len() as u64 > max {
                        model.pop_first();
                        removed += 1;
                    }
                    prop_assert_eq!(s.trim(Trim::MaxLen(max), false, 0), removed);
                }
                2 => {
                    let kept = model.split_off(&id(n));
                    prop_assert_eq!(s.trim(Trim::MinId(id(n)), false, 0), model.len() as u64);
                    model = kept;
                }
                3 => {
                    let before = s.len();
                    let removed = s.trim(Trim::MaxLen(n / 2), true, 6);
                    prop_assert!(removed <= 6 && (removed == 0 || s.len() as u64 >= n / 2));
                    prop_assert_eq!(s.len() as u64 + removed, before as u64);
                    (0..removed).for_each(|_| drop(model.pop_first()));
                }
                _ => {
                    next += n % 3 + 1;
                    let words: Vec<Vec<u8>> = (0..=width * 2 + 1).map(|w| format!("{w}{}", n * (w as u64 % 2)).into()).collect();
                    let refs: Vec<&[u8]> = words.iter().map(|w| &w[..]).collect();
                    s.append(id(next), &refs, SMALL);
                    model.insert(id(next), words);
                }
            }
            prop_assert_eq!(s.len(), model.len());
            let all: Vec<StreamId> = model.keys().copied().collect();
            prop_assert_eq!(ids(s.iter()), all.clone());
            prop_assert_eq!(s.first_id, all.first().copied().unwrap_or_default());
            prop_assert_eq!(s.last().map(|r| r.id), all.last().copied());
            let (start, end) = (id(n), id(n + 15));
            let within: Vec<StreamId> = model.range(start..=end).map(|(k, _)| *k).collect();
            prop_assert_eq!(ids(s.range(start, end)), within.clone());
            let mut back = ids(s.range_back(start, end));
            back.reverse();
            prop_assert_eq!(back, within);
            for (k, words) in &model {
                let row = s.get(*k).expect("an entry");
                let found: Vec<Vec<u8>> = row.pairs().flat_map(|(f, v)| [f.to_vec(), v.to_vec()]).collect();
                prop_assert_eq!(&found, words);
            }
            let mut copy = Stream::default();
            for (master, list) in s.nodes() {
                prop_assert!(copy.push_node(master, list.clone()));
            }
            prop_assert_eq!(copy.len(), s.len());
        }
    }
}

#[test]
fn ranges_the_wrong_way_round_are_empty() {
    let mut s = Stream::default();
    (1..20).for_each(|n| s.append(id(n), &[b"f", b"v"], SMALL));
    assert_eq!(s.range(id(5), id(4)).count(), 0);
    assert_eq!(s.range_back(id(5), id(4)).count(), 0);
    assert_eq!(s.range(StreamId::MAX, StreamId::MIN).count(), 0);
    assert!(s.node_count() >= 5);
}
