//! Rules that can be broken on purpose, so that the history checker can be seen
//! to find it: only in builds with the feature `mutations`, and only the rule
//! that `CORESLOT_MUTATION` names. `scripts/mutations` tries all of them.

use std::collections::VecDeque;

/// A deliberate breach of one rule of the transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Split transactions take no locks on what they only read.
    NoReadLocks,
    /// What is gathered (EXEC, scripts, commands that need all data in one
    /// place) is taken from its cores without locks on its keys.
    NoGatherLocks,
    /// A part gives its locks up once it has run, and a turn takes its inbox
    /// after running commands; either alone is covered by the other rule.
    NoHold,
    /// Cores with odd numbers take split transactions that arrived in one turn in
    /// reverse. A part gives its locks up once it has run, too: else two of them
    /// would wait for each other for good, and there is no history to be checked.
    NoAgreedOrder,
}

/// Is this rule broken? Always false in ordinary builds.
#[cfg(not(feature = "mutations"))]
#[inline(always)]
pub const fn broken(_: Mutation) -> bool {
    false
}

/// Is this rule broken?
#[cfg(feature = "mutations")]
pub fn broken(mutation: Mutation) -> bool {
    static CHOSEN: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| std::env::var("CORESLOT_MUTATION").unwrap_or_default());
    *chosen == format!("{mutation:?}")
}

/// Reverses the order of what `picked` holds for; the rest keeps its places.
pub fn reverse<T>(list: &mut VecDeque<T>, picked: impl Fn(&T) -> bool) {
    let places: Vec<usize> = (0..list.len()).filter(|i| picked(&list[*i])).collect();
    let half = places.len() / 2;
    for (a, b) in places.iter().zip(places.iter().rev()).take(half) {
        list.swap(*a, *b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_picked_is_reversed() {
        let mut list = VecDeque::from([1, 2, 10, 3, 4, 11]);
        reverse(&mut list, |n| *n < 10);
        assert_eq!(list, [4, 3, 10, 2, 1, 11]);
    }
}
