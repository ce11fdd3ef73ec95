//! HyperLogLog sketches, byte for byte in Redis's published representation:
//! they are strings, and travel as such.
//!
//! | bytes | what |
//! | --- | --- |
//! | 4 | `HYLL` |
//! | 1 | 0 dense, 1 sparse |
//! | 3 | unused |
//! | 8 | the cardinality as last counted, little-endian; top bit set: not known |
//! | ... | 16,384 registers |
//!
//! Dense: six bits each, least significant first. Sparse: runs of registers,
//!
//! | opcode | means |
//! | --- | --- |
//! | `00nnnnnn` | n + 1 registers of zero |
//! | `01nnnnnn nnnnnnnn` | the same, up to 16,384 |
//! | `1vvvvvnn` | n + 1 registers of the value v + 1 |
//!
//! The estimator is Otmar Ertl's (arXiv:1702.01284), the hash is MurmurHash64A.

const REGISTERS: usize = 16_384;
const BITS: usize = 6;
const HEADER: usize = 16;
pub const DENSE_SIZE: usize = HEADER + REGISTERS * BITS / 8;
const SEED: u64 = 0xadc8_3b19;

/// Bits of the hash beyond those that name the register.
const RANKS: usize = 50;

const ZERO_MAX: usize = 64;
const XZERO_MAX: usize = 16_384;
const VALUE_MAX: u8 = 32;
const VALUE_RUN_MAX: usize = 4;

/// The sketch's bytes are no sketch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

/// All registers, a byte each.
pub type Raw = [u8; REGISTERS];

/// The registers of no elements.
pub fn no_registers() -> Box<Raw> {
    vec![0; REGISTERS].into_boxed_slice().try_into().expect("it has that length")
}

/// An empty sketch.
pub fn create() -> Vec<u8> {
    let mut s = b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    push_zeros(&mut s, REGISTERS);
    s
}

/// Are these bytes a sketch's, as far as the header tells?
pub fn is_sketch(s: &[u8]) -> bool {
    s.len() >= HEADER && s.starts_with(b"HYLL") && s[4] <= 1 && (s[4] == 1 || s.len() == DENSE_SIZE)
}

pub fn is_dense(s: &[u8]) -> bool {
    s[4] == 0
}

/// The cardinality, when it is known without counting.
pub fn cached(s: &[u8]) -> Option<u64> {
    let n = u64::from_le_bytes(s[8..HEADER].try_into().expect("eight bytes"));
    (n >> 63 == 0).then_some(n)
}

pub fn set_cached(s: &mut [u8], n: u64) {
    s[8..HEADER].copy_from_slice(&n.to_le_bytes());
}

pub fn forget_cached(s: &mut [u8]) {
    s[HEADER - 1] |= 0x80;
}

/// MurmurHash64A by Austin Appleby, for little-endian words.
fn murmur(data: &[u8]) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    const R: u32 = 47;
    let mut h = SEED ^ (data.len() as u64).wrapping_mul(M);
    let mut words = data.chunks_exact(8);
    for w in &mut words {
        let mut k = u64::from_le_bytes(w.try_into().expect("eight bytes")).wrapping_mul(M);
        k = (k ^ (k >> R)).wrapping_mul(M);
        h = (h ^ k).wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        h = (h ^ u64::from_le_bytes(last)).wrapping_mul(M);
    }
    h = (h ^ (h >> R)).wrapping_mul(M);
    h ^ (h >> R)
}

/// The register of an element, and its rank there: 1 to 51.
pub fn place(element: &[u8]) -> (usize, u8) {
    let hash = murmur(element);
    let rest = hash >> 14 | 1 << RANKS;
    (hash as usize % REGISTERS, rest.trailing_zeros() as u8 + 1)
}

fn dense_get(registers: &[u8], index: usize) -> u8 {
    let (byte, shift) = (index * BITS / 8, index * BITS % 8);
    let next = registers.get(byte + 1).copied().unwrap_or(0);
    ((u16::from(registers[byte]) | u16::from(next) << 8) >> shift) as u8 & 63
}

fn dense_put(registers: &mut [u8], index: usize, value: u8) {
    let (byte, shift) = (index * BITS / 8, index * BITS % 8);
    let mask = !(63u16 << shift);
    let next = registers.get(byte + 1).copied().unwrap_or(0);
    let word = (u16::from(registers[byte]) | u16::from(next) << 8) & mask | u16::from(value) << shift;
    registers[byte] = word as u8;
    if let Some(n) = registers.get_mut(byte + 1) {
        *n = (word >> 8) as u8;
    }
}

/// Raises a register of a dense sketch; was it lower?
pub fn dense_raise(s: &mut [u8], index: usize, value: u8) -> bool {
    let registers = &mut s[HEADER..];
    let raise = dense_get(registers, index) < value;
    if raise {
        dense_put(registers, index, value);
    }
    raise
}

