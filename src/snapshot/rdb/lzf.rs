//! LZF, the compression of strings in RDB files.
//!
//! A compressed string is a sequence of
//!
//! | first byte | what |
//! | --- | --- |
//! | `000nnnnn` | n + 1 literal bytes follow |
//! | `nnnooooo o` | n + 2 bytes (n from 1 to 6) copied from the offset o + 1 back |
//! | `111ooooo n o` | the same with n + 9 bytes |
//!
//! The compressor makes the choices of `liblzf` as Redis builds it (a hash of
//! three bytes names the last place where they stood; nothing better is looked
//! for), so that DUMP payloads are the same bytes.

/// Bits of the hash.
const HASH_BITS: u32 = 16;
/// Most literals of one run.
const LITERALS_MAX: usize = 32;
/// Offsets lie below this.
const OFFSET_MAX: usize = 1 << 13;
/// Longest copy.
const COPY_MAX: usize = 264;

/// A compressor with its table; the table is kept from call to call, and
/// entries of earlier calls are told by their value.
pub struct Lzf {
    /// By hash: `base` plus the place where these three bytes last stood.
    places: Box<[u32]>,
    base: u32,
}

impl Default for Lzf {
    fn default() -> Lzf {
        // The table is made by the first call.
        Lzf { places: Box::default(), base: u32::MAX }
    }
}

#[inline]
fn slot(triple: u32) -> usize {
    ((triple >> (24 - HASH_BITS)).wrapping_sub(triple.wrapping_mul(5)) & ((1 << HASH_BITS) - 1)) as usize
}

#[inline]
fn triple(bytes: &[u8], at: usize) -> u32 {
    u32::from(bytes[at]) << 16 | u32::from(bytes[at + 1]) << 8 | u32::from(bytes[at + 2])
}

/// Compressed bytes, with a run of literals that is still open.
struct Output<'a> {
    bytes: &'a mut [u8],
    at: usize,
    literals: usize,
}

impl Output<'_> {
    /// Writes the length of the open run before it, or takes its place back if
    /// it is empty.
    fn close_run(&mut self) {
        if self.literals == 0 {
            self.at -= 1;
        } else {
            self.bytes[self.at - self.literals - 1] = (self.literals - 1) as u8;
            self.literals = 0;
        }
    }

    #[inline]
    fn literal(&mut self, byte: u8) -> Option<()> {
        *self.bytes.get_mut(self.at)? = byte;
        self.at += 1;
        self.literals += 1;
        if self.literals == LITERALS_MAX {
            self.close_run();
            self.at += 1;
        }
        Some(())
    }

    fn copy(&mut self, offset: usize, n: usize) -> Option<()> {
        if self.at - usize::from(self.literals == 0) + 4 >= self.bytes.len() {
            return None;
        }
        self.close_run();
        let code = n - 2;
        let high = (offset >> 8) as u8;
        if code < 7 {
            self.put(high | (code as u8) << 5);
        } else {
            self.put(high | 7 << 5);
            self.put((code - 7) as u8);
        }
        self.put(offset as u8);
        self.at += 1;
        Some(())
    }

    fn put(&mut self, byte: u8) {
        self.bytes[self.at] = byte;
        self.at += 1;
    }
}

/// Length of the copy at `at` of what stands at `from`, whose first three
/// bytes agree.
#[inline]
fn agreement(input: &[u8], from: usize, at: usize) -> usize {
    let left = (input.len() - at - 2).min(COPY_MAX);
    // The original compares up to the first 19 bytes unrolled, without
    // looking at a limit in between.
    let limit = if left > 16 { left.max(19) } else { left.max(3) };
    let mut n = 3;
    while n + 8 <= limit {
        let word = |p: usize| u64::from_le_bytes(input[p..p + 8].try_into().unwrap_or_default());
        let difference = word(from + n) ^ word(at + n);
        if difference != 0 {
            return n + difference.trailing_zeros() as usize / 8;
        }
        n += 8;
    }
    while n < limit && input[from + n] == input[at + n] {
        n += 1;
    }
    n
}

