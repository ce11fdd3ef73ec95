//! The 80-bit floating point arithmetic of INCRBYFLOAT and HINCRBYFLOAT.
//!
//! Redis adds in `long double`, which on x86-64 has 64 bits of significand,
//! and prints the sum with 17 decimals, trailing zeros cut. The same is done
//! here in integer arithmetic, so that results agree digit for digit with a
//! Redis on x86-64 whatever machine this runs on. Numbers below the smallest
//! normal one (3.4e-4932) keep more bits than there; no printed digit shows it.

use std::cmp::Ordering;
use std::fmt;

/// Longest text that is read as a number.
const TEXT_MAX: usize = 5 * 1024;

/// 2^16384 and more is infinite.
const EXPONENT_MAX: i64 = 16_384;
/// Half of the smallest number and less reads as zero, which is refused.
const EXPONENT_MIN: i64 = -16_446;
/// Decimal exponents beyond which only infinity or zero remain for any text
/// of at most [`TEXT_MAX`] digits.
const DECIMAL_EXPONENT_MAX: i64 = 20_000;

/// Decimals that are printed.
const DECIMALS: u32 = 17;

/// `significand * 2^exponent`, negated if `negative`. The significand has its
/// top bit set, or is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongDouble {
    negative: bool,
    infinite: bool,
    significand: u64,
    exponent: i64,
}

impl LongDouble {
    pub const ZERO: LongDouble = LongDouble { negative: false, infinite: false, significand: 0, exponent: 0 };

    /// Reads what C's `strtold` reads to its end: decimal or hexadecimal, an
    /// exponent, `inf`, `infinity`. `None` for anything else, for NaN, and for
    /// what is too large or too small.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() >= TEXT_MAX {
            return None;
        }
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") {
            return Some(LongDouble { negative, infinite: true, ..LongDouble::ZERO });
        }
        let magnitude = match rest {
            [b'0', b'x' | b'X', hex @ ..] => parse_hexadecimal(hex)?,
            _ => parse_decimal(rest)?,
        };
        Some(LongDouble { negative, ..magnitude })
    }

    pub fn is_finite(&self) -> bool {
        !self.infinite
    }

    /// The nearest sum, ties to even; `None` for the NaN of opposite infinities.
    pub fn plus(self, other: LongDouble) -> Option<LongDouble> {
        match (self.infinite, other.infinite) {
            (true, true) => return (self.negative == other.negative).then_some(self),
            (true, false) => return Some(self),
            (false, true) => return Some(other),
            _ => {}
        }
        let (big, small) = if self.order() >= other.order() { (self, other) } else { (other, self) };
        if small.significand == 0 {
            return Some(big);
        }
        // 62 guard bits and one more that stands for all that lies below them.
        let a = u128::from(big.significand) << 62;
        let b = shift_right_sticky(u128::from(small.significand) << 62, (big.exponent - small.exponent) as u64);
        let sum = if big.negative == small.negative { a + b } else { a - b };
        let rounded = round(sum, false, big.exponent - 62);
        Some(LongDouble { negative: big.negative && sum != 0, ..rounded })
    }

    /// Orders magnitudes.
    fn order(&self) -> (i64, u64) {
        if self.significand == 0 { (i64::MIN, 0) } else { (self.exponent, self.significand) }
    }

    /// The magnitude as whole part and 10^17-ths, for exponents below 0.
    fn decimals(&self) -> (u128, u64) {
        let shift = self.exponent.unsigned_abs();
        let (whole, rest) = if shift < 64 {
            (self.significand >> shift, self.significand & ((1 << shift) - 1))
        } else {
            (0, self.significand)
        };
        let scaled = u128::from(rest) * 10u128.pow(DECIMALS);
        // `scaled` is below 2^121.
        let (mut q, rem, half) =
            if shift < 124 { (scaled >> shift, scaled & ((1 << shift) - 1), 1u128 << (shift - 1)) } else { (0, 0, 1) };
        if rem > half || rem == half && q & 1 == 1 {
            q += 1;
        }
        let unit = 10u128.pow(DECIMALS);
        (u128::from(whole) + q / unit, (q % unit) as u64)
    }
}

impl fmt::Display for LongDouble {
    /// `%.17Lf` without the trailing zeros; `-0` is `0`.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let sign = if self.negative { "-" } else { "" };
        if self.infinite {
            return write!(f, "{sign}inf");
        }
        if self.exponent >= 0 {
            let sign = if self.significand == 0 { "" } else { sign };
            return write!(f, "{sign}{}", Big::shifted(self.significand, self.exponent as usize));
        }
        let (whole, decimals) = self.decimals();
        if decimals == 0 {
            let sign = if whole == 0 { "" } else { sign };
            return write!(f, "{sign}{whole}");
        }
        let decimals = format!("{decimals:017}");
        write!(f, "{sign}{whole}.{}", decimals.trim_end_matches('0'))
    }
}

