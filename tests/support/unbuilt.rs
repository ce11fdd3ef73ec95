//! What is not built yet: the one list of features whose tests wait for them.
//!
//! A listed feature is skipped only as long as the server denies it (the probe
//! is answered with `unknown command` or `not supported`), so its tests switch
//! themselves on; then its row is to be deleted. Tests ask [`lacks`];
//! transcripts say `@needs wait scripts`; the differential tester leaves out the
//! commands whose name is a listed feature's.

use super::server::{Server, plain};

/// A feature's name, and a command that only a server with it understands.
const UNBUILT: &[(&str, &str)] = &[];

/// Is this listed feature still missing? Says so on standard error.
pub fn lacks(server: &Server, feature: &str) -> bool {
    let Some((_, probe)) = UNBUILT.iter().find(|(name, _)| *name == feature) else { return false };
    let missing = !plain() && denied(server, probe);
    if missing {
        eprintln!("skipped: {feature} is not built yet");
    }
    missing
}

/// Does the generator have to leave out this command?
pub fn lacks_command(server: &Server, command: &str) -> bool {
    lacks(server, &command.to_ascii_lowercase())
}

/// On a connection of its own, so that nothing remains.
fn denied(server: &Server, probe: &str) -> bool {
    let mut wire = server.wire();
    let reply = wire.run(probe);
    if !reply.is_error() {
        return false;
    }
    let text = reply.as_error();
    text.starts_with("ERR unknown command") || text.contains("not supported")
}
