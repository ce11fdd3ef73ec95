//! Commands as bytes: arrays of bulk strings, the form in which they stand in
//! the replication stream and in the append-only file (RESP specification).

/// Starts and ends an execution unit of several commands.
pub const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
pub const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

/// Bytes that a header can have: kind, twenty digits, line end.
const HEADER_MAX: usize = 24;

/// Appends a command; `args` begins with its name.
#[inline]
pub fn command(out: &mut Vec<u8>, args: &[&[u8]]) {
    out.reserve(HEADER_MAX + args.iter().map(|a| HEADER_MAX + a.len() + 2).sum::<usize>());
    // SAFETY: as many bytes are reserved as all headers, arguments and line
    // ends can have; `at` never passes them, and everything up to it has been
    // written when the length is set. The arguments cannot lie in `out`, which
    // is borrowed mutably.
    unsafe {
        let end = out.as_mut_ptr().add(out.len());
        let mut at = header(end, b'*', args.len());
        for a in args {
            at = header(at, b'$', a.len());
            at.copy_from_nonoverlapping(a.as_ptr(), a.len());
            at = at.add(a.len());
            at.cast::<[u8; 2]>().write(*b"\r\n");
            at = at.add(2);
        }
        out.set_len(out.len() + at.offset_from(end) as usize);
    }
}

/// Appends `SELECT db`.
pub fn select(out: &mut Vec<u8>, db: u32) {
    command(out, &[b"SELECT", itoa::Buffer::new().format(db).as_bytes()]);
}

/// Writes a header; the place after it.
///
/// # Safety
/// [`HEADER_MAX`] bytes from `at` on can be written.
#[inline]
unsafe fn header(at: *mut u8, kind: u8, n: usize) -> *mut u8 {
    let mut digits = itoa::Buffer::new();
    // SAFETY: none of the three forms is longer than the caller promises.
    unsafe {
        // Lengths have one or two digits nearly always.
        match n {
            0..10 => {
                at.cast::<[u8; 4]>().write([kind, b'0' + n as u8, b'\r', b'\n']);
                at.add(4)
            }
            10..100 => {
                at.cast::<[u8; 5]>().write([kind, b'0' + (n / 10) as u8, b'0' + (n % 10) as u8, b'\r', b'\n']);
                at.add(5)
            }
            _ => {
                let digits = digits.format(n).as_bytes();
                at.write(kind);
                at.add(1).copy_from_nonoverlapping(digits.as_ptr(), digits.len());
                at.add(1 + digits.len()).cast::<[u8; 2]>().write(*b"\r\n");
                at.add(3 + digits.len())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_every_size_are_written_as_redis_writes_them() {
        for n in [0, 1, 9, 10, 99, 100, 12_345] {
            let arg = vec![b'x'; n];
            let mut out = Vec::new();
            command(&mut out, &[b"set", &arg]);
            let want = [b"*2\r\n$3\r\nset\r\n", format!("${n}\r\n").as_bytes(), &arg, b"\r\n"].concat();
            assert_eq!(out, want);
        }
        let mut out = Vec::new();
        select(&mut out, 10);
        assert_eq!(out, b"*2\r\n$6\r\nSELECT\r\n$2\r\n10\r\n");
    }
}
