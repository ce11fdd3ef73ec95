//! Random numbers for scripts: the 48-bit linear congruential generator of
//! `lrand48` (POSIX), so that a seed gives the same numbers as in Redis.

/// See the module's description.
#[derive(Clone, Copy, Debug)]
pub struct Rand48(u64);

const MASK: u64 = (1 << 48) - 1;

impl Default for Rand48 {
    fn default() -> Rand48 {
        Rand48(0x1234_ABCD_330E)
    }
}

impl Rand48 {
    pub fn seeded(seed: i32) -> Rand48 {
        Rand48((u64::from(seed as u32) << 16) + 0x330E)
    }

    /// The next number, of 31 bits.
    pub fn next(&mut self) -> u32 {
        self.0 = (self.0.wrapping_mul(0x5_DEEC_E66D) + 0xB) & MASK;
        (self.0 >> 17) as u32
    }

    /// The next number from 0 to below 1.
    pub fn unit(&mut self) -> f64 {
        const MAX: u32 = i32::MAX as u32;
        f64::from(self.next() % MAX) / f64::from(MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_numbers_as_the_c_library() {
        // SAFETY: plain calls; no other test uses this generator.
        let theirs: Vec<u32> = unsafe {
            libc::srand48(77);
            (0..100).map(|_| libc::lrand48() as u32).collect()
        };
        let mut r = Rand48::seeded(77);
        assert_eq!((0..100).map(|_| r.next()).collect::<Vec<_>>(), theirs);
    }
}
