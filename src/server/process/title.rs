//! The process title, as `ps` shows it (`set-proc-title`,
//! `proc-title-template`).
//!
//! The kernel shows the memory in which it put the arguments; the title is
//! written there. When its last byte is in use, the kernel reads on into the
//! environment, which lies behind it: that gives its room too, once the
//! variables have been copied elsewhere.

use std::ffi::c_char;
use std::sync::{Mutex, PoisonError};

use crate::config::{Config, Settings};

/// What the title is made of and where it goes.
struct Room {
    /// What the program was called by.
    program: String,
    start: *mut u8,
    len: usize,
}

// SAFETY: the memory is the process's for life, and written under the lock of
// [`ROOM`] only.
unsafe impl Send for Room {}

static ROOM: Mutex<Option<Room>> = Mutex::new(None);

unsafe extern "C" {
    static mut environ: *const *const c_char;
}

/// Finds room for titles and shows the first. Call it before other threads run:
/// the environment moves.
pub fn begin(config: &Config, program: &str) {
    if !config.settings().internals.set_proc_title {
        return;
    }
    let Some([arguments, arguments_end, variables, variables_end]) = regions() else { return };
    let mut end = arguments_end;
    if variables == arguments_end && move_environment(variables..variables_end) {
        end = variables_end;
    }
    let room = Room { program: program.to_owned(), start: arguments as *mut u8, len: end - arguments };
    *ROOM.lock().unwrap_or_else(PoisonError::into_inner) = Some(room);
    show(config);
}

/// Start and end of the arguments and of the environment, fields 48 to 51 of
/// proc(5)'s `stat`.
fn regions() -> Option<[usize; 4]> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name, which may hold anything, ends with the last bracket.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |n: usize| fields.get(n - 3)?.parse::<usize>().ok();
    let r = [field(48)?, field(49)?, field(50)?, field(51)?];
    (r[0] != 0 && r[0] < r[1] && r[2] <= r[3]).then_some(r)
}

/// Copies the variables to the heap; whether none is left in the old place.
fn move_environment(old: std::ops::Range<usize>) -> bool {
    for (name, value) in std::env::vars_os() {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var(name, value) };
    }
    // SAFETY: the list ends with a null pointer, and nobody else changes it.
    unsafe {
        let mut at = environ;
        while !at.is_null() && !(*at).is_null() {
            if old.contains(&(*at as usize)) {
                return false;
            }
            at = at.add(1);
        }
    }
    true
}

/// Shows the title that the current configuration asks for.
pub fn show(config: &Config) {
    let room = ROOM.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(room) = &*room else { return };
    let file = config.file().map_or_else(String::new, |f| f.display().to_string());
    let title = title(&config.settings(), &room.program, &file);
    // At least one byte ends it.
    let title = &title.as_bytes()[..title.len().min(room.len - 1)];
    // SAFETY: the range was the process's arguments and environment, which
    // nobody reads any more: the arguments were taken at the start, the
    // variables have moved. All of it stays terminated by zeros.
    unsafe {
        std::ptr::write_bytes(room.start, 0, room.len);
        std::ptr::copy_nonoverlapping(title.as_ptr(), room.start, title.len());
    }
}

fn title(s: &Settings, program: &str, file: &str) -> String {
    let port = if s.port != 0 { s.port } else { s.tls.port };
    let listen = match s.bind.first() {
        _ if port == 0 => format!("unixsocket:{}", s.unixsocket),
        Some(address) => format!("{address}:{port}"),
        None => format!("*:{port}"),
    };
    let values = [
        ("title", program.to_owned()),
        ("listen-addr", listen),
        ("server-mode", if s.cluster.enabled { "[cluster]".to_owned() } else { String::new() }),
        ("port", s.port.to_string()),
        ("tls-port", s.tls.port.to_string()),
        ("unixsocket", s.unixsocket.clone()),
        ("config-file", file.to_owned()),
    ];
    let fill = |text: String, (name, value): &(&str, String)| text.replace(&format!("{{{name}}}"), value);
    values.iter().fold(s.internals.proc_title_template.clone(), fill).trim_matches(' ').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_those_of_redis() {
        let config = Config::from_text(b"port 7\nbind 1.2.3.4 ::1").unwrap();
        assert_eq!(title(&config.settings(), "x/coreslot-server", ""), "x/coreslot-server 1.2.3.4:7");
        config.set(&[("proc-title-template", "{port}|{tls-port}|{config-file}|{unixsocket}|")]).unwrap();
        assert_eq!(title(&config.settings(), "x", "/a.conf"), "7|0|/a.conf||");
        let config = Config::from_text(b"port 0\nunixsocket /tmp/s").unwrap();
        assert_eq!(title(&config.settings(), "x", ""), "x unixsocket:/tmp/s");
    }

    #[test]
    fn the_kernel_tells_where_the_arguments_are() {
        let [start, end, ..] = regions().unwrap();
        let first = std::env::args_os().next().unwrap();
        assert!(end - start > first.len());
    }
}
