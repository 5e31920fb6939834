//! A key and its value as a line of JSON, as `export` writes and `import` reads it.
//!
//! Bytes that are UTF-8 are strings (`"key"`, `"value"`); others are base64 (`"key_base64"`,
//! `"value_base64"`). A key that expires has `"ttl_ms"`.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::Serialize;

/// A key, its value, and how long it has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub left: Option<Duration>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
}

impl Entry {
    /// The line, without its end.
    pub fn to_line(&self) -> Result<String, String> {
        let (key, key_base64) = texts(&self.key);
        let (value, value_base64) = texts(&self.value);
        let ttl_ms = self.left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        serde_json::to_string(&Line { key, key_base64, value, value_base64, ttl_ms })
            .map_err(|error| error.to_string())
    }

    /// The entry that a line is; the reason, if it is none.
    pub fn parse(line: &str) -> Result<Self, String> {
        let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
        Ok(Self {
            key: bytes("key", line.key, line.key_base64)?,
            value: bytes("value", line.value, line.value_base64)?,
            left: line.ttl_ms.map(Duration::from_millis),
        })
    }
}

fn texts(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

fn bytes(name: &str, text: Option<String>, base64: Option<String>) -> Result<Vec<u8>, String> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(base64)) => STANDARD.decode(base64).map_err(|error| format!("{name}_base64: {error}")),
        (None, None) | (Some(_), Some(_)) => Err(format!("it must have {name} or {name}_base64")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_back_from_its_line_whatever_its_bytes() {
        for (key, value, left) in [
            (&b"k"[..], &b"two\nlines \"x\""[..], None),
            (b"\xFF\0", b"", Some(Duration::from_millis(7))),
            (b"", b"\x80", None),
        ] {
            let entry = Entry { key: key.to_vec(), value: value.to_vec(), left };
            let line = entry.to_line().unwrap();
            assert!(!line.contains('\n'), "{line}");
            assert_eq!(Entry::parse(&line), Ok(entry));
        }
        let plain = Entry { key: b"k".to_vec(), value: b"v".to_vec(), left: None };
        assert_eq!(plain.to_line().unwrap(), r#"{"key":"k","value":"v"}"#);
    }

    #[test]
    fn a_line_that_is_no_entry_says_why() {
        for line in ["", "[]", r#"{"key":"k"}"#, r#"{"key":"k","value":"v","key_base64":"aw=="}"#] {
            assert!(Entry::parse(line).is_err(), "{line}");
        }
        assert!(Entry::parse(r#"{"key":"k","value_base64":"*"}"#).unwrap_err().contains("value_base64"));
        assert!(Entry::parse(r#"{"key":"k","value":"v","ttl":1}"#).unwrap_err().contains("ttl"));
    }
}