impl Lzf {
    /// Compresses `input` into `out` if it fits there; the length.
    pub fn compress(&mut self, input: &[u8], out: &mut [u8]) -> Option<usize> {
        let n = u32::try_from(input.len()).ok().filter(|&n| n < u32::MAX / 2)?;
        if n == 0 || out.is_empty() {
            return None;
        }
        if self.base > u32::MAX - n {
            self.places = vec![0; 1 << HASH_BITS].into();
            self.base = 1;
        }
        let done = self.run(input, out);
        self.base += n;
        done
    }

    /// Notes that the three bytes at `at` stand there; where they stood before.
    #[inline]
    fn note(&mut self, input: &[u8], at: usize) -> u32 {
        std::mem::replace(&mut self.places[slot(triple(input, at))], self.base + at as u32)
    }

    fn run(&mut self, input: &[u8], out: &mut [u8]) -> Option<usize> {
        let mut out = Output { bytes: out, at: 1, literals: 0 };
        let (mut at, last) = (0, input.len().saturating_sub(2));
        while at < last {
            let known = self.note(input, at);
            // The first byte of the input is never copied from.
            let from = if known > self.base { (known - self.base) as usize } else { at };
            let offset = at.wrapping_sub(from).wrapping_sub(1);
            if offset >= OFFSET_MAX || input[from..from + 3] != input[at..at + 3] {
                out.literal(input[at])?;
                at += 1;
                continue;
            }
            let n = agreement(input, from, at);
            out.copy(offset, n)?;
            at += n;
            if at >= last {
                break;
            }
            // Of what was copied, only the last two places are noted.
            self.note(input, at - 2);
            self.note(input, at - 1);
        }
        if out.at + 3 > out.bytes.len() {
            return None;
        }
        input[at..].iter().try_for_each(|&b| out.literal(b))?;
        out.close_run();
        Some(out.at)
    }
}

/// Can `input` make so many bytes? One byte of it makes at most 88 (a copy of
/// 264 for three).
pub fn may_make(input: &[u8], len: usize) -> bool {
    input.len().saturating_mul(COPY_MAX / 3) >= len
}

/// Expands `input` to exactly `len` bytes, appended to `out`; false if that is
/// not what it holds. Memory is taken as the bytes come, whatever `len` says.
pub fn expand(input: &[u8], len: usize, out: &mut Vec<u8>) -> bool {
    if !may_make(input, len) {
        return false;
    }
    let start = out.len();
    out.resize(start + len, 0);
    let done = expand_into(input, len, &mut out[start..]);
    if done.is_none() {
        out.truncate(start);
    }
    done.is_some()
}

/// With so many bytes behind those that are asked for, none is copied alone.
pub const SLACK: usize = COPY_MAX + LITERALS_MAX;

/// Copies are made in pieces of so many bytes where that is possible; what they
/// write beyond their end is written again later, or of no meaning.
const WIDE: usize = 16;
const WORD: usize = 8;

/// Expands `input` to exactly `len` bytes at the beginning of `out`, or answers
/// `None`. Behind them, `out` is overwritten in both cases.
pub fn expand_into(input: &[u8], len: usize, out: &mut [u8]) -> Option<()> {
    let (mut i, mut at) = expand_most(input, out)?;
    while let Some(&head) = input.get(i) {
        if head < 32 {
            let n = usize::from(head) + 1;
            literals(&input[i + 1..], out, at, n)?;
            (i, at) = (i + 1 + n, at + n);
            continue;
        }
        let long = head >> 5 == 7;
        let extra = if long { usize::from(*input.get(i + 1)?) } else { 0 };
        i += 2 + usize::from(long);
        let low = *input.get(i - 1)?;
        let n = usize::from(head >> 5) + extra + 2;
        let back = (usize::from(head & 31) << 8 | usize::from(low)) + 1;
        copy(out, at, at.checked_sub(back)?, n)?;
        at += n;
    }
    (at == len).then_some(())
}

/// The longest step of the input: the longest head, or literals.
const STEP_MAX: usize = 1 + LITERALS_MAX;

