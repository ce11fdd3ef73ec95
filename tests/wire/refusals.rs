//! Which refusal comes first when several are due.

use super::support::{Server, each_cores, error, ok, simple};

const MODULE: &str = "ERR MODULE command not allowed. If the enable-module-command option is set to \"local\", you can \
    run it from a local connection, otherwise you need to set this option in the configuration file, and then restart \
    the server.";
const QUEUED_NOT: &str = "ERR Command not allowed inside a transaction";
const ABORTED: &str = "EXECABORT Transaction discarded because of previous errors.";

#[test]
fn what_the_configuration_forbids_is_refused_before_all_else() {
    let server = Server::start(&["--requirepass", "secret"]);
    let mut c = server.wire();
    assert_eq!(c.run("MODULE UNLOAD m"), error(MODULE));
    assert_eq!(c.run("AUTH secret"), ok());
    assert_eq!(c.run("ACL SETUSER u on >p -@all +multi +exec +subscribe &*"), ok());
    assert_eq!(c.run("MULTI"), ok());
    assert_eq!(c.run("MODULE LOAD m"), error(MODULE));
    assert_eq!(c.run("EXEC"), error(ABORTED));
    assert_eq!(c.run("AUTH u p"), ok());
    assert_eq!(c.run("MODULE LOAD m"), error(MODULE));
}

#[test]
fn what_no_transaction_takes_is_refused_before_rights_and_memory() {
    each_cores(|server| {
        let mut c = server.wire();
        assert_eq!(c.run("ACL SETUSER u on >p -@all +multi +exec"), ok());
        assert_eq!(c.run("AUTH u p"), ok());
        assert_eq!(c.run("MULTI"), ok());
        assert_eq!(c.run("SAVE"), error(QUEUED_NOT));
        assert_eq!(c.run("EXEC"), error(ABORTED));
        let mut c = server.wire();
        assert_eq!(c.run("CONFIG SET maxmemory 1"), ok());
        assert_eq!(c.run("MULTI"), ok());
        assert_eq!(c.run("SAVE"), error(QUEUED_NOT));
        assert_eq!(c.run("EXEC"), error(ABORTED));
    });
}

#[test]
fn a_transaction_does_not_subscribe_to_shards() {
    each_cores(|server| {
        let mut c = server.wire();
        assert_eq!(c.run("MULTI"), ok());
        assert_eq!(c.run("SSUBSCRIBE s"), simple("QUEUED"));
        let refused = error("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client");
        assert_eq!(c.run("EXEC").items(), [refused]);
        assert_eq!(c.run("PING"), simple("PONG"));
    });
}