fn shift_right_sticky(v: u128, by: u64) -> u128 {
    if by >= 128 {
        return u128::from(v != 0);
    }
    let shifted = v >> by;
    shifted | u128::from(shifted << by != v)
}

/// Rounds `v * 2^exponent`, with more below it if `sticky`, to 64 bits.
fn round(v: u128, sticky: bool, exponent: i64) -> LongDouble {
    if v == 0 {
        return LongDouble::ZERO;
    }
    let excess = 64 - i64::from(v.leading_zeros());
    if excess <= 0 {
        debug_assert!(!sticky, "bits below the last one matter only when it is rounded away");
        return LongDouble { significand: (v << -excess) as u64, exponent: exponent + excess, ..LongDouble::ZERO };
    }
    let half = 1u128 << (excess - 1);
    let rest = v & ((half << 1) - 1);
    let mut significand = (v >> excess) as u64;
    let mut exponent = exponent + excess;
    if rest > half || rest == half && (sticky || significand & 1 == 1) {
        significand = match significand.checked_add(1) {
            Some(s) => s,
            None => {
                exponent += 1;
                1 << 63
            }
        };
    }
    let infinite = exponent + 64 > EXPONENT_MAX;
    LongDouble { negative: false, infinite, significand, exponent }
}

/// Refuses what has no finite, non-zero representation.
fn in_range(v: LongDouble) -> Option<LongDouble> {
    let top = v.exponent + 63;
    let too_small = v.significand != 0 && (top < EXPONENT_MIN || top == EXPONENT_MIN && v.significand == 1 << 63);
    (!v.infinite && !too_small).then_some(v)
}

/// Splits digits into those before and after the point, and what follows.
fn split_digits(text: &[u8], digit: impl Fn(u8) -> bool) -> Option<(&[u8], &[u8], &[u8])> {
    let count = |s: &[u8]| s.iter().take_while(|&&b| digit(b)).count();
    let (whole, mut rest) = text.split_at(count(text));
    let mut fraction = &rest[..0];
    if let [b'.', after @ ..] = rest {
        (fraction, rest) = after.split_at(count(after));
    }
    (!whole.is_empty() || !fraction.is_empty()).then_some((whole, fraction, rest))
}

