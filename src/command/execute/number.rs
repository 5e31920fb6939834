//! Values that are numbers.

use bytes::Bytes;

use crate::command::Invalid;
use crate::command::Refusal;
use crate::command::Reply;
use crate::command::execute::Answer;
use crate::command::execute::Run;
use crate::command::parse_integer;

/// Values up to this length are "embstr" to Redis.
const EMBEDDED_BYTES_MAX: usize = 44;

impl Run<'_> {
    pub(super) fn add(&mut self, key: &Bytes, by: i64) -> Answer {
        let former = self.former(key);
        let before = match &former {
            Some(former) => parse_integer(&former.value).ok_or(Refusal::Invalid(Invalid::NotInteger))?,
            None => 0,
        };
        let after = before.checked_add(by).ok_or(Refusal::Invalid(Invalid::Overflow))?;
        let expires_at = former.and_then(|former| former.expires_at);
        self.write(key, after.to_string().into(), expires_at)?;
        Ok(Reply::Integer(after))
    }

    pub(super) fn add_float(&mut self, key: &Bytes, by: &[u8]) -> Answer {
        let former = self.former(key);
        let before: &[u8] = former.as_ref().map_or(b"0", |former| &former.value);
        let text = sum(before, by)?;
        let expires_at = former.and_then(|former| former.expires_at);
        self.write(key, text.clone().into(), expires_at)?;
        Ok(Reply::Bytes(text.into()))
    }
}

/// The sum as Redis writes it: no exponent, no zeros at the end. Redis adds with 64 binary digits and
/// shows 17 decimal ones, so that people see what they expect; here decimals are added as such where
/// they fit, and that shows the same.
fn sum(before: &[u8], by: &[u8]) -> Result<String, Refusal> {
    let number = |text| parse_float(text).ok_or(Refusal::Invalid(Invalid::NotFloat));
    let (before, by) = (number(before)?, number(by)?);
    let after = before + by;
    if !after.is_finite() {
        return Err(Refusal::Invalid(Invalid::NotFinite));
    }
    let decimals = decimal(&before.to_string()).zip(decimal(&by.to_string()));
    let exact = decimals.and_then(|(before, by)| before.checked_add(by));
    Ok(exact.map_or_else(|| after.to_string(), format_decimal))
}

/// Digits behind the point.
const SCALE_DIGITS: usize = 17;
const SCALE: i128 = 10i128.pow(SCALE_DIGITS as u32);

/// A number without an exponent as a multiple of the smallest unit; none: it does not fit.
fn decimal(text: &str) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > SCALE_DIGITS {
        return None;
    }
    format!("{whole}{fraction:0<SCALE_DIGITS$}").parse().ok()
}

fn format_decimal(number: i128) -> String {
    let sign = if number < 0 { "-" } else { "" };
    let (whole, fraction) = (number.abs() / SCALE, number.abs() % SCALE);
    let text = format!("{sign}{whole}.{fraction:0SCALE_DIGITS$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A finite decimal number; no blanks around it.
pub(in crate::command) fn parse_float(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok().filter(|number: &f64| number.is_finite())
}

/// How Redis would store a value.
pub(super) fn encoding(value: &[u8]) -> &'static str {
    match parse_integer(value) {
        Some(_) => "int",
        None if value.len() <= EMBEDDED_BYTES_MAX => "embstr",
        None => "raw",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_numbers_add_up_as_people_expect() {
        for (before, by, after) in [
            ("10.50", "0.1", "10.6"),
            ("0.1", "0.2", "0.3"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "1.1", "4.1"),
            ("1", "-1.1", "-0.1"),
            ("-1.5", "1.5", "0"),
            ("0", "0.00000000000000001", "0.00000000000000001"),
            ("1", "1e20", "100000000000000000001"),
        ] {
            assert_eq!(sum(before.as_bytes(), by.as_bytes()).unwrap(), after);
        }
        assert_eq!(sum(b"1e300", b"1e300").unwrap().len(), 301);
        assert_eq!(sum(b"1e308", b"1.7e308"), Err(Refusal::Invalid(Invalid::NotFinite)));
        for text in ["", " 1", "1 ", "abc", "nan", "inf", "1 2"] {
            assert_eq!(sum(text.as_bytes(), b"1"), Err(Refusal::Invalid(Invalid::NotFloat)), "{text}");
        }
    }
}
