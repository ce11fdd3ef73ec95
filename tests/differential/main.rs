//! The same seeded random commands to the server under test and to Debian's
//! redis-server: replies must agree, and so must the data afterwards.
//!
//! Ordinary runs use fixed seeds. `DIFF_SEED` (the first seed), `DIFF_SEEDS`
//! (how many) and `DIFF_COMMANDS` (per seed) make longer ones. Differences that
//! are intended stand in `tests/differences.tsv` with their reasons.

#[path = "../support/mod.rs"]
mod support;

mod compare;
mod generate;
mod run;
