//! The same seeded random commands to the server under test and to Debian's
//! redis-server: replies must agree, and so must the data afterwards, that of a
//! stock replica, and what is there after a restart.
//!
//! Ordinary runs use fixed seeds. `DIFF_SEED` (the first seed), `DIFF_SEEDS`
//! (how many) and `DIFF_COMMANDS` (per seed) make longer ones;
//! `DIFF_WITHOUT=SORT,EVAL` leaves out commands;
//! with `DIFF_SURVEY=1` they list differing replies and go on. Differences that
//! are intended stand in `tests/differences.tsv` with their reasons.

#[path = "../support/mod.rs"]
mod support;

mod arrangement;
mod compare;
mod generate;
mod pair;
mod run;