/// One opcode of the sparse form: how many registers have which value, and how
/// many bytes it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub value: u8,
    pub len: usize,
    pub bytes: usize,
}

fn run_at(s: &[u8], at: usize) -> Run {
    let b = s[at];
    match b >> 6 {
        0 => Run { value: 0, len: (b & 63) as usize + 1, bytes: 1 },
        1 => {
            let low = s.get(at + 1).copied().unwrap_or(0);
            Run { value: 0, len: ((b & 63) as usize) << 8 | low as usize, bytes: 2 }.one_more()
        }
        _ => Run { value: (b >> 2 & 31) + 1, len: (b & 3) as usize + 1, bytes: 1 },
    }
}

impl Run {
    fn one_more(mut self) -> Run {
        self.len += 1;
        self
    }
}

/// The runs of a sparse sketch, right or wrong.
pub fn runs(s: &[u8]) -> impl Iterator<Item = Run> + '_ {
    let mut at = HEADER;
    std::iter::from_fn(move || {
        (at < s.len()).then(|| {
            let run = run_at(s, at);
            at += run.bytes;
            run
        })
    })
}

fn push_zeros(out: &mut Vec<u8>, n: usize) {
    debug_assert!(n <= XZERO_MAX);
    match n {
        0 => {}
        1..=ZERO_MAX => out.push((n - 1) as u8),
        _ => out.extend([0x40 | ((n - 1) >> 8) as u8, (n - 1) as u8]),
    }
}

fn value_op(value: u8, len: usize) -> u8 {
    0x80 | (value - 1) << 2 | (len - 1) as u8
}

fn push_values(out: &mut Vec<u8>, value: u8, n: usize) {
    if n > 0 {
        out.push(value_op(value, n));
    }
}

/// Raises registers to those of the sketch.
pub fn merge_into(max: &mut Raw, s: &[u8]) -> Result<(), Corrupt> {
    if is_dense(s) {
        let registers = &s[HEADER..];
        for (i, m) in max.iter_mut().enumerate() {
            *m = (*m).max(dense_get(registers, i));
        }
        return Ok(());
    }
    let mut at = 0;
    for run in runs(s) {
        if at + run.len > REGISTERS {
            return Err(Corrupt);
        }
        if run.value > 0 {
            max[at..at + run.len].iter_mut().for_each(|m| *m = (*m).max(run.value));
        }
        at += run.len;
    }
    if at == REGISTERS { Ok(()) } else { Err(Corrupt) }
}

/// The dense form of a sparse sketch.
pub fn to_dense(s: &[u8]) -> Result<Vec<u8>, Corrupt> {
    if is_dense(s) {
        return Ok(s.to_vec());
    }
    let mut all = no_registers();
    merge_into(&mut all, s)?;
    let mut dense = vec![0; DENSE_SIZE];
    dense[..HEADER].copy_from_slice(&s[..HEADER]);
    dense[4] = 0;
    for (i, value) in all.iter().enumerate().filter(|(_, v)| **v > 0) {
        dense_put(&mut dense[HEADER..], i, *value);
    }
    Ok(dense)
}

/// Raises a register in either form; was it lower? A sparse sketch that would
/// become longer than `sparse_max` bytes, or hold a value too large for its
/// form, becomes dense.
pub fn raise(s: &mut Vec<u8>, index: usize, value: u8, sparse_max: usize) -> Result<bool, Corrupt> {
    if is_dense(s) {
        return Ok(dense_raise(s, index, value));
    }
    if value > VALUE_MAX {
        return promote(s, index, value);
    }
    let (mut at, mut first, mut before) = (HEADER, 0, None);
    let run = loop {
        if at >= s.len() {
            return Err(Corrupt);
        }
        let run = run_at(s, at);
        if index < first + run.len {
            break run;
        }
        before = Some(at);
        at += run.bytes;
        first += run.len;
    };
    if run.value >= value {
        return Ok(false);
    }
    let mut ops = Vec::with_capacity(5);
    let (left, right) = (index - first, first + run.len - 1 - index);
    if run.value == 0 {
        push_zeros(&mut ops, left);
        ops.push(value_op(value, 1));
        push_zeros(&mut ops, right);
    } else {
        push_values(&mut ops, run.value, left);
        ops.push(value_op(value, 1));
        push_values(&mut ops, run.value, right);
    }
    let end = (at + run.bytes).min(s.len());
    if ops.len() > end - at && s.len() + ops.len() - (end - at) > sparse_max {
        return promote(s, index, value);
    }
    s.splice(at..end, ops);
    join_runs(s, before.unwrap_or(HEADER));
    Ok(true)
}

