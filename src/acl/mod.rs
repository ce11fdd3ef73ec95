//! Access control: users, their rules, and whether a user may run a command
//! with its arguments. Pure: knows no connection, file or clock.
//!
//! | file | holds |
//! | --- | --- |
//! | `catalog` | the commands that rules speak of |
//! | `selector` | one set of permissions: commands, keys, channels |
//! | `rules` | the words of ACL SETUSER, user lines and ACL files |
//! | `user` | a user: state, passwords, selectors |
//! | `users` | all users; reading and writing them |
//! | `check` | may this user run this command? |
//! | `log` | what was denied (ACL LOG) |
//!
//! A [`Users`] table is immutable; a change makes a new one, which shares the
//! users that did not change. So whether a connection's user changed is one
//! comparison of pointers, and every core holds a table of its own.
pub mod catalog;
pub mod check;
pub mod log;
pub mod rules;
pub mod selector;
#[cfg(test)]
mod tests;
pub mod user;
pub mod users;

pub use catalog::Catalog;
pub use check::{Denied, check};
pub use rules::RuleError;
pub use user::User;
pub use users::Users;

/// The user of connections that have not said who they are.
pub const DEFAULT_USER: &[u8] = b"default";
