//! The text protocol: a request is a line, most replies are one. Specified in `proto-spec/text.md`.
//!
//! It is meant for people with `nc` and for the clients of the older CacheGopher, written in Go.
//! The rules kept: every request gets exactly one reply, in order; no bytes from a client make the
//! codec fail or close the connection; memory held for a line is bounded by [`TextLimits`]; a key or
//! a value is copied only where it holds an escape.

mod decoder;
mod encode;
mod escape;
mod plain;

pub use decoder::TextDecoder;
pub use encode::encode;
pub use encode::encode_end;
pub use encode::encode_key_line;
pub use encode::encode_refusal;
pub use escape::escape;
pub use escape::unescape;
pub use plain::plain;

/// What a line may hold. The limits are listed in `proto-spec/limits.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextLimits {
    /// Bytes of a key and its value together, after unescaping.
    pub entry_bytes_max: usize,
}

/// Room in a line for the command word and the blanks around it.
const LINE_SLACK_BYTES: usize = 64;

impl TextLimits {
    /// Bytes of a line without its end: enough for the largest entry with every byte escaped.
    pub const fn line_bytes_max(self) -> usize {
        self.entry_bytes_max.saturating_mul(2).saturating_add(LINE_SLACK_BYTES)
    }
}

impl Default for TextLimits {
    fn default() -> Self {
        Self { entry_bytes_max: 65_536 }
    }
}
