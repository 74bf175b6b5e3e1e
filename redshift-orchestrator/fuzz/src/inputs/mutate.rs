//! Mutations of words, numbers, texts and brackets of valid inputs, so that most results pass the parser.

/// Unexpected values.
const STRANGE: [&str; 32] = [
    "null",
    "true",
    "-1",
    "0",
    "1",
    "31",
    "1e400",
    "-1e-400",
    "NaN",
    "18446744073709551615",
    "9223372036854775808",
    "-9223372036854775809",
    "0.1",
    "99999999999999999999999999",
    "\"\"",
    "\" \"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"ü😀\"",
    "\"9999-12-31T23:59:59.999999999Z\"",
    "\"-009999-01-01T00:00:00Z\"",
    "\"99999999999h\"",
    "\"-1s\"",
    "\"1h 30m\"",
    "[]",
    "{}",
    "[[[[[[[[[[[[[[[[",
    "\"${a}\"",
    "\":a\"",
    "\"${\"",
    "\"@1:99\"",
    "'''",
];

/// Applies one to six mutations to `input`. Pieces of `other` may be inserted.
pub fn mutate(draw: &mut fastrand::Rng, input: &[u8], other: &[u8]) -> Vec<u8> {
    let mut pieces = pieces(input);
    let others = self::pieces(other);
    for _ in 0..draw.usize(1..7) {
        if pieces.is_empty() {
            pieces.push(b"x".to_vec());
        }
        let (at, to) = (draw.usize(0..pieces.len()), draw.usize(0..pieces.len()));
        let span = at..(at + draw.usize(1..12)).min(pieces.len());
        match draw.u8(0..12) {
            0 => drop(pieces.drain(span)),
            1 => {
                let copied = pieces[span].to_vec();
                pieces.splice(to..to, copied);
            }
            2 => pieces.swap(at, to),
            3 | 4 => pieces[at] = STRANGE[draw.usize(0..STRANGE.len())].into(),
            5 => pieces[at] = pieces[to].clone(),
            6 | 7 if !others.is_empty() => {
                let from = draw.usize(0..others.len());
                let taken = others[from..(from + draw.usize(1..12)).min(others.len())].to_vec();
                pieces.splice(span, taken);
            }
            8 => pieces.insert(at, STRANGE[draw.usize(0..STRANGE.len())].into()),
            9 => {
                let copied = pieces[span].concat().repeat(draw.usize(2..200));
                pieces.insert(at, copied);
            }
            10 => {
                let piece = &mut pieces[at];
                let byte = draw.usize(0..piece.len().max(1));
                match piece.get_mut(byte) {
                    Some(byte) => *byte ^= 1 << draw.u8(0..8),
                    None => piece.push(draw.u8(..)),
                }
            }
            _ => {
                // The file was not written completely; it may end within a word.
                pieces.truncate(at + 1);
                let keep = draw.usize(0..=pieces[at].len());
                pieces[at].truncate(keep);
            }
        }
    }
    pieces.concat()
}

/// Splits an input into words and numbers, quoted texts, white space, and single bytes.
fn pieces(input: &[u8]) -> Vec<Vec<u8>> {
    let class = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'+' | b'.' | b'$' | 128.. => 1,
        b' ' | b'\t' | b'\r' | b'\n' => 2,
        _ => 0,
    };
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < input.len() {
        let first = class(input[at]);
        let mut end = at + 1;
        if first == 0 && input[at] == b'"' {
            while end < input.len() && input[end] != b'"' && input[end] != b'\n' {
                end += if input[end] == b'\\' { 2 } else { 1 };
            }
            end = (end + 1).min(input.len());
        } else if first != 0 {
            while end < input.len() && class(input[end]) == first {
                end += 1;
            }
        }
        pieces.push(input[at..end].to_vec());
        at = end;
    }
    pieces
}
