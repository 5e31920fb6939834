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

    pub(super) fn add_float(&mut self, key: &Bytes, by: f64) -> Answer {
        let former = self.former(key);
        let before = match &former {
            Some(former) => parse_float(&former.value).ok_or(Refusal::Invalid(Invalid::NotFloat))?,
            None => 0.0,
        };
        let after = before + by;
        if !after.is_finite() {
            return Err(Refusal::Invalid(Invalid::NotFinite));
        }
        let text = format_float(after);
        let expires_at = former.and_then(|former| former.expires_at);
        self.write(key, text.clone().into(), expires_at)?;
        Ok(Reply::Bytes(text.into()))
    }
}

/// A finite decimal number; no blanks around it.
pub(in crate::command) fn parse_float(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok().filter(|number: &f64| number.is_finite())
}

/// At most 17 digits, no exponent, no zeros at the end: as Redis writes it.
fn format_float(number: f64) -> String {
    // Rust writes the shortest digits that read back as the same number, without an exponent.
    let text = number.to_string();
    if text == "-0" { "0".to_owned() } else { text }
}

/// How Redis would store a value.
pub(super) fn encoding(value: &[u8]) -> &'static str {
    match parse_integer(value) {
        Some(_) => "int",
        None if value.len() <= EMBEDDED_BYTES_MAX => "embstr",
        None => "raw",
    }
}
