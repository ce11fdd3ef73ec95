//! How commands changed: what COMMAND DOCS tells beside the rows.
//!
//! A new command has no history, so these stand in tables of their own. The
//! versions are those of Redis; the words are ours.

/// Command, version, what it brought; by command.
const CHANGES: &[(&str, &str, &str)] = &[
    ("acl|getuser", "6.2.0", "Shows patterns of channels."),
    ("acl|getuser", "7.0.0", "Shows selectors; patterns of keys and channels come as rules, not as lists."),
    ("acl|log", "7.2.0", "Entries have a number and the times of their making and of their last change."),
    ("acl|setuser", "6.2.0", "Takes patterns of channels."),
    ("acl|setuser", "7.0.0", "Takes selectors, and permissions for keys by read and write."),
    ("auth", "6.0.0", "Takes a user beside the password."),
    ("bgsave", "3.2.2", "Takes `SCHEDULE`."),
    ("bitcount", "7.0.0", "Takes `BYTE` or `BIT` as the unit of the range."),
    ("bitpos", "7.0.0", "Takes `BYTE` or `BIT` as the unit of the range."),
    ("blpop", "6.0.0", "The timeout may have a fraction."),
    ("brpop", "6.0.0", "The timeout may have a fraction."),
    ("brpoplpush", "6.0.0", "The timeout may have a fraction."),
    ("bzpopmax", "6.0.0", "The timeout may have a fraction."),
    ("bzpopmin", "6.0.0", "The timeout may have a fraction."),
    ("client|kill", "2.8.12", "Takes filters by name, in place of one address."),
    ("client|kill", "2.8.12", "Takes `ID`."),
    ("client|kill", "3.2.0", "`TYPE` knows `master`."),
    ("client|kill", "5.0.0", "`TYPE` knows `replica`, the new name of `slave`, which still is understood."),
    ("client|kill", "6.2.0", "Takes `LADDR`."),
    ("client|kill", "7.4.0", "Takes `MAXAGE`."),
    ("client|list", "2.8.12", "Shows the `id` of a client, which no other has."),
    ("client|list", "5.0.0", "Takes `TYPE`."),
    ("client|list", "6.0.0", "Shows `user`."),
    ("client|list", "6.2.0", "Shows `argv-mem`, `tot-mem`, `laddr` and `redir`; takes `ID`."),
    ("client|list", "7.0.0", "Shows `resp`, `multi-mem`, `rbs` and `rbp`."),
    ("client|list", "7.0.3", "Shows `ssub`."),
    ("client|pause", "6.2.0", "May hold up only what writes: `WRITE`."),
    ("cluster|meet", "4.0.0", "Takes the port of the bus."),
    ("cluster|slots", "4.0.0", "Shows the ids of nodes."),
    ("cluster|slots", "7.0.0", "Shows more about how a node is reached."),
    ("command|info", "7.0.0", "Describes all commands if none is named."),
    ("config|get", "7.0.0", "Takes several patterns."),
    ("config|set", "7.0.0", "Takes several parameters."),
    ("exists", "3.0.3", "Takes several keys."),
    ("expire", "7.0.0", "Takes `NX`, `XX`, `GT` and `LT`."),
    ("expireat", "7.0.0", "Takes `NX`, `XX`, `GT` and `LT`."),
    ("flushall", "4.0.0", "Takes `ASYNC`."),
    ("flushall", "6.2.0", "Takes `SYNC`."),
    ("flushdb", "4.0.0", "Takes `ASYNC`."),
    ("flushdb", "6.2.0", "Takes `SYNC`."),
    ("geoadd", "6.2.0", "Takes `CH`, `NX` and `XX`."),
    ("georadius", "6.2.0", "`COUNT` takes `ANY`."),
    ("georadius", "7.0.0", "Units may be in upper case."),
    ("georadius_ro", "6.2.0", "`COUNT` takes `ANY`."),
    ("georadiusbymember", "7.0.0", "Units may be in upper case."),
    ("geosearch", "7.0.0", "Units may be in upper case."),
    ("geosearchstore", "7.0.0", "Units may be in upper case."),
    ("hdel", "2.4.0", "Takes several fields."),
    ("hello", "6.2.0", "The version may be left out: describes the connection and changes nothing."),
    ("hscan", "7.4.0", "Takes `NOVALUES`."),
    ("hset", "4.0.0", "Takes several fields with their values."),
    ("info", "7.0.0", "Takes several sections."),
    ("lpop", "6.2.0", "Takes a count."),
    ("lpush", "2.4.0", "Takes several elements."),
    ("lpushx", "4.0.0", "Takes several elements."),
    ("migrate", "3.0.0", "Takes `COPY` and `REPLACE`."),
    ("migrate", "3.0.6", "Takes `KEYS`."),
    ("migrate", "4.0.7", "Takes `AUTH`."),
    ("migrate", "6.0.0", "Takes `AUTH2`."),
    ("pexpire", "7.0.0", "Takes `NX`, `XX`, `GT` and `LT`."),
    ("pexpireat", "7.0.0", "Takes `NX`, `XX`, `GT` and `LT`."),
    ("pttl", "2.8.0", "Returns -2 for a key that does not exist."),
    ("renamenx", "3.2.0", "The old name as the new one is no error any more."),
    ("restore", "3.0.0", "Takes `REPLACE`."),
    ("restore", "5.0.0", "Takes `ABSTTL`."),
    ("restore", "5.0.0", "Takes `IDLETIME` and `FREQ`."),
    ("restore-asking", "3.0.0", "Takes `REPLACE`."),
    ("restore-asking", "5.0.0", "Takes `ABSTTL`."),
    ("restore-asking", "5.0.0", "Takes `IDLETIME` and `FREQ`."),
    ("rpop", "6.2.0", "Takes a count."),
    ("rpush", "2.4.0", "Takes several elements."),
    ("rpushx", "4.0.0", "Takes several elements."),
    ("sadd", "2.4.0", "Takes several members."),
    ("scan", "6.0.0", "Takes `TYPE`."),
    ("script|flush", "6.2.0", "Takes `ASYNC` and `SYNC`."),
    ("set", "2.6.12", "Takes `EX`, `PX`, `NX` and `XX`."),
    ("set", "6.0.0", "Takes `KEEPTTL`."),
    ("set", "6.2.0", "Takes `GET`, `EXAT` and `PXAT`."),
    ("set", "7.0.0", "`GET` goes together with `NX`."),
    ("set", "8.1.0", "Takes `IFEQ`, as Valkey does."),
    ("shutdown", "7.0.0", "Takes `NOW`, `FORCE` and `ABORT`."),
    ("slowlog|get", "4.0.0", "Shows the client's address and name."),
    ("spop", "3.2.0", "Takes a count."),
    ("srandmember", "2.6.0", "Takes a count."),
    ("srem", "2.4.0", "Takes several members."),
    ("ttl", "2.8.0", "Returns -2 for a key that does not exist."),
    ("xadd", "6.2.0", "Takes `NOMKSTREAM`, `MINID` and `LIMIT`."),
    ("xadd", "7.0.0", "Takes an id of the form `<ms>-*`."),
    ("xautoclaim", "7.0.0", "Returns, too, which pending entries it dropped because they had been deleted."),
    ("xgroup|create", "7.0.0", "Takes `ENTRIESREAD`."),
    ("xgroup|setid", "7.0.0", "Takes `ENTRIESREAD`."),
    ("xinfo|consumers", "7.2.0", "Shows `inactive`."),
    ("xinfo|groups", "7.0.0", "Shows `entries-read` and `lag`."),
    ("xinfo|stream", "6.0.0", "Takes `FULL`."),
    (
        "xinfo|stream",
        "7.0.0",
        "Shows `max-deleted-entry-id`, `entries-added`, `recorded-first-entry-id`, `entries-read` and `lag`.",
    ),
    ("xinfo|stream", "7.2.0", "Shows `active-time`; `seen-time` is the time of the last attempt."),
    ("xpending", "6.2.0", "Takes `IDLE`; bounds may be exclusive."),
    ("xrange", "6.2.0", "Bounds may be exclusive."),
    ("xrevrange", "6.2.0", "Bounds may be exclusive."),
    ("xsetid", "7.0.0", "Takes `ENTRIESADDED` and `MAXDELETEDID`."),
    ("xtrim", "6.2.0", "Takes `MINID` and `LIMIT`."),
    ("zadd", "2.4.0", "Takes several members with their scores."),
    ("zadd", "3.0.2", "Takes `XX`, `NX`, `CH` and `INCR`."),
    ("zadd", "6.2.0", "Takes `GT` and `LT`."),
    ("zrange", "6.2.0", "Takes `REV`, `BYSCORE`, `BYLEX` and `LIMIT`."),
    ("zrangebyscore", "2.0.0", "Takes `WITHSCORES`."),
    ("zrank", "7.2.0", "Takes `WITHSCORE`."),
    ("zrem", "2.4.0", "Takes several members."),
    ("zrevrangebyscore", "2.1.6", "Bounds may be exclusive."),
    ("zrevrank", "7.2.0", "Takes `WITHSCORE`."),
    ("zscan", "8.0.0", "Takes `NOSCORES` (Valkey)."),
];

