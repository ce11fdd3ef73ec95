//! Commands as bytes: arrays of bulk strings, the form in which they stand in
//! the replication stream and in the append-only file (RESP specification).

/// Starts and ends an execution unit of several commands.
pub const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
pub const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

/// Appends a command; `args` begins with its name.
#[inline]
pub fn command(out: &mut Vec<u8>, args: &[&[u8]]) {
    // A header has at most 23 bytes, an end two.
    out.reserve(args.iter().map(|a| a.len() + 25).sum::<usize>() + 23);
    header(out, b'*', args.len());
    for a in args {
        header(out, b'$', a.len());
        out.extend_from_slice(a);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends `SELECT db`.
pub fn select(out: &mut Vec<u8>, db: u32) {
    command(out, &[b"SELECT", itoa::Buffer::new().format(db).as_bytes()]);
}

#[inline]
fn header(out: &mut Vec<u8>, kind: u8, n: usize) {
    // Lengths have one or two digits nearly always.
    match n {
        0..10 => out.extend_from_slice(&[kind, b'0' + n as u8, b'\r', b'\n']),
        10..100 => out.extend_from_slice(&[kind, b'0' + (n / 10) as u8, b'0' + (n % 10) as u8, b'\r', b'\n']),
        _ => {
            out.push(kind);
            out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
            out.extend_from_slice(b"\r\n");
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
