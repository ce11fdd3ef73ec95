//! The service core: a glommio executor beside the data cores.
//!
//! It keeps the shared clock in step with the host's and records the memory
//! peak. The journal merge, replica links, the AOF and snapshots belong here.
//! glommio stays behind this file, so that a successor can take its place.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use glommio::timer::sleep;
use glommio::{LocalExecutorBuilder, Placement};

use super::shared::Shared;
use crate::base::{clock, memory};

/// Time between two looks at clock and memory.
const PERIOD: Duration = Duration::from_millis(100);

/// Locked memory of the executor's rings; it does little I/O.
const IO_MEMORY: usize = 1 << 20;

/// Starts the service core, pinned to `cpu` if one is given. It ends when the
/// process is told to stop.
pub fn start(shared: Arc<Shared>, cpu: Option<usize>) -> Result<JoinHandle<()>, String> {
    let (ready, is_ready) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().name("service".into()).spawn(move || run(shared, cpu, ready));
    let thread = thread.map_err(|e| format!("Can't start the service core: {e}"))?;
    match is_ready.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(e)) => Err(format!("Can't start the service core: {e}")),
        Err(_) => Err("Can't start the service core".into()),
    }
}

fn run(shared: Arc<Shared>, cpu: Option<usize>, ready: std::sync::mpsc::Sender<Result<(), String>>) {
    let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
    let executor = match LocalExecutorBuilder::new(placement).io_memory(IO_MEMORY).make() {
        Ok(e) => e,
        Err(e) => {
            let _ = ready.send(Err(e.to_string()));
            return;
        }
    };
    let _ = ready.send(Ok(()));
    executor.run(async move {
        while !shared.stopping.load(Ordering::Relaxed) {
            clock::resync();
            shared.peak_memory.fetch_max(memory::used(), Ordering::Relaxed);
            sleep(PERIOD).await;
        }
    });
}
