//! How a message travels: its length (32 bits, big endian), then the message in bincode's standard encoding.
//! The length is checked before anything is read, a message must use all of its frame, and no number in
//! it sizes memory before it has been checked.

use bincode::Decode;
use bincode::Encode;
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use bytes::Bytes;
use bytes::BytesMut;

/// The longest frame, in bytes, its length field not counted.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of the length field.
pub const LENGTH_BYTES: usize = 4;
/// Room for a message whose length nobody has guessed.
const ENCODED_BYTES: usize = 64;

/// A frame that cannot be read. The link ends; nothing of the frame has taken effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Its length is over the limit.
    #[error("frame of {bytes} bytes, the limit is {FRAME_BYTES_MAX}")]
    TooLong {
        /// The announced length.
        bytes: usize,
    },
    /// It is no message of this version.
    #[error("frame cannot be decoded: {0}")]
    Malformed(String),
    /// Something stands behind the message.
    #[error("frame has {0} bytes behind its message")]
    TrailingBytes(usize),
}

/// Encodes a message with its length before it.
pub fn encode<M: Encode>(message: &M) -> Bytes {
    encode_sized(message, 0)
}

/// As [`encode`], for a message of about so many bytes: it need not be moved while it grows.
pub fn encode_sized<M: Encode>(message: &M, bytes: usize) -> Bytes {
    let mut frame = Vec::with_capacity(bytes.max(ENCODED_BYTES));
    frame.extend_from_slice(&[0; LENGTH_BYTES]);
    encode_behind(message, &mut frame);
    let length = u32::try_from(frame.len() - LENGTH_BYTES).expect("a frame is below four gigabytes");
    frame[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    frame.into()
}

/// Encodes a message, or a part of one, behind what is there.
pub fn encode_behind<M: Encode>(message: &M, frame: &mut Vec<u8>) {
    bincode::encode_into_writer(message, Behind(frame), bincode::config::standard())
        .expect("encoding into memory cannot fail");
}

struct Behind<'a>(&'a mut Vec<u8>);

impl Writer for Behind<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Takes the next complete message from what has arrived.
///
/// # Errors
///
/// [`FrameError`]: the link cannot go on.
pub fn decode<M: Decode<()>>(input: &mut BytesMut) -> Result<Option<M>, FrameError> {
    let Some(length) = input.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let bytes = u32::from_be_bytes(*length) as usize;
    if bytes > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong { bytes });
    }
    let Some(body) = input.get(LENGTH_BYTES..LENGTH_BYTES + bytes) else { return Ok(None) };
    let config = bincode::config::standard().with_limit::<FRAME_BYTES_MAX>();
    let (message, used) =
        bincode::decode_from_slice(body, config).map_err(|error| FrameError::Malformed(error.to_string()))?;
    if used < bytes {
        return Err(FrameError::TrailingBytes(bytes - used));
    }
    let _ = input.split_to(LENGTH_BYTES + bytes);
    Ok(Some(message))
}