/// Expands as long as neither input nor output is near its end, so that one look
/// at each is enough for a step; how far it came in both.
#[inline(always)]
fn expand_most(input: &[u8], out: &mut [u8]) -> Option<(usize, usize)> {
    let (mut i, mut at) = (0, 0);
    let Some(last) = out.len().checked_sub(SLACK) else { return Some((i, at)) };
    while at <= last
        && let Some(step) = input.get(i..i + STEP_MAX)
    {
        let step: &[u8; STEP_MAX] = step.try_into().ok()?;
        let head = step[0];
        if head < 32 {
            out[at..at + LITERALS_MAX].copy_from_slice(&step[1..]);
            let n = usize::from(head) + 1;
            (i, at) = (i + 1 + n, at + n);
            continue;
        }
        let high = usize::from(head & 31) << 8;
        let (n, back, len) = if head >> 5 == 7 {
            (usize::from(step[1]) + 9, (high | usize::from(step[2])) + 1, 3)
        } else {
            (usize::from(head >> 5) + 2, (high | usize::from(step[1])) + 1, 2)
        };
        let from = at.checked_sub(back)?;
        if n <= WIDE && n <= back {
            // Nearly always. What is read beyond the copy may be anything.
            let piece: [u8; WIDE] = out[from..from + WIDE].try_into().ok()?;
            out[at..at + WIDE].copy_from_slice(&piece);
        } else {
            copy(out, at, from, n)?;
        }
        (i, at) = (i + len, at + n);
    }
    Some((i, at))
}

#[inline(always)]
fn literals(from: &[u8], out: &mut [u8], at: usize, n: usize) -> Option<()> {
    if let (Some(from), Some(to)) = (from.get(..LITERALS_MAX), out.get_mut(at..at + LITERALS_MAX)) {
        to.copy_from_slice(from);
    } else {
        out.get_mut(at..at + n)?.copy_from_slice(from.get(..n)?);
    }
    Some(())
}

#[inline(always)]
fn copy(out: &mut [u8], at: usize, from: usize, n: usize) -> Option<()> {
    let back = at - from;
    if back < WORD || at + n + WIDE > out.len() {
        return close_copy(out, at, from, n);
    }
    if back >= WIDE { in_pieces::<WIDE>(out, at, from, n) } else { in_pieces::<WORD>(out, at, from, n) }
}

/// In pieces of `N` bytes, of which none reads what it writes.
#[inline(always)]
fn in_pieces<const N: usize>(out: &mut [u8], at: usize, from: usize, n: usize) -> Option<()> {
    let mut k = 0;
    loop {
        let piece: [u8; N] = out[from + k..from + k + N].try_into().ok()?;
        out[at + k..at + k + N].copy_from_slice(&piece);
        k += N;
        if k >= n {
            return Some(());
        }
    }
}

