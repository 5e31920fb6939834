//! How byte strings, and the changes made of them, travel between nodes (bincode).
//!
//! bincode does not know [`Bytes`]. Here a byte string is its length followed by its bytes, as
//! bincode writes a `Vec<u8>`. The rule kept: a length that a peer announces never sizes memory
//! before it is known to be true. It is checked against the decoder's limit, then against what has
//! really arrived; a corrupt length costs an error, not an allocation.

use bincode::Decode;
use bincode::Encode;
use bincode::de::Decoder;
use bincode::de::read::Reader;
use bincode::enc::Encoder;
use bincode::enc::write::Writer;
use bincode::error::DecodeError;
use bincode::error::EncodeError;
use bytes::Bytes;

use crate::store::Change;
use crate::store::Content;
use crate::time::Timestamp;
use crate::time::Version;

/// How much is allocated at a time for a reader that cannot say how much it has.
const CHUNK_BYTES: usize = 16 * 1024;

/// A byte string inside a message whose coding is derived.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blob(pub Bytes);

impl Encode for Blob {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        encode_bytes(&self.0, encoder)
    }
}

impl<Context> Decode<Context> for Blob {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        decode_bytes(decoder).map(Self)
    }
}

bincode::impl_borrow_decode!(Blob);

/// Writes a byte string: its length, then its bytes.
pub fn encode_bytes<E: Encoder>(bytes: &[u8], encoder: &mut E) -> Result<(), EncodeError> {
    (bytes.len() as u64).encode(encoder)?;
    encoder.writer().write(bytes)
}

/// Reads what [`encode_bytes`] wrote. Allocates at most 16 KiB more than really arrived.
pub fn decode_bytes<D: Decoder>(decoder: &mut D) -> Result<Bytes, DecodeError> {
    let announced = u64::decode(decoder)?;
    let length = usize::try_from(announced).map_err(|_| DecodeError::OutsideUsizeRange(announced))?;
    decoder.claim_container_read::<u8>(length)?;
    let reader = decoder.reader();
    if let Some(present) = reader.peek_read(length) {
        let bytes = Bytes::copy_from_slice(present.get(..length).unwrap_or(present));
        reader.consume(length);
        return Ok(bytes);
    }
    read_in_chunks(reader, length)
}

/// For a reader that has no buffer to look into, or has less than `length` bytes: then the last
/// read fails.
fn read_in_chunks<R: Reader>(reader: &mut R, length: usize) -> Result<Bytes, DecodeError> {
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let start = bytes.len();
        bytes.resize(length.min(start + CHUNK_BYTES), 0);
        reader.read(&mut bytes[start..])?;
    }
    Ok(bytes.into())
}

/// Appends a change to a value that lies elsewhere and never expires, as a [`Change`] is written. By hand:
/// it is what replication does most, and bincode takes some 400 instructions for it.
pub fn append_value_change(key: &[u8], version: Version, value: &[u8], out: &mut Vec<u8>) {
    out.reserve(3 * NUMBER_BYTES_MAX + 2 + key.len() + value.len());
    append_number(key.len() as u64, out);
    out.extend_from_slice(key);
    append_number(version.as_raw(), out);
    out.push(VALUE);
    append_number(value.len() as u64, out);
    out.extend_from_slice(value);
    out.push(NEVER);
}

/// Appends a number as bincode's standard configuration writes it.
#[inline]
fn append_number(number: u64, out: &mut Vec<u8>) {
    match number {
        0..=250 => out.push(number as u8),
        251..=0xFFFF => {
            out.push(251);
            out.extend_from_slice(&(number as u16).to_le_bytes());
        }
        0x1_0000..=0xFFFF_FFFF => {
            out.push(252);
            out.extend_from_slice(&(number as u32).to_le_bytes());
        }
        _ => {
            out.push(253);
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
}

impl Encode for Change {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        encode_bytes(&self.key, encoder)?;
        self.version.encode(encoder)?;
        self.content.encode(encoder)
    }
}

impl<Context> Decode<Context> for Change {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let key = decode_bytes(decoder)?;
        let version = Version::decode(decoder)?;
        let content = Content::decode(decoder)?;
        Ok(Self { key, version, content })
    }
}

bincode::impl_borrow_decode!(Change);

const DELETED: u8 = 0;
const VALUE: u8 = 1;
/// No time at which a value expires.
const NEVER: u8 = 0;
/// What a number takes at most.
const NUMBER_BYTES_MAX: usize = 1 + size_of::<u64>();

impl Encode for Content {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        match self {
            Content::Deleted => DELETED.encode(encoder),
            Content::Value { bytes, expires_at } => {
                VALUE.encode(encoder)?;
                encode_bytes(bytes, encoder)?;
                expires_at.encode(encoder)
            }
        }
    }
}

impl<Context> Decode<Context> for Content {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        match u8::decode(decoder)? {
            DELETED => Ok(Content::Deleted),
            VALUE => {
                let bytes = decode_bytes(decoder)?;
                let expires_at = Option::<Timestamp>::decode(decoder)?;
                Ok(Content::Value { bytes, expires_at })
            }
            _ => Err(DecodeError::Other("content is neither a deletion nor a value")),
        }
    }
}