fn promote(s: &mut Vec<u8>, index: usize, value: u8) -> Result<bool, Corrupt> {
    *s = to_dense(s)?;
    Ok(dense_raise(s, index, value))
}

/// Joins neighbouring runs of one value near a change. How far it looks is
/// Redis's, so that the bytes agree.
fn join_runs(s: &mut Vec<u8>, mut at: usize) {
    const STEPS: usize = 5;
    for _ in 0..STEPS {
        if at >= s.len() {
            break;
        }
        let run = run_at(s, at);
        let next = (run.value > 0 && at + 1 < s.len()).then(|| run_at(s, at + 1));
        match next {
            Some(n) if n.value == run.value && n.len + run.len <= VALUE_RUN_MAX => {
                s[at + 1] = value_op(run.value, n.len + run.len);
                s.remove(at);
            }
            _ => at += run.bytes,
        }
    }
}

/// How many registers have which value.
type Histogram = [u32; 64];

fn histogram(s: &[u8]) -> Result<Histogram, Corrupt> {
    let mut h = [0; 64];
    if is_dense(s) {
        (0..REGISTERS).for_each(|i| h[dense_get(&s[HEADER..], i) as usize] += 1);
        return Ok(h);
    }
    let mut n = 0;
    for run in runs(s) {
        h[run.value as usize] += run.len as u32;
        n += run.len;
    }
    if n == REGISTERS { Ok(h) } else { Err(Corrupt) }
}

/// The estimated number of elements.
pub fn count(s: &[u8]) -> Result<u64, Corrupt> {
    histogram(s).map(|h| estimate(&h))
}

/// The same of registers.
pub fn count_raw(registers: &Raw) -> u64 {
    let mut h = [0; 64];
    registers.iter().for_each(|r| h[*r as usize & 63] += 1);
    estimate(&h)
}

fn estimate(h: &Histogram) -> u64 {
    /// 1 / (2 ln 2)
    const ALPHA: f64 = 0.721_347_520_444_481_7;
    let m = REGISTERS as f64;
    let mut z = m * tau((m - f64::from(h[RANKS + 1])) / m);
    for j in (1..=RANKS).rev() {
        z = (z + f64::from(h[j])) * 0.5;
    }
    z += m * sigma(f64::from(h[0]) / m);
    (ALPHA * m * m / z).round() as u64
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

/// All registers of a dense sketch.
pub fn registers(s: &[u8]) -> impl Iterator<Item = u8> + '_ {
    (0..REGISTERS).map(|i| dense_get(&s[HEADER..], i))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    fn add(s: &mut Vec<u8>, element: &[u8], sparse_max: usize) -> bool {
        let (index, rank) = place(element);
        raise(s, index, rank, sparse_max).expect("it is well formed")
    }

    #[test]
    fn dense_registers_keep_apart() {
        let mut rng = Rng::new(1);
        let mut dense = to_dense(&create()).unwrap();
        let mut model = vec![0u8; REGISTERS];
        for _ in 0..50_000 {
            let (i, v) = (rng.below(REGISTERS), rng.below(64) as u8);
            dense_put(&mut dense[HEADER..], i, v);
            model[i] = v;
        }
        assert!(registers(&dense).eq(model));
    }

    #[test]
    fn both_forms_count_alike() {
        let (mut sparse, mut dense) = (create(), to_dense(&create()).unwrap());
        for i in 0..5000 {
            let element = format!("element {i}");
            let a = add(&mut sparse, element.as_bytes(), usize::MAX);
            assert_eq!(a, add(&mut dense, element.as_bytes(), 0), "{i}");
        }
        assert!(!is_dense(&sparse));
        assert_eq!(to_dense(&sparse).unwrap(), dense);
        assert_eq!(count(&sparse), count(&dense));
        let n = count(&dense).unwrap() as f64;
        assert!((n - 5000.0).abs() < 5000.0 * 0.03, "{n}");
    }

    #[test]
    fn long_sparse_sketches_become_dense() {
        let mut s = create();
        let mut i = 0;
        while !is_dense(&s) {
            assert!(s.len() <= 300);
            add(&mut s, &[i as u8, (i >> 8) as u8], 300);
            i += 1;
        }
        assert!(i > 50 && s.len() == DENSE_SIZE, "{i}");
    }

    #[test]
    fn foreign_bytes_never_panic() {
        let mut rng = Rng::new(2);
        for _ in 0..20_000 {
            let mut s = b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\0".to_vec();
            (0..rng.below(12)).for_each(|_| s.push(rng.below(256) as u8));
            assert!(is_sketch(&s));
            let _ = count(&s);
            let _ = merge_into(&mut no_registers(), &s);
            let _ = raise(&mut s, rng.below(REGISTERS), rng.below(51) as u8 + 1, 100);
        }
    }
}
