//! Rules as users write them, and what follows from them.

use super::check::check;
use super::rules::Context;
use super::users::{ListError, Users};
use super::{Catalog, Denied, RuleError};
use crate::command::Spec;
use crate::command::spec::{Group, KeySpec, acl, flag, keyflag};
use proptest::prelude::*;

const RW: u32 = keyflag::RW | keyflag::ACCESS | keyflag::UPDATE;

static SPECS: &[Spec] = &[
    Spec {
        name: "get",
        flags: flag::READONLY | flag::FAST,
        keys: &[KeySpec::one(keyflag::RO | keyflag::ACCESS, 1)],
        group: Group::String,
        ..Spec::DEFAULT
    },
    Spec {
        name: "set",
        flags: flag::WRITE,
        keys: &[KeySpec::one(RW | keyflag::VARIABLE_FLAGS, 1)],
        group: Group::String,
        ..Spec::DEFAULT
    },
    Spec { name: "select", acl: acl::CONNECTION, ..Spec::DEFAULT },
    Spec { name: "config", ..Spec::DEFAULT },
    Spec { name: "config|get", flags: flag::ADMIN, ..Spec::DEFAULT },
    Spec { name: "config|set", flags: flag::ADMIN, ..Spec::DEFAULT },
    Spec { name: "debug", flags: flag::ADMIN, ..Spec::DEFAULT },
    Spec { name: "debug|object", flags: flag::ADMIN | flag::HIDDEN, ..Spec::DEFAULT },
    Spec { name: "publish", flags: flag::PUBSUB, ..Spec::DEFAULT },
    Spec { name: "psubscribe", flags: flag::PUBSUB, ..Spec::DEFAULT },
];

fn catalog() -> Catalog {
    Catalog::new(SPECS.iter())
}

/// A user with these rules, in a table of its own.
fn table(catalog: &Catalog, rules: &str) -> Result<Users, ListError> {
    let cx = Context { catalog, all_channels: false };
    let mut users = Users::new(cx);
    let words: Vec<&[u8]> = rules.split(' ').map(str::as_bytes).collect();
    users.set(b"u", &words, cx)?;
    Ok(users)
}

/// Does the user with these rules get to run this line?
fn verdict(rules: &str, line: &str) -> Result<(), Denied> {
    let catalog = catalog();
    let users = table(&catalog, rules).unwrap();
    let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let full = args.get(1).and_then(|sub| {
        let name = [args[0], b"|", *sub].concat();
        SPECS.iter().position(|s| s.name.as_bytes() == name)
    });
    let index = full.or_else(|| catalog.find(args[0])).unwrap();
    check(users.get(b"u").unwrap(), &catalog, index, &args)
}

fn shown(rules: &str) -> String {
    let catalog = catalog();
    let users = table(&catalog, rules).unwrap();
    String::from_utf8(users.get(b"u").unwrap().describe().join(&b' ')).unwrap()
}

#[test]
fn commands_are_allowed_by_name_category_and_first_argument() {
    assert_eq!(verdict("+get ~*", "get k"), Ok(()));
    assert_eq!(verdict("+get ~*", "set k v"), Err(Denied::Command));
    assert_eq!(verdict("+@read ~*", "get k"), Ok(()));
    assert_eq!(verdict("+@all -@write ~*", "set k v"), Err(Denied::Command));
    assert_eq!(verdict("+config|get", "config get x"), Ok(()));
    assert_eq!(verdict("+config|get", "config set x y"), Err(Denied::Command));
    assert_eq!(verdict("+config -config|set", "config set x y"), Err(Denied::Command));
    assert_eq!(verdict("+select|0", "select 0"), Ok(()));
    assert_eq!(verdict("+select|0", "select 1"), Err(Denied::Command));
    assert_eq!(verdict("+select|0 -select", "select 0"), Err(Denied::Command));
    assert_eq!(verdict("+debug|object", "debug object"), Ok(()));
    assert_eq!(verdict("+@all -debug", "debug object"), Err(Denied::Command));
}

