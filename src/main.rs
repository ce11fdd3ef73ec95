//! The server program.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: coreslot::base::memory::Counted = coreslot::base::memory::Counted;

fn main() -> ExitCode {
    coreslot::server::start::main(std::env::args().collect())
}
