//! Glob patterns of KEYS, SCAN, CONFIG GET and pub/sub.

/// Runs of `*` in a pattern that can match, as in Redis since CVE-2024-31228.
const STARS_MAX: usize = 1000;

/// Does `text` match `pattern`? `*`, `?`, `[a-z]`, `[^a]` and `\x` as in
/// Redis. Runs in time proportional to the product of both lengths: on a
/// mismatch only the last `*` is taken up again.
pub fn matches(pattern: &[u8], text: &[u8], nocase: bool) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    let mut stars = 0;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            while pattern.get(p) == Some(&b'*') {
                p += 1;
            }
            if p == pattern.len() {
                return true;
            }
            stars += 1;
            if stars > STARS_MAX {
                return false;
            }
            retry = Some((p, t));
        } else if let Some(next) = step(pattern, p, text[t], nocase) {
            p = next;
            t += 1;
        } else if let Some((star, from)) = retry {
            retry = Some((star, from + 1));
            p = star;
            t = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

/// Matches one character; the position after the pattern element, if it does.
fn step(pattern: &[u8], p: usize, c: u8, nocase: bool) -> Option<usize> {
    let same = |a: u8, b: u8| if nocase { a.eq_ignore_ascii_case(&b) } else { a == b };
    match *pattern.get(p)? {
        b'?' => Some(p + 1),
        b'[' => class(pattern, p + 1, c, nocase),
        b'\\' if p + 1 < pattern.len() => same(pattern[p + 1], c).then_some(p + 2),
        x => same(x, c).then_some(p + 1),
    }
}

fn class(pattern: &[u8], mut p: usize, c: u8, nocase: bool) -> Option<usize> {
    let fold = |b: u8| if nocase { b.to_ascii_lowercase() } else { b };
    let negate = pattern.get(p) == Some(&b'^');
    if negate {
        p += 1;
    }
    let mut hit = false;
    loop {
        match pattern.get(p) {
            None => return (hit != negate).then_some(p),
            Some(b']') => return (hit != negate).then_some(p + 1),
            Some(b'\\') if p + 1 < pattern.len() => {
                hit |= fold(pattern[p + 1]) == fold(c);
                p += 2;
            }
            Some(&lo) if pattern.get(p + 1) == Some(&b'-') && p + 2 < pattern.len() => {
                let (a, b) = (fold(lo), fold(pattern[p + 2]));
                hit |= (a.min(b)..=a.max(b)).contains(&fold(c));
                p += 3;
            }
            Some(&x) => {
                hit |= fold(x) == fold(c);
                p += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        for (p, t, want) in [
            ("*", "", true),
            ("h?llo", "hello", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxbxx", false),
            ("[a", "a", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(p.as_bytes(), t.as_bytes(), false), want, "{p} {t}");
        }
        assert!(matches(b"HeL*", b"hello", true));
    }

    #[test]
    fn a_hostile_pattern_does_not_explode() {
        let p = b"a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b".to_vec();
        let t = vec![b'a'; 50_000];
        assert!(!matches(&p, &t, false));
        let steps = |n: usize| b"*?".repeat(n);
        assert!(matches(&steps(1000), &t, false));
        assert!(!matches(&steps(1001), &t, false));
        assert!(matches(&b"*".repeat(5000), &t, false));
    }
}
