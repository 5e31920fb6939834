//! Patterns of keys: what Redis calls glob-style, byte by byte.
//!
//! `*` stands for any bytes, `?` for one, `[abc]`, `[a-z]` and `[^a]` for one of (or none of) a set;
//! a backslash takes the meaning off the next byte. A set that is not closed ends with the pattern.
//! The work is bounded by the product of both lengths: only the last `*` is ever tried again, since
//! whatever an earlier one could match differently, the last one can make up for.

/// Whether a key is one of those that the pattern stands for.
pub fn matches(pattern: &[u8], key: &[u8]) -> bool {
    let (mut pattern_at, mut key_at) = (0, 0);
    // Behind the last star, and where in the key its match ends.
    let mut last_star: Option<(usize, usize)> = None;
    loop {
        let rest = &pattern[pattern_at..];
        if rest.first() == Some(&b'*') {
            pattern_at += 1;
            last_star = Some((pattern_at, key_at));
            continue;
        }
        match key.get(key_at) {
            Some(byte) if !rest.is_empty() => {
                if let Some(length) = matches_one(rest, *byte) {
                    pattern_at += length;
                    key_at += 1;
                    continue;
                }
            }
            Some(_) => {}
            None => return rest.is_empty(),
        }
        // The star takes one byte more.
        match &mut last_star {
            Some((behind, end)) => {
                *end += 1;
                (pattern_at, key_at) = (*behind, *end);
            }
            None => return false,
        }
    }
}

/// How long the first element of a pattern is, if it stands for this byte. It is no star.
fn matches_one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', ..] => {
            let (is_in, length) = set(pattern, byte);
            is_in.then_some(length)
        }
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [plain, ..] => (*plain == byte).then_some(1),
        [] => None,
    }
}

/// Whether a byte is in the set that a pattern begins with, and how long the set is.
fn set(pattern: &[u8], byte: u8) -> (bool, usize) {
    let is_negated = pattern.get(1) == Some(&b'^');
    let mut at = if is_negated { 2 } else { 1 };
    let mut is_in = false;
    loop {
        match &pattern[at.min(pattern.len())..] {
            [] => return (is_in != is_negated, pattern.len()),
            [b'\\', escaped, ..] => {
                is_in |= *escaped == byte;
                at += 2;
            }
            [b']', ..] => return (is_in != is_negated, at + 1),
            [from, b'-', to, ..] => {
                let (low, high) = if from <= to { (from, to) } else { (to, from) };
                is_in |= (*low..=*high).contains(&byte);
                at += 3;
            }
            [plain, ..] => {
                is_in |= *plain == byte;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_mean_what_redis_means_by_them() {
        for (pattern, key, is_match) in [
            ("*", "", true),
            ("*", "anything", true),
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h*llo", "hllo", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("h[a-b]llo", "hcllo", false),
            (r"h\*llo", "h*llo", true),
            (r"h\*llo", "hello", false),
            (r"[\]]", "]", true),
            (r"[\^a]", "^", true),
            ("[^]", "a", true),
            ("[]", "a", false),
            ("[a", "a", true),
            ("[a", "b", false),
            ("a[", "a", false),
            (r"a\", r"a\", true),
            (r"a\", "a", false),
            ("[a-]", "a", true),
            ("foo*", "foobar", true),
            ("foo*", "fobar", false),
            ("*bar*", "foobarbaz", true),
            ("**b**", "abc", true),
            ("a*b*c", "axxbxxbxxc", true),
            ("a*b*c", "axxbxxbxx", false),
            ("*a", "aab", false),
            ("KEY", "key", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), key.as_bytes()), is_match, "{pattern} {key}");
        }
        assert!(matches(b"\xFF?\0", b"\xFF\x80\0"));
    }

    #[test]
    fn many_stars_do_not_take_for_ever() {
        let pattern = b"a*".repeat(500);
        let key = b"a".repeat(20_000);
        assert!(matches(&pattern, &key));
        assert!(!matches(&[&pattern[..], b"b"].concat(), &key));
    }

    /// The same by trying everything.
    fn naive(pattern: &[u8], key: &[u8]) -> bool {
        match pattern {
            [] => key.is_empty(),
            [b'*', rest @ ..] => (0..=key.len()).any(|taken| naive(rest, &key[taken..])),
            _ => key.split_first().is_some_and(|(byte, rest)| {
                matches_one(pattern, *byte).is_some_and(|length| naive(&pattern[length..], rest))
            }),
        }
    }

    proptest! {
        #[test]
        fn trying_only_the_last_star_again_finds_what_trying_everything_finds(
            pattern in "[*?a-c\\[\\]\\\\^-]{0,10}", key in "[a-c]{0,8}",
        ) {
            prop_assert_eq!(matches(pattern.as_bytes(), key.as_bytes()), naive(pattern.as_bytes(), key.as_bytes()));
        }
    }
}
