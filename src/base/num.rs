//! Numbers as Redis reads and prints them.

/// Parses a canonical decimal `i64`: no sign but `-`, no leading zeros, no
/// spaces; what Redis accepts as an integer.
#[inline]
pub fn parse_i64(s: &[u8]) -> Option<i64> {
    let (neg, digits) = match s {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, s),
    };
    match digits {
        [b'0'] => return if neg { None } else { Some(0) },
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut v = 0u64;
    for &b in digits {
        let d = b.wrapping_sub(b'0');
        if d > 9 {
            return None;
        }
        v = v * 10 + u64::from(d);
    }
    if neg { (v <= 1 << 63).then(|| (v as i64).wrapping_neg()) } else { i64::try_from(v).ok() }
}

/// Parses a canonical decimal `u64`.
pub fn parse_u64(s: &[u8]) -> Option<u64> {
    match s {
        [b'0'] => Some(0),
        [b'1'..=b'9', ..] if s.len() <= 20 && s.iter().all(u8::is_ascii_digit) => {
            std::str::from_utf8(s).ok()?.parse().ok()
        }
        _ => None,
    }
}

/// Parses a float as Redis's `string2d` does: no surrounding space, no NaN, no
/// digits that overflow or vanish; `inf`, `+inf`, `-inf`, `infinity` and
/// hexadecimal floats included.
pub fn parse_f64(s: &[u8]) -> Option<f64> {
    let v = parse_f64_any(s)?;
    let digits = || s.iter().any(u8::is_ascii_digit);
    let significant = || {
        let exponent = if is_hexadecimal(s) { b'p' } else { b'e' };
        let mantissa = s.split(|c| c.eq_ignore_ascii_case(&exponent)).next().unwrap_or(s);
        mantissa.iter().any(|c| c.is_ascii_hexdigit() && *c != b'0')
    };
    let out_of_range = v.is_infinite() && digits() || v == 0.0 && significant();
    (!out_of_range).then_some(v)
}

/// [`parse_f64`] with numbers out of range: infinity or zero.
pub fn parse_f64_any(s: &[u8]) -> Option<f64> {
    if is_hexadecimal(s) {
        return hexadecimal(s);
    }
    let v: f64 = std::str::from_utf8(s).ok()?.parse().ok()?;
    (!v.is_nan()).then_some(v)
}

fn is_hexadecimal(s: &[u8]) -> bool {
    matches!(s, [b'0', b'x' | b'X', ..] | [b'+' | b'-', b'0', b'x' | b'X', ..])
}

/// A hexadecimal float, as `strtod` reads it.
#[cold]
fn hexadecimal(s: &[u8]) -> Option<f64> {
    let text = std::ffi::CString::new(s).ok()?;
    strtod(&text)
}

/// A number as C reads it, where Redis leaves that to `strtod` alone: nothing is
/// zero, spaces may stand before it, and a zero byte ends it.
#[cold]
pub fn parse_f64_c(s: &[u8]) -> Option<f64> {
    let end = s.iter().position(|b| *b == 0).unwrap_or(s.len());
    let text = std::ffi::CString::new(&s[..end]).ok()?;
    if end == 0 {
        return Some(0.0);
    }
    strtod(&text).filter(|v| !v.is_nan())
}

/// The number that makes up the whole text.
fn strtod(text: &std::ffi::CStr) -> Option<f64> {
    let mut end = std::ptr::null_mut();
    // SAFETY: `text` ends with a zero byte and outlives the call; `end` is
    // written with a pointer into it or to its end.
    let v = unsafe { libc::strtod(text.as_ptr(), &raw mut end) };
    (end.addr() - text.as_ptr().addr() == text.count_bytes()).then_some(v)
}

/// Formats `v` in decimal into `buf` and returns the used part.
#[inline]
pub fn format_i64(v: i64, buf: &mut itoa::Buffer) -> &[u8] {
    buf.format(v).as_bytes()
}

