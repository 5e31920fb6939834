//! The names of the protocols.

use bincode::Decode;
use bincode::Encode;

/// The protocol in which a client asks and is answered. A mere name, so that it can travel with a
/// command to the shard, or to the node, that answers it; `protocol` knows what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Codec {
    /// Plain lines.
    Text,
    /// The protocol of Redis in its older version, which every client begins with.
    Resp2,
    /// The protocol of Redis in its newer version, which a client asks for by HELLO.
    Resp3,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_codec_travels_with_the_command_it_answers() {
        let config = bincode::config::standard();
        for (codec, byte) in [(Codec::Text, 0), (Codec::Resp2, 1), (Codec::Resp3, 2)] {
            let wire = bincode::encode_to_vec(codec, config).unwrap();
            assert_eq!(wire, [byte]);
            assert_eq!(bincode::decode_from_slice::<Codec, _>(&wire, config).unwrap(), (codec, 1));
        }
    }
}
