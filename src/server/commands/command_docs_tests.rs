//! Is what the rows say of arguments right, as far as they can be compared
//! with what else they say? `tests/wire/command_docs.rs` compares with Redis.

use super::*;
use crate::command::spec::{Begin, Spec, keyflag};
use crate::command::syntax::Kind;
use crate::server::registry::registry;

fn rows() -> impl Iterator<Item = &'static Spec> {
    registry().entries.iter().filter(|e| !e.hidden()).map(|e| e.spec)
}

fn arguments(s: &Spec) -> Vec<Argument<'static>> {
    parse(s.syntax).unwrap_or_else(|e| panic!("{}: {e}", s.name))
}

/// The name, and the subcommand's.
fn words(s: &Spec) -> usize {
    s.name.split('|').count()
}

fn is_container(s: &Spec) -> bool {
    rows().any(|r| r.name.strip_prefix(s.name).is_some_and(|rest| rest.starts_with('|')))
}

#[test]
fn arguments_agree_with_arity() {
    // Where Redis says one thing by the arity and another by the arguments.
    const APART: &[&str] = &["client|kill", "debug", "psync", "quit", "replconf"];
    let mut wrong = Vec::new();
    for s in rows().filter(|s| !is_container(s)) {
        let all = arguments(s);
        let least = words(s) + all.iter().map(Argument::least).sum::<usize>();
        let varies = all.iter().any(Argument::varies);
        let right = least == s.arity.unsigned_abs() as usize && varies == (s.arity < 0);
        if right == APART.contains(&s.name) {
            wrong.push(format!(
                "{}: arity {}, `{}` is {least}{}",
                s.name,
                s.arity,
                s.syntax,
                if varies { "+" } else { "" }
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn visit(all: &[Argument], with: &mut dyn FnMut(&Argument)) {
    for a in all {
        with(a);
        visit(&a.arguments, with);
    }
}

#[test]
fn arguments_agree_with_key_specifications() {
    let mut wrong = Vec::new();
    for s in rows() {
        let all = arguments(s);
        let mut bound = Vec::new();
        visit(&all, &mut |a| {
            bound.extend(a.key_spec);
            if a.kind == Kind::Key && a.key_spec.is_none() {
                bound.push(usize::MAX);
            }
        });
        bound.sort_unstable();
        bound.dedup();
        let wanted: Vec<usize> = (0..s.keys.len()).filter(|i| s.keys[*i].flags & keyflag::NOT_KEY == 0).collect();
        if bound != wanted {
            wrong.push(format!("{}: {bound:?}, not {wanted:?}, in `{}`", s.name, s.syntax));
        }
        wrong.extend(misplaced(s, &all));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A key specification that does not begin where its first argument stands.
fn misplaced(s: &Spec, all: &[Argument]) -> Option<String> {
    let counted = all.iter().any(|a| a.name == "numkeys");
    let mut at = words(s);
    let mut seen = 0;
    for a in all {
        let spec = a.key_spec.filter(|n| *n == seen).and_then(|n| s.keys.get(n));
        if let Some(Begin::Index(index)) = spec.map(|k| k.begin) {
            seen += 1;
            let found = at + usize::from(a.token.is_some());
            // A counted one begins with the number.
            if found != index && !(counted && found == index + 1) {
                return Some(format!("{}: `{}` stands at {found}, not {index}", s.name, a.name));
            }
        }
        if a.varies() {
            break;
        }
        at += a.least();
    }
    None
}

/// An argument among others is known by its token or its place: two of one
/// name would be one to those who read the names.
#[test]
fn names_of_arguments_are_told_apart() {
    fn twice(all: &[Argument]) -> Option<String> {
        let again = all.iter().enumerate().find(|(i, a)| all[..*i].iter().any(|b| b.name == a.name));
        again.map(|(_, a)| a.name.clone()).or_else(|| all.iter().find_map(|a| twice(&a.arguments)))
    }
    let wrong: Vec<_> = rows().filter_map(|s| Some((s.name, twice(&arguments(s))?))).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}
