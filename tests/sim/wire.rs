//! Commands between servers, as arrays of bulk strings, inline or empty lines.

/// Encodes a command.
pub fn command(words: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len());
    for w in words {
        out.push_str(&format!("${}\r\n{w}\r\n", w.len()));
    }
    out.into_bytes()
}

/// Takes one command off the input; `Some([])` for an empty line.
pub fn take(input: &mut Vec<u8>) -> Option<Vec<String>> {
    let line = |at: usize, input: &[u8]| input[at..].iter().position(|b| *b == b'\n').map(|n| at + n + 1);
    let text = |b: &[u8]| String::from_utf8_lossy(b).trim_end().to_string();
    let mut at = line(0, input)?;
    let first = text(&input[..at]);
    let words = match first.strip_prefix('*') {
        None => first.split_ascii_whitespace().map(str::to_string).collect(),
        Some(n) => {
            let mut words = Vec::new();
            for _ in 0..n.parse::<usize>().expect("a count") {
                let end = line(at, input)?;
                let len: usize = text(&input[at + 1..end]).parse().expect("a length");
                if input.len() < end + len + 2 {
                    return None;
                }
                words.push(String::from_utf8_lossy(&input[end..end + len]).into_owned());
                at = end + len + 2;
            }
            words
        }
    };
    input.drain(..at);
    Some(words)
}