/// Formats a double as Redis 7 does in RESP3 doubles and sorted-set scores:
/// `%.17g`, which is the shortest form that reads back the same where one
/// exists of at most 17 digits; integers without a fraction.
pub fn format_f64(v: f64) -> String {
    if v.is_infinite() {
        return if v > 0.0 { "inf".into() } else { "-inf".into() };
    }
    if v.is_nan() {
        return "nan".into();
    }
    if v == v.trunc() && v.abs() < 1e17 {
        if v == 0.0 {
            return if v.is_sign_negative() { "-0".into() } else { "0".into() };
        }
        return format!("{}", v as i64);
    }
    format_g(v)
}

/// `%.17g` of a finite, non-integral or large double.
fn format_g(v: f64) -> String {
    let sci = format!("{v:.16e}");
    let (mantissa, exp) = sci.split_once('e').unwrap_or((&sci, "0"));
    let exp: i32 = exp.parse().unwrap_or(0);
    if (-4..17).contains(&exp) {
        let fixed = format!("{:.*}", (16 - exp).max(0) as usize, v);
        return trim_zeros(&fixed).to_string();
    }
    let sign = if exp < 0 { '-' } else { '+' };
    format!("{}e{}{:02}", trim_zeros(mantissa), sign, exp.abs())
}

fn trim_zeros(s: &str) -> &str {
    if s.contains('.') { s.trim_end_matches('0').trim_end_matches('.') } else { s }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_read_as_by_strtod() {
        for (text, want) in [
            ("1.5", 1.5),
            ("-2.", -2.0),
            (".5", 0.5),
            ("1e3", 1000.0),
            ("0x1p3", 8.0),
            ("-0X.8p1", -1.0),
            ("0e999", 0.0),
            ("0x0", 0.0),
            ("5e-324", 5e-324),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
        ] {
            assert_eq!(parse_f64(text.as_bytes()), Some(want), "{text}");
        }
        for bad in [
            "",
            " 1",
            "1 ",
            "nan",
            "1e999",
            "-1e999",
            "1e-999",
            "0x",
            "0x1p",
            "0x1p9999",
            "0x1p-9999",
            "1_0",
            ".",
            "e1",
        ] {
            assert_eq!(parse_f64(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn integers_are_canonical() {
        assert_eq!(parse_i64(b"0"), Some(0));
        assert_eq!(parse_i64(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(parse_i64(b"9223372036854775807"), Some(i64::MAX));
        for bad in
            [&b""[..], b"-", b"-0", b"01", b"+1", b" 1", b"1 ", b"9223372036854775808", b"1a", b"99999999999999999999"]
        {
            assert_eq!(parse_i64(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn doubles_out_of_range_are_refused() {
        let long = format!("1{}.{}", "0".repeat(308), "0".repeat(17));
        assert_eq!(parse_f64(long.as_bytes()), Some(1e308));
        assert_eq!(parse_f64(b"-inf"), Some(f64::NEG_INFINITY));
        assert_eq!(parse_f64(b"0e5"), Some(0.0));
        for bad in [&b""[..], b" 1", b"1 ", b"1e400", b"-1e400", b"1e-400", b"nan"] {
            assert_eq!(parse_f64(bad), None, "{bad:?}");
        }
        assert_eq!(parse_f64_any(b"1e400"), Some(f64::INFINITY));
    }

    #[test]
    fn doubles_print_as_seventeen_significant_digits() {
        assert_eq!(format_f64(3.0), "3");
        assert_eq!(format_f64(0.1), "0.10000000000000001");
        assert_eq!(format_f64(1.5e300), "1.5000000000000001e+300");
        assert_eq!(format_f64(-2.5), "-2.5");
        assert_eq!(format_f64(1e-7), "9.9999999999999995e-08");
        // Four zeros behind the point are the most that are written out.
        assert_eq!(format_f64(0.0001), "0.0001");
        assert_eq!(format_f64(-0.00001), "-1.0000000000000001e-05");
    }
}