/// A copy of what overlaps closely, or at the very end.
fn close_copy(out: &mut [u8], at: usize, from: usize, n: usize) -> Option<()> {
    if out.len() - at < n {
        return None;
    }
    let back = at - from;
    if back == 1 {
        let byte = out[from];
        out[at..at + n].fill(byte);
        return Some(());
    }
    // What overlaps repeats with a period of `back`: ever longer pieces of it.
    let mut done = 0;
    while done < n {
        let piece = (back + done).min(n - done);
        out.copy_within(from..from + piece, at + done);
        done += piece;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn compress(input: &[u8]) -> Option<Vec<u8>> {
        let mut out = vec![0; input.len().saturating_sub(4)];
        let n = Lzf::default().compress(input, &mut out)?;
        out.truncate(n);
        Some(out)
    }

    #[test]
    fn bytes_are_those_of_redis() {
        // From DUMP of SET k (30 times "a") with Redis 7.0.15.
        assert_eq!(compress(&[b'a'; 30]).unwrap(), [1, b'a', b'a', 0xE0, 17, 0, 1, b'a', b'a']);
        assert_eq!(compress(b"abcdefghijklmnopqrstuvwxyz"), None);
    }

    #[test]
    fn a_bad_length_takes_no_memory() {
        let mut out = Vec::new();
        assert!(!expand(&[0, b'a'], usize::MAX / 2, &mut out));
        assert!(!expand(&[0, b'a'], 2, &mut out));
        assert!(!expand(&[0xE0, 0xFF, 0], 264, &mut Vec::new()));
        assert!(!expand(&[1, b'a'], 2, &mut Vec::new()));
    }

    /// The format, a byte at a time.
    fn plainly(input: &[u8]) -> Option<Vec<u8>> {
        let (mut out, mut rest) = (Vec::new(), input.iter().map(|b| usize::from(*b)));
        while let Some(head) = rest.next() {
            if head < 32 {
                for _ in 0..=head {
                    out.push(rest.next()? as u8);
                }
                continue;
            }
            let extra = if head >> 5 == 7 { rest.next()? } else { 0 };
            let back = ((head & 31) << 8 | rest.next()?) + 1;
            for _ in 0..(head >> 5) + extra + 2 {
                out.push(out[out.len().checked_sub(back)?]);
            }
        }
        Some(out)
    }

    /// Steps of the format, nearly all of them possible where they stand.
    fn steps() -> impl Strategy<Value = Vec<u8>> {
        let literals = proptest::collection::vec(any::<u8>(), 1..=LITERALS_MAX).prop_map(|bytes| {
            let mut step = vec![(bytes.len() - 1) as u8];
            step.extend(bytes);
            step
        });
        let copy = (1u8..=7, any::<u8>(), prop_oneof![0u16..40, 0u16..600]).prop_map(|(kind, extra, back)| {
            let mut step = vec![kind << 5 | (back >> 8) as u8];
            step.extend((kind == 7).then_some(extra));
            step.push(back as u8);
            step
        });
        let all = proptest::collection::vec(prop_oneof![1 => literals, 2 => copy], 0..40);
        (proptest::collection::vec(any::<u8>(), LITERALS_MAX * 6), all).prop_map(|(first, all)| {
            let mut input: Vec<u8> = Vec::new();
            for run in first.chunks(LITERALS_MAX) {
                input.push((run.len() - 1) as u8);
                input.extend(run);
            }
            all.into_iter().for_each(|step| input.extend(step));
            input
        })
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec((0u8..4, 1usize..400), 0..40).prop_map(|runs| {
            let mut all = Vec::new();
            for (kind, n) in runs {
                match kind {
                    0 => all.extend((0..n).map(|i| ((i * i) >> 3) as u8)),
                    1 => all.extend(vec![b'x'; n]),
                    2 => all.extend_from_within(..n.min(all.len())),
                    _ => all.extend(n.to_string().bytes()),
                }
            }
            all
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn what_is_compressed_expands_again(inputs in proptest::collection::vec(text(), 1..4)) {
            let mut lzf = Lzf::default();
            for input in inputs {
                let mut out = vec![0; input.len() + input.len() / 16 + 8];
                if let Some(n) = lzf.compress(&input, &mut out) {
                    let mut back = b"before".to_vec();
                    prop_assert!(expand(&out[..n], input.len(), &mut back));
                    prop_assert_eq!(&back[6..], &input[..]);
                }
                if input.len() > 4 {
                    let n = out.len().min(input.len() - 4);
                    lzf.compress(&input, &mut out[..n]);
                }
            }
        }

        /// With any room behind what comes out, and cut off anywhere.
        #[test]
        fn it_expands_as_the_format_says(input in steps(), cut in 0usize..60, more in 0usize..3, room in 0usize..400) {
            let input = &input[..input.len().saturating_sub(cut.saturating_sub(30))];
            let len = plainly(input).map_or(700, |out| out.len()) + more / 2;
            let mut out = vec![0xAA; len + room];
            let found = expand_into(input, len, &mut out).map(|()| out[..len].to_vec());
            prop_assert_eq!(found, plainly(input).filter(|out| out.len() == len));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), len in 0usize..600) {
            expand(&bytes, len, &mut Vec::new());
        }
    }
}
