//! RESP, the protocol of Redis: requests are arrays of bulk strings, replies are RESP2 or RESP3.
//! Specified in `proto-spec/resp.md`.
//!
//! A request becomes the words it consists of; what they mean is decided elsewhere. The rules kept:
//! how the bytes were cut into pieces makes no difference; no word is copied; a length that a client
//! announces is checked before anything follows from it, and memory grows only with what has arrived;
//! an error never holds a line end, so that it cannot be taken for two replies. A request that breaks
//! the framing is a [`ProtocolError`], said once before the connection is closed.

mod answer;
mod decoder;
mod encode;
mod error;
mod gather;
mod number;
#[cfg(test)]
mod oracle;
mod plain;

pub use answer::Answer;
pub use answer::AnswerDecoder;
pub use answer::AnswerError;
pub use decoder::RespDecoder;
pub use encode::RespVersion;
pub use encode::array_header;
pub use encode::bulk;
pub use encode::encode;
pub use encode::encode_refusal;
pub use encode::null_list;
pub use error::ProtocolError;
pub use error::encode_protocol_error;
pub use error::unknown_command;
pub use gather::bulk_of;
pub use gather::elements_of;
pub use gather::integer_of;
pub use gather::is_error;
pub use plain::plain;

/// What a request may hold. The limits are listed in `proto-spec/limits.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RespLimits {
    /// Words of a request, its command included.
    pub arguments_max: usize,
    /// Bytes of one word.
    pub bulk_bytes_max: usize,
    /// Bytes of a request from its `*` to its end, which is what a connection holds until it is whole.
    pub request_bytes_max: usize,
}

/// As in Redis.
const ARGUMENTS_MAX: usize = 1024 * 1024;
/// So many times larger than an entry may be is a word that still gets a reply of its own.
const BULK_SLACK_FACTOR: usize = 8;
/// The largest request, where the largest entry does not ask for more.
const REQUEST_BYTES_MAX: usize = 64 * 1024 * 1024;

impl RespLimits {
    /// The limits for entries of so many bytes of key and value. A word may be larger than any entry:
    /// one that is too large, but not absurdly so, is read and refused, and the connection goes on.
    pub const fn for_entries_of(entry_bytes_max: usize) -> Self {
        let bulk_bytes_max = entry_bytes_max.saturating_mul(BULK_SLACK_FACTOR);
        let two_words = bulk_bytes_max.saturating_mul(2);
        let request_bytes_max = if two_words > REQUEST_BYTES_MAX { two_words } else { REQUEST_BYTES_MAX };
        Self { arguments_max: ARGUMENTS_MAX, bulk_bytes_max, request_bytes_max }
    }
}

impl Default for RespLimits {
    fn default() -> Self {
        Self::for_entries_of(65_536)
    }
}
