//! The names of the protocols.

use bincode::Decode;
use bincode::Encode;

/// The protocol in which a client asks and is answered. A mere name, so that it can travel with a
/// command to the shard, or to the node, that answers it; `protocol` knows what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Codec {
    /// Plain lines.
    Text,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_codec_travels_with_the_command_it_answers() {
        let config = bincode::config::standard();
        let wire = bincode::encode_to_vec(Codec::Text, config).unwrap();
        assert_eq!(bincode::decode_from_slice::<Codec, _>(&wire, config).unwrap(), (Codec::Text, 1));
    }
}
