//! Rules that can be broken on purpose, so that the history checker can be seen
//! to find it: only in builds with the feature `mutations`, and only the rule
//! that `CORESLOT_MUTATION` names. `scripts/mutations` tries all of them.

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
    /// Cores with odd numbers take what arrived in one turn in reverse.
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