/// An exponent introduced by `mark`, to the end of the text; cut off where
/// its size no longer matters.
fn parse_exponent(text: &[u8], mark: u8) -> Option<i64> {
    let [m, rest @ ..] = text else { return Some(0) };
    if m.to_ascii_lowercase() != mark {
        return None;
    }
    let (negative, digits) = match rest {
        [b'-', d @ ..] => (true, d),
        [b'+', d @ ..] => (false, d),
        _ => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let e = digits.iter().fold(0i64, |e, d| (e * 10 + i64::from(d - b'0')).min(1_000_000));
    Some(if negative { -e } else { e })
}

fn parse_hexadecimal(text: &[u8]) -> Option<LongDouble> {
    let (whole, fraction, rest) = split_digits(text, |b| b.is_ascii_hexdigit())?;
    let mut exponent = parse_exponent(rest, b'p')? - 4 * fraction.len() as i64;
    let mut v = 0u128;
    let mut sticky = false;
    for &d in whole.iter().chain(fraction) {
        let d = (d as char).to_digit(16).unwrap_or(0);
        if v >> 124 == 0 {
            v = v << 4 | u128::from(d);
        } else {
            exponent += 4;
            sticky |= d != 0;
        }
    }
    in_range(round(v, sticky, exponent))
}

fn parse_decimal(text: &[u8]) -> Option<LongDouble> {
    let (whole, fraction, rest) = split_digits(text, |b| b.is_ascii_digit())?;
    let exponent = parse_exponent(rest, b'e')? - fraction.len() as i64;
    let digits: Vec<u8> = whole.iter().chain(fraction).map(|d| d - b'0').skip_while(|&d| d == 0).collect();
    if digits.is_empty() {
        return Some(LongDouble::ZERO);
    }
    if exponent.abs() > DECIMAL_EXPONENT_MAX {
        return None;
    }
    if digits.len() <= 38 && (-37..=0).contains(&exponent) {
        let n = digits.iter().fold(0u128, |n, &d| n * 10 + u128::from(d));
        return in_range(divide(n, 10u128.pow(exponent.unsigned_abs() as u32)));
    }
    let mut n = Big::from_digits(&digits);
    let mut d = Big(vec![1]);
    let scaled = if exponent >= 0 { &mut n } else { &mut d };
    scaled.multiply_by_power_of_ten(exponent.unsigned_abs());
    in_range(divide_big(n, d))
}

/// The nearest to `n / d`, for `n` above 0 and `d` below 2^126.
fn divide(n: u128, d: u128) -> LongDouble {
    let (mut q, mut rem) = (n / d, n % d);
    let mut exponent = 0;
    // Two bits more than are kept, so that the remainder is only sticky.
    while q < 1 << 66 {
        rem <<= 1;
        q = q << 1 | u128::from(rem >= d);
        if rem >= d {
            rem -= d;
        }
        exponent -= 1;
    }
    round(q, rem != 0, exponent)
}

fn divide_big(mut n: Big, mut d: Big) -> LongDouble {
    let mut exponent = n.bits() as i64 - d.bits() as i64;
    let align = if exponent > 0 { &mut d } else { &mut n };
    align.shift_left(exponent.unsigned_abs() as usize);
    let mut q = 0u128;
    while q < 1 << 66 {
        let fits = n.compare(&d) != Ordering::Less;
        if fits {
            n.subtract(&d);
        }
        q = q << 1 | u128::from(fits);
        n.shift_left(1);
        exponent -= 1;
    }
    round(q, !n.is_zero(), exponent + 1)
}

/// A natural number, least significant word first, no leading zero words.
struct Big(Vec<u32>);

impl Big {
    fn from_digits(digits: &[u8]) -> Big {
        let mut b = Big(Vec::new());
        for &d in digits {
            b.multiply_add(10, u32::from(d));
        }
        b
    }

    fn shifted(v: u64, by: usize) -> Big {
        let mut b = Big(vec![v as u32, (v >> 32) as u32]);
        b.trim();
        b.shift_left(by);
        b
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    fn bits(&self) -> usize {
        self.0.last().map_or(0, |top| self.0.len() * 32 - top.leading_zeros() as usize)
    }

    fn multiply_add(&mut self, by: u32, plus: u32) {
        let mut carry = u64::from(plus);
        for w in &mut self.0 {
            carry += u64::from(*w) * u64::from(by);
            *w = carry as u32;
            carry >>= 32;
        }
        if carry != 0 {
            self.0.push(carry as u32);
        }
    }

    fn multiply_by_power_of_ten(&mut self, power: u64) {
        for _ in 0..power / 9 {
            self.multiply_add(1_000_000_000, 0);
        }
        self.multiply_add(10u32.pow((power % 9) as u32), 0);
    }

    fn shift_left(&mut self, by: usize) {
        let (words, bits) = (by / 32, by % 32);
        if bits > 0 {
            self.multiply_add(1 << bits, 0);
        }
        if !self.is_zero() {
            self.0.splice(0..0, std::iter::repeat_n(0, words));
        }
    }

    fn compare(&self, other: &Big) -> Ordering {
        let by_length = self.0.len().cmp(&other.0.len());
        by_length.then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }

    /// Takes away a number that is not larger.
    fn subtract(&mut self, other: &Big) {
        let mut borrow = 0i64;
        for (i, w) in self.0.iter_mut().enumerate() {
            let v = i64::from(*w) - i64::from(other.0.get(i).copied().unwrap_or(0)) + borrow;
            *w = v as u32;
            borrow = v >> 32;
        }
        debug_assert_eq!(borrow, 0);
        self.trim();
    }

    /// Divides by 10^9 and returns the remainder.
    fn pop_nine_digits(&mut self) -> u32 {
        let mut rem = 0u64;
        for w in self.0.iter_mut().rev() {
            let v = rem << 32 | u64::from(*w);
            *w = (v / 1_000_000_000) as u32;
            rem = v % 1_000_000_000;
        }
        self.trim();
        rem as u32
    }
}

impl fmt::Display for Big {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut rest = Big(self.0.clone());
        let mut groups = vec![rest.pop_nine_digits()];
        while !rest.is_zero() {
            groups.push(rest.pop_nine_digits());
        }
        write!(f, "{}", groups[groups.len() - 1])?;
        groups[..groups.len() - 1].iter().rev().try_for_each(|g| write!(f, "{g:09}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> String {
        let read = |s: &str| LongDouble::parse(s.as_bytes()).unwrap();
        read(a).plus(read(b)).unwrap().to_string()
    }

    /// Sums as redis-server 7.0.15 on x86-64 replied them.
    #[test]
    fn sums_agree_with_redis() {
        for (a, b, want) in SUMS {
            assert_eq!(sum(a, b), *want, "{a} + {b}");
        }
    }

    const SUMS: &[(&str, &str, &str)] = &[
        ("1.5", "3.7", "5.2"),
        ("0", "-0", "0"),
        ("3", "-3", "0"),
        ("9223372036854775807", "0x10", "9223372036854775823"),
        ("-0x39a8.73ec2827688dp-5", "-5437.608592359305", "-5898.87274305360437587"),
        ("7.860225796338302e-17", "0x5a2c8f2f39495d09dd29.11f97ab163406p24", "7144325066116109958022317473792"),
        ("+5406797926122462137e-55", "+0x7.23dc388562827p-30", "0.00000000664971681"),
        ("0xb00e.2b1fc0590ea6ep16", "-7.853500669342688e-14", "2953718559.75135890557430685"),
        ("+89.798", "+0x112d2213b759c21f68699.1e2ed14fcf76fp-38", "4721385729584.23757266998291016"),
        (
            "+0x785ca772f9414931544fe56627320004ef70.86b3c27cecefp47",
            "-836.704",
            "1475632968987332960940984609905729459391416743920712810496",
        ),
        ("0.00000000000000026069", "-15786957.640562241549", "-15786957.64056224154865049"),
        ("178236.81454212472019860", "846.256", "179083.07054212472020538"),
        ("979.968", "-8.518219963578928e+16", "-85182199635788300.03125"),
        ("+303326641140.4032979232073202152738067569193350564618", "613564091186094.5", "613867417827234.9033203125"),
        ("142112487.23250213", "+64961173.91506159", "207073661.14756372000556439"),
        (
            "+23984648033185.2004871830669976763471406947422787582",
            "7.326342704148535e-17",
            "23984648033185.20048713684082031",
        ),
        ("810.64", "13329591185371750045e-6", "13329591186182.390045166015625"),
        ("1028428604401254065", "154.582", "1028428604401254219.5625"),
        ("518.608", "+480467930.1627021", "480468448.77070210000965744"),
        ("+294243408e-232", "-3.77000747785382e-14", "-0.0000000000000377"),
        ("14026879824596035042e-44", "2.968221659308372e+18", "2968221659308372000"),
        ("16507004878730735669e-43", "2e-4951", "0"),
        ("+406023541e-2765", "695666266e-152", "0"),
        ("2e-4951", "+17758640359762399731e-17", "177.58640359762399731"),
        ("56094065120862233.1823", "+1.7686321049615008e-18", "56094065120862233.18359375"),
        ("8.036599608928763e+16", "7959076163188236708e8", "795907616399189666865086464"),
        ("535551114013737192.797643924747749500098677215700472", "130.797", "535551114013737323.625"),
        ("+388.946", "+0.000000000000000000009470", "388.94600000000000001"),
        ("+6.72506372842052e-07", "-468.433", "-468.43299932749362716"),
        ("263.431", "593.459", "856.89000000000000001"),
        ("+1587652e-559", "906.898", "906.89800000000000002"),
        ("5600384189080596377.5", "0x1d9b1ed1b33d5ce08d8.1ef083a6667c4p34", "150119945439464575070210157969408"),
        ("-165.860", "-0.7657986091496", "-166.6257986091496"),
        ("11288809892993797831e-26", "3955826133812215770e-1", "395582613381221577"),
        ("433.719", "3279810437899594731.5", "3279810437899595165.25"),
        ("471.651", "+0x33972ec.3dde9965a6289p-21", "497.44627866443531244"),
        ("196.374", "6158330131731928525.5", "6158330131731928722"),
        (
            "-3976970118383338617e-3",
            "1104299105206880886.351361949263076655982374922128501482",
            "1100322135088497547.75",
        ),
        ("2217785207646923743.5", "76503.49896235087", "2217785207647000247"),
        ("0x1p-16445", "-0.0000000000029605", "-0.0000000000029605"),
    ];

    #[test]
    fn what_is_no_number() {
        for bad in ["", " 1", "1 ", "-", ".", "1e", "1e+", "nan", "0x", "1e5000", "1e-5000", "--1", "1_0", "infi"] {
            assert_eq!(LongDouble::parse(bad.as_bytes()), None, "{bad}");
        }
        for good in ["1.", ".5", "+1", "1E5", "inf", "-Infinity", "0x1.8p1", "0e99999", "1e4932", "1e-4950"] {
            assert!(LongDouble::parse(good.as_bytes()).is_some(), "{good}");
        }
    }
}