#[test]
fn keys_are_allowed_by_pattern_and_access() {
    assert_eq!(verdict("+@all %R~a*", "get ab"), Ok(()));
    assert_eq!(verdict("+@all %W~a*", "get ab"), Err(Denied::Key(1)));
    assert_eq!(verdict("+@all %R~a*", "set ab v"), Err(Denied::Key(1)));
    assert_eq!(verdict("+@all %W~a*", "set ab v"), Ok(()));
    assert_eq!(verdict("+@all %W~a*", "set ab v get"), Err(Denied::Key(1)));
    assert_eq!(verdict("+@all %W~a* %R~a*", "set ab v get"), Ok(()));
    assert_eq!(verdict("+@all %RW~a*", "set b v"), Err(Denied::Key(1)));
}

#[test]
fn a_command_must_fit_one_selector_as_a_whole() {
    assert_eq!(verdict("+get ~a (+set ~b)", "set b v"), Ok(()));
    assert_eq!(verdict("+get ~a (+set ~b)", "set a v"), Err(Denied::Key(1)));
    assert_eq!(verdict("+get ~a (+set ~b) clearselectors", "set b v"), Err(Denied::Command));
}

#[test]
fn patterns_to_subscribe_to_are_compared_to_the_letter() {
    assert_eq!(verdict("+@all &n*", "publish news x"), Ok(()));
    assert_eq!(verdict("+@all &n*", "publish olds x"), Err(Denied::Channel(1)));
    assert_eq!(verdict("+@all &n*", "psubscribe n*"), Ok(()));
    assert_eq!(verdict("+@all &n*", "psubscribe ne*"), Err(Denied::Channel(1)));
}

#[test]
fn rules_are_kept_as_they_were_given_and_compacted() {
    assert_eq!(shown("+@all -@read -@slow +get -@read"), "off sanitize-payload resetchannels +@all -@slow +get -@read");
    assert_eq!(shown("+config +config|get -config|set +CONFIG"), "off sanitize-payload resetchannels -@all +config");
    assert_eq!(shown("-@read +@all"), "off sanitize-payload resetchannels +@all");
    // What is saved can be loaded: nothing may follow `~*`.
    assert_eq!(shown("%RW~* ~x"), "off sanitize-payload %RW~* ~x resetchannels -@all");
    assert_eq!(shown("%RW~* ~x"), shown(&shown("%RW~* ~x")));
    assert_eq!(shown("~y %RW~*"), "off sanitize-payload ~y ~* resetchannels -@all");
    assert_eq!(shown("%r~x %W~x ~y allchannels"), "off sanitize-payload ~x ~y &* -@all");
    assert_eq!(shown("on (~x +get)"), "on sanitize-payload resetchannels -@all (~x resetchannels -@all +get)");
}

#[test]
fn wrong_rules_are_refused() {
    let catalog = catalog();
    let refused = |rules: &str| match table(&catalog, rules) {
        Err(ListError::Rule(_, e)) => e,
        other => panic!("{rules}: {other:?}"),
    };
    assert_eq!(refused("+nosuch"), RuleError::UnknownCommand);
    assert_eq!(refused("-select|0"), RuleError::UnknownCommand);
    assert_eq!(refused("+config|nosuch"), RuleError::UnknownCommand);
    assert_eq!(refused("+config|get|x"), RuleError::ArgOfSubcommand);
    assert_eq!(refused("+get|a|b"), RuleError::UnknownCommand);
    assert_eq!(refused("+select|"), RuleError::Syntax);
    assert_eq!(refused("%RR~x"), RuleError::Syntax);
    assert_eq!(refused("%~x"), RuleError::Syntax);
    assert_eq!(refused("allkeys ~x"), RuleError::KeysCovered);
    assert_eq!(refused("&* &x"), RuleError::ChannelsCovered);
    assert_eq!(refused("#abc"), RuleError::BadHash);
    assert_eq!(refused("<abc"), RuleError::NoSuchPassword);
    assert_eq!(refused("(on)"), RuleError::Syntax);
    assert!(matches!(table(&catalog, "(+get"), Err(ListError::Unmatched(w)) if w == b"(+get"));
}