bincode::impl_borrow_decode!(Content);

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use bincode::config::standard;
    use proptest::prelude::*;

    use super::*;

    fn change(key: &[u8], value: Option<Vec<u8>>, expires_at: Option<u64>) -> Change {
        Change {
            key: Bytes::copy_from_slice(key),
            version: Version::from_raw(77),
            content: match value {
                None => Content::Deleted,
                Some(bytes) => {
                    Content::Value { bytes: bytes.into(), expires_at: expires_at.map(Timestamp::from_millis) }
                }
            },
        }
    }

    #[test]
    fn empty_and_maximal_byte_strings_arrive_as_sent() {
        for value in [Vec::new(), vec![0xA5; 65_536], vec![1; CHUNK_BYTES], vec![2; CHUNK_BYTES + 1]] {
            let sent = change(b"", Some(value), None);
            let wire = bincode::encode_to_vec(&sent, standard()).unwrap();
            let (got, used) = bincode::decode_from_slice::<Change, _>(&wire, standard()).unwrap();
            assert_eq!((got, used), (sent.clone(), wire.len()));
            let streamed: Change = bincode::decode_from_std_read(&mut Cursor::new(wire), standard()).unwrap();
            assert_eq!(streamed, sent);
        }
    }

    #[test]
    fn a_blob_is_written_as_bincode_writes_a_vector() {
        let bytes = vec![7u8; 300];
        let wire = bincode::encode_to_vec(Blob(bytes.clone().into()), standard()).unwrap();
        assert_eq!(wire, bincode::encode_to_vec(&bytes, standard()).unwrap());
        let (back, _) = bincode::decode_from_slice::<Blob, _>(&wire, standard()).unwrap();
        assert_eq!(&back.0[..], &bytes[..]);
    }

    #[test]
    fn a_value_that_lies_elsewhere_is_written_as_any_change() {
        for (bytes, raw) in
            [(0, 0), (250, 250), (251, 251), (65_535, 65_536), (65_536, 1 << 32), (9, u64::MAX)]
        {
            let (version, value) = (Version::from_raw(raw), vec![9; bytes]);
            let expected = Change { version, ..change(b"key", Some(value.clone()), None) };
            let mut wire = Vec::new();
            append_value_change(b"key", version, &value, &mut wire);
            assert_eq!(wire, bincode::encode_to_vec(&expected, standard()).unwrap());
        }
    }

    #[test]
    fn a_change_cut_short_anywhere_is_refused() {
        let wire =
            bincode::encode_to_vec(change(b"key", Some(vec![9; 40]), Some(5_000)), standard()).unwrap();
        for length in 0..wire.len() {
            assert!(bincode::decode_from_slice::<Change, _>(&wire[..length], standard()).is_err());
            let mut stream = Cursor::new(&wire[..length]);
            assert!(bincode::decode_from_std_read::<Change, _, _>(&mut stream, standard()).is_err());
        }
    }

    #[test]
    fn a_corrupt_length_is_an_error_and_not_an_allocation() {
        // An allocation of this size would abort the test.
        for announced in [u64::MAX, u64::MAX / 2, 1 << 46] {
            let mut wire = bincode::encode_to_vec(announced, standard()).unwrap();
            wire.extend_from_slice(b"only this");
            assert!(bincode::decode_from_slice::<Blob, _>(&wire, standard()).is_err());
            let mut stream = Cursor::new(&wire);
            assert!(bincode::decode_from_std_read::<Blob, _, _>(&mut stream, standard()).is_err());
        }
    }

    #[test]
    fn a_length_over_the_limit_of_the_decoder_is_refused() {
        let wire = bincode::encode_to_vec(Blob(vec![1; 100].into()), standard()).unwrap();
        let refused = bincode::decode_from_slice::<Blob, _>(&wire, standard().with_limit::<64>());
        assert!(matches!(refused, Err(DecodeError::LimitExceeded)));
    }

    #[test]
    fn content_of_an_unknown_kind_is_refused() {
        assert!(bincode::decode_from_slice::<Content, _>(&[2, 0, 0], standard()).is_err());
    }

    proptest! {
        #[test]
        fn any_change_arrives_as_sent(
            key in proptest::collection::vec(any::<u8>(), 0..40),
            value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..400)),
            expires_at in any::<Option<u64>>(),
        ) {
            let sent = change(&key, value, expires_at);
            let wire = bincode::encode_to_vec(&sent, standard()).unwrap();
            prop_assert_eq!(bincode::decode_from_slice::<Change, _>(&wire, standard()).unwrap().0, sent);
        }

        #[test]
        fn arbitrary_bytes_never_panic(wire in proptest::collection::vec(any::<u8>(), 0..60)) {
            // Only the absence of a panic is of interest here.
            let _ = bincode::decode_from_slice::<Change, _>(&wire, standard());
        }
    }
}
