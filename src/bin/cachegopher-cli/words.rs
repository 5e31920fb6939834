//! A line as the words of a request, with quotes as in a shell.

/// The words. In double quotes `\n`, `\r`, `\t`, `\xHH`, `\"` and `\\` stand for what they usually do; in
/// single quotes only `\'` does.
pub fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        match rest.first() {
            None => return Ok(words),
            Some(quote @ (b'"' | b'\'')) => {
                let (word, used) = quoted(&rest[1..], *quote)?;
                words.push(word);
                rest = &rest[1 + used..];
                if rest.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
                    return Err("a blank must follow a closing quote".to_owned());
                }
            }
            Some(_) => {
                let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
                words.push(rest[..end].to_vec());
                rest = &rest[end..];
            }
        }
    }
}

/// A word up to its closing quote, and how many bytes it takes, the quote included.
fn quoted(text: &[u8], quote: u8) -> Result<(Vec<u8>, usize), String> {
    let mut word = Vec::new();
    let mut position = 0;
    while let Some(byte) = text.get(position) {
        match (byte, text.get(position + 1)) {
            (byte, _) if *byte == quote => return Ok((word, position + 1)),
            (b'\\', Some(next)) if *next == quote => {
                word.push(quote);
                position += 2;
            }
            (b'\\', Some(next)) if quote == b'"' => {
                let (byte, used) = escape(*next, &text[position + 2..]);
                word.push(byte);
                position += 1 + used;
            }
            (byte, _) => {
                word.push(*byte);
                position += 1;
            }
        }
    }
    Err("a quote is not closed".to_owned())
}

/// The byte that stands for what follows a backslash, and how many bytes that were.
fn escape(next: u8, rest: &[u8]) -> (u8, usize) {
    let hex = |rest: &[u8]| {
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u8::from_str_radix(digits, 16).ok())?
    };
    match next {
        b'n' => (b'\n', 1),
        b'r' => (b'\r', 1),
        b't' => (b'\t', 1),
        b'x' => hex(rest).map_or((b'x', 1), |byte| (byte, 3)),
        other => (other, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<Vec<u8>> {
        split(line.as_bytes()).unwrap()
    }

    #[test]
    fn a_line_is_split_at_blanks_outside_of_quotes() {
        assert_eq!(words("  SET k  v \r"), [&b"SET"[..], b"k", b"v"]);
        assert_eq!(
            words(r#"SET "a key" 'it''s'"#.replace("''", r"\'").as_str()),
            [&b"SET"[..], b"a key", b"it's"]
        );
        assert_eq!(words(r#"a "\x00\n\"\\\q" '\n'"#), [&b"a"[..], b"\0\n\"\\q", br"\n"]);
        assert_eq!(words(r#"k:1 "" "\xzz""#), [&b"k:1"[..], b"", b"xzz"]);
        assert!(words("").is_empty());
    }

    #[test]
    fn a_quote_that_is_not_closed_or_runs_on_is_refused() {
        assert!(split(b"SET \"k").is_err());
        assert!(split(b"SET 'k'v").is_err());
        assert!(split(b"'\\").is_err());
    }
}