#[test]
fn only_who_may_do_everything_is_unrestricted() {
    let catalog = catalog();
    let restricted = |rules: &str| table(&catalog, rules).unwrap().get(b"u").unwrap().is_restricted();
    assert!(!restricted("+@all ~* &*"));
    assert!(!restricted("+@all ~* &* -get +get"));
    assert!(!restricted("(+@all ~* &*)"));
    assert!(restricted("+@all ~*"));
    assert!(restricted("+@all ~* &* -get"));
    assert!(restricted("+@read +@write +@slow ~* &*"));
}

#[test]
fn passwords_are_hashes() {
    let catalog = catalog();
    let users = table(&catalog, "on >p >q <q").unwrap();
    assert!(users.authenticate(b"u", b"p").is_some());
    assert!(users.authenticate(b"u", b"q").is_none());
    assert!(table(&catalog, "on >p off").unwrap().authenticate(b"u", b"p").is_none());
    assert!(table(&catalog, "on nopass").unwrap().authenticate(b"u", b"anything").is_some());
}

/// Who is made anew after being removed is somebody else, however alike; who is
/// changed, or read from a file, is not.
#[test]
fn a_removed_user_does_not_come_back() {
    let catalog = catalog();
    let cx = Context { catalog: &catalog, all_channels: false };
    let mut users = table(&catalog, "on nopass").unwrap();
    let first = users.get(b"u").unwrap().clone();
    users.set(b"u", &[b"off"], cx).unwrap();
    assert!(users.get(b"u").unwrap().is(&first));
    for line in ["user u on nopass", "user u off +get"] {
        let words = line.split(' ').map(|w| w.as_bytes().to_vec()).collect();
        let read = Users::read(&[words], &users, cx).unwrap();
        assert!(read.get(b"u").unwrap().is(&first) && read.default_user().is(users.default_user()));
    }
    users.remove(b"u");
    users.set(b"u", &[b"on", b"nopass"], cx).unwrap();
    let second = users.get(b"u").unwrap();
    assert!(!second.is(&first) && **second == *first);
}

fn word() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "+", "-", "@", "~", "&", "%", "R", "W", "(", ")", ">", "<", "#", "!", "|", "get", "set", "config", "all",
        "read", "*", "on", "off", "reset", "nopass", "select", "0", "allkeys", "x", "\0", "\u{b}", "é", "\"", "",
    ]);
    prop_oneof![
        prop::collection::vec(pieces, 0..5).prop_map(|p| p.concat().into_bytes()),
        prop::collection::vec(any::<u8>(), 0..8),
        Just(b"+@all".to_vec()),
        Just(b"(+get".to_vec()),
        Just(b"~x)".to_vec()),
    ]
}

proptest! {
    /// Whatever is accepted, a line of a file says it again.
    #[test]
    fn a_user_is_what_its_line_says(words in prop::collection::vec(word(), 0..12)) {
        let catalog = catalog();
        let cx = Context { catalog: &catalog, all_channels: false };
        let mut users = Users::new(cx);
        let words: Vec<&[u8]> = words.iter().map(|w| &w[..]).collect();
        if users.set(b"u", &words, cx).is_ok() {
            let lines: Vec<Vec<Vec<u8>>> = users.lines().collect();
            let again = Users::read(&lines, &Users::new(cx), cx).unwrap();
            prop_assert_eq!(again.get(b"u"), users.get(b"u"));
            prop_assert_eq!(again.default_user(), users.default_user());
        }
    }
}
