//! Lengths, integers and strings of the format, appended to a buffer.

/// Integers of strings up to this long are tried: those of 32 bits have no more.
const INTEGER_LEN_MAX: usize = 11;

const BITS_14: u8 = 0x40;
const BITS_32: u8 = 0x80;
const BITS_64: u8 = 0x81;
/// First byte of specially encoded strings; their kinds are added.
const SPECIAL: u8 = 0xC0;

/// Kinds of specially encoded strings: integers of 1, 2, 4 bytes, LZF.
pub const INT_8: u8 = 0;
pub const INT_16: u8 = 1;
pub const INT_32: u8 = 2;
pub const LZF: u8 = 3;

/// A length: 6 bits in one byte, 14 in two, 32 in five, 64 in nine; the most
/// significant byte first.
#[inline]
pub fn length(out: &mut Vec<u8>, n: u64) {
    if n < 1 << 6 {
        out.push(n as u8);
    } else if n < 1 << 14 {
        out.extend_from_slice(&[BITS_14 | (n >> 8) as u8, n as u8]);
    } else if let Ok(n) = u32::try_from(n) {
        out.push(BITS_32);
        out.extend_from_slice(&n.to_be_bytes());
    } else {
        out.push(BITS_64);
        out.extend_from_slice(&n.to_be_bytes());
    }
}

/// A length that [`length`] wrote, and how many bytes it takes.
pub fn read_length(bytes: &[u8]) -> (usize, usize) {
    match bytes[0] {
        BITS_32 => (5, u32::from_be_bytes(bytes[1..5].try_into().unwrap_or_default()) as usize),
        BITS_64 => (9, u64::from_be_bytes(bytes[1..9].try_into().unwrap_or_default()) as usize),
        b if b & 0xC0 == BITS_14 => (2, usize::from(b & 0x3F) << 8 | usize::from(bytes[1])),
        b => (1, usize::from(b)),
    }
}

/// A string that is an integer; false if it has more than 32 bits.
#[inline]
pub fn integer(out: &mut Vec<u8>, v: i64) -> bool {
    if let Ok(v) = i8::try_from(v) {
        out.extend_from_slice(&[SPECIAL | INT_8, v as u8]);
    } else if let Ok(v) = i16::try_from(v) {
        out.push(SPECIAL | INT_16);
        out.extend_from_slice(&v.to_le_bytes());
    } else if let Ok(v) = i32::try_from(v) {
        out.push(SPECIAL | INT_32);
        out.extend_from_slice(&v.to_le_bytes());
    } else {
        return false;
    }
    true
}

/// A string as it is.
#[inline]
pub fn raw(out: &mut Vec<u8>, s: &[u8]) {
    length(out, s.len() as u64);
    out.extend_from_slice(s);
}

/// A string, as an integer if it is one. (Compression is [`super::encode`]'s.)
#[inline]
pub fn string(out: &mut Vec<u8>, s: &[u8]) {
    if !short_integer(out, s) {
        raw(out, s);
    }
}

/// Writes a short string if it is a canonical integer.
#[inline]
pub(super) fn short_integer(out: &mut Vec<u8>, s: &[u8]) -> bool {
    let begins = |b: &u8| b.is_ascii_digit() || *b == b'-';
    s.len() <= INTEGER_LEN_MAX
        && s.first().is_some_and(begins)
        && crate::base::num::parse_i64(s).is_some_and(|v| integer(out, v))
}

/// The head of a compressed string; `packed` bytes follow that make `len`.
pub(super) fn compressed_head(out: &mut Vec<u8>, packed: usize, len: usize) {
    out.push(SPECIAL | LZF);
    length(out, packed as u64);
    length(out, len as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(f: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        f(&mut out);
        out
    }

    #[test]
    fn lengths_take_as_few_bytes_as_the_format_has() {
        for (n, want) in [
            (0, &[0u8][..]),
            (63, &[63]),
            (64, &[0x40, 64]),
            (16_383, &[0x7F, 0xFF]),
            (16_384, &[0x80, 0, 0, 0x40, 0]),
            (u64::from(u32::MAX), &[0x80, 255, 255, 255, 255]),
            (1 << 32, &[0x81, 0, 0, 0, 1, 0, 0, 0, 0]),
        ] {
            assert_eq!(of(|out| length(out, n)), want, "{n}");
        }
    }

    #[test]
    fn strings_of_integers_are_integers() {
        for (s, want) in [
            ("0", &[0xC0, 0][..]),
            ("-128", &[0xC0, 0x80]),
            ("128", &[0xC1, 0x80, 0]),
            ("-32769", &[0xC2, 0xFF, 0x7F, 0xFF, 0xFF]),
            ("2147483647", &[0xC2, 0xFF, 0xFF, 0xFF, 0x7F]),
            ("2147483648", b"\x0a2147483648"),
            ("01", b"\x0201"),
            ("-", b"\x01-"),
            ("", b"\0"),
        ] {
            assert_eq!(of(|out| string(out, s.as_bytes())), want, "{s}");
        }
    }
}