/// Commands that still work, the version that had something better, and what.
const OUT_OF_DATE: &[(&str, &str, &str)] = &[
    ("brpoplpush", "6.2.0", "`BLMOVE` with `RIGHT` and `LEFT`"),
    ("cluster|slaves", "5.0.0", "`CLUSTER REPLICAS`"),
    ("cluster|slots", "7.0.0", "`CLUSTER SHARDS`"),
    ("georadius", "6.2.0", "`GEOSEARCH` or `GEOSEARCHSTORE` with `BYRADIUS`"),
    ("georadius_ro", "6.2.0", "`GEOSEARCH` with `BYRADIUS`"),
    ("georadiusbymember", "6.2.0", "`GEOSEARCH` or `GEOSEARCHSTORE` with `FROMMEMBER` and `BYRADIUS`"),
    ("georadiusbymember_ro", "6.2.0", "`GEOSEARCH` with `FROMMEMBER` and `BYRADIUS`"),
    ("getset", "6.2.0", "`SET` with `GET`"),
    ("hmset", "4.0.0", "`HSET`"),
    ("psetex", "2.6.12", "`SET` with `PX`"),
    ("quit", "7.2.0", "Closing the connection"),
    ("rpoplpush", "6.2.0", "`LMOVE` with `RIGHT` and `LEFT`"),
    ("setex", "2.6.12", "`SET` with `EX`"),
    ("setnx", "2.6.12", "`SET` with `NX`"),
    ("slaveof", "5.0.0", "`REPLICAOF`"),
    ("substr", "2.0.0", "`GETRANGE`"),
    ("zrangebylex", "6.2.0", "`ZRANGE` with `BYLEX`"),
    ("zrangebyscore", "6.2.0", "`ZRANGE` with `BYSCORE`"),
    ("zrevrange", "6.2.0", "`ZRANGE` with `REV`"),
    ("zrevrangebylex", "6.2.0", "`ZRANGE` with `REV` and `BYLEX`"),
    ("zrevrangebyscore", "6.2.0", "`ZRANGE` with `REV` and `BYSCORE`"),
];

