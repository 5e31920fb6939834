//! Whole numbers as decimal digits, without a detour over strings.

/// Digits of the longest number and its sign.
const TEXT_BYTES_MAX: usize = 20;

/// Appends a number.
pub fn append(number: i64, out: &mut Vec<u8>) {
    let mut text = [0; TEXT_BYTES_MAX];
    let mut start = TEXT_BYTES_MAX;
    let mut rest = number.unsigned_abs();
    loop {
        start -= 1;
        // A digit fits a byte.
        text[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        start -= 1;
        text[start] = b'-';
    }
    out.extend_from_slice(&text[start..]);
}

/// Appends a length. No length of anything in memory is beyond the numbers of the protocol.
pub fn append_length(length: usize, out: &mut Vec<u8>) {
    append(i64::try_from(length).unwrap_or(i64::MAX), out);
}

/// The number that the bytes are. Strict, as Redis is where it reads lengths: no plus sign, no
/// leading zeros, no blanks, so that every number is written in one way only.
pub fn parse(text: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match text {
        [b'0'] => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if !matches!(digits, [b'1'..=b'9', ..]) {
        return None;
    }
    // There is one more negative number than there are positive ones.
    let negated = digits.iter().try_fold(0i64, |number, byte| match byte {
        b'0'..=b'9' => number.checked_mul(10)?.checked_sub(i64::from(byte - b'0')),
        _ => None,
    })?;
    if is_negative { Some(negated) } else { negated.checked_neg() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(number: i64) -> String {
        let mut out = Vec::new();
        append(number, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_written_as_everybody_writes_them() {
        for number in [0, 1, -1, 9, 10, 99, -100, i64::MAX, i64::MIN] {
            assert_eq!(written(number), number.to_string());
        }
    }

    #[test]
    fn a_number_is_read_only_as_it_would_be_written() {
        for text in ["", "-", "+1", "01", "-0", "-01", "00", " 1", "1 ", "1a", "9223372036854775808"] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(parse(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(parse(b"-9223372036854775809"), None);
    }

    proptest! {
        #[test]
        fn every_number_comes_back(number: i64) {
            prop_assert_eq!(written(number), number.to_string());
            prop_assert_eq!(parse(written(number).as_bytes()), Some(number));
        }

        #[test]
        fn what_is_read_is_what_would_be_written(text in "[-+0-9]{0,21}") {
            if let Some(number) = parse(text.as_bytes()) {
                prop_assert_eq!(written(number), text);
            }
        }
    }
}