/// Commands for servers, not for applications.
const OF_SERVERS: &[&str] = &["debug", "pfdebug", "pfselftest", "replconf", "restore-asking"];

/// Versions that changed a command, and what each brought.
pub fn changes(name: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    CHANGES.iter().filter(move |(n, ..)| *n == name).map(|(_, version, what)| (*version, *what))
}

/// Since when something else is preferred to the command, and what.
pub fn replaced(name: &str) -> Option<(&'static str, &'static str)> {
    OUT_OF_DATE.iter().find(|(n, ..)| *n == name).map(|(_, version, by)| (*version, *by))
}

/// As COMMAND DOCS names the kinds of commands that applications should not use.
pub fn doc_flags(name: &str) -> Option<&'static str> {
    match replaced(name) {
        Some(_) => Some("deprecated"),
        None => OF_SERVERS.contains(&name).then_some("syscmd"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::registry::registry;

    #[test]
    fn the_tables_speak_of_commands_that_exist() {
        let told = CHANGES.iter().chain(OUT_OF_DATE).map(|(name, ..)| name).chain(OF_SERVERS);
        let unknown: Vec<_> = told.filter(|name| !registry().entries.iter().any(|e| e.spec.name == **name)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    #[test]
    fn the_tables_are_in_order() {
        assert!(CHANGES.is_sorted_by_key(|(name, ..)| name) && OUT_OF_DATE.is_sorted_by_key(|(name, ..)| name));
    }
}
