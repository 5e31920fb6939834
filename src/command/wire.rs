//! How a command travels to the node that carries it out: its verb, then its arguments.

use bincode::Decode;
use bincode::Encode;
use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::DecodeError;
use bincode::error::EncodeError;

use crate::command::Command;
use crate::command::Verb;
use crate::store::decode_bytes;
use crate::store::encode_bytes;

impl Encode for Command {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.verb().encode(encoder)?;
        match self {
            Command::Get { key } | Command::Delete { key } => encode_bytes(key, encoder),
            Command::Set { key, value } => {
                encode_bytes(key, encoder)?;
                encode_bytes(value, encoder)
            }
            Command::Keys
            | Command::Flush
            | Command::Ping
            | Command::Exit
            | Command::Help
            | Command::Nodes
            | Command::Ring
            | Command::Stats => Ok(()),
        }
    }
}

impl<Context> Decode<Context> for Command {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(match Verb::decode(decoder)? {
            Verb::Get => Command::Get { key: decode_bytes(decoder)? },
            Verb::Set => Command::Set { key: decode_bytes(decoder)?, value: decode_bytes(decoder)? },
            Verb::Delete => Command::Delete { key: decode_bytes(decoder)? },
            Verb::Keys => Command::Keys,
            Verb::Flush => Command::Flush,
            Verb::Ping => Command::Ping,
            Verb::Exit => Command::Exit,
            Verb::Help => Command::Help,
            Verb::Nodes => Command::Nodes,
            Verb::Ring => Command::Ring,
            Verb::Stats => Command::Stats,
        })
    }
}

bincode::impl_borrow_decode!(Command);

#[cfg(test)]
mod tests {
    use bincode::config::standard;
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn commands() -> Vec<Command> {
        let key = Bytes::from_static(b"k\xFF\0");
        vec![
            Command::Get { key: key.clone() },
            Command::Set { key: key.clone(), value: Bytes::new() },
            Command::Set { key: Bytes::new(), value: vec![0x5C; 65_536].into() },
            Command::Delete { key },
            Command::Keys,
            Command::Flush,
            Command::Ping,
            Command::Exit,
            Command::Help,
            Command::Nodes,
            Command::Ring,
            Command::Stats,
        ]
    }

    #[test]
    fn every_command_arrives_as_sent_and_cut_short_is_refused() {
        for sent in commands() {
            let wire = bincode::encode_to_vec(&sent, standard()).unwrap();
            let (got, used) = bincode::decode_from_slice::<Command, _>(&wire, standard()).unwrap();
            assert_eq!((got, used), (sent, wire.len()));
            let cut = &wire[..wire.len() - 1];
            assert!(bincode::decode_from_slice::<Command, _>(cut, standard()).is_err());
        }
    }

    #[test]
    fn a_verb_that_does_not_exist_is_refused() {
        let number = u8::try_from(Verb::all().len()).unwrap();
        assert!(bincode::decode_from_slice::<Command, _>(&[number, 0, 0], standard()).is_err());
    }

    #[test]
    fn a_corrupt_length_is_an_error_and_not_an_allocation() {
        let mut wire = bincode::encode_to_vec((Verb::Get, u64::MAX / 2), standard()).unwrap();
        wire.extend_from_slice(b"only this");
        assert!(bincode::decode_from_slice::<Command, _>(&wire, standard()).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(wire in proptest::collection::vec(any::<u8>(), 0..60)) {
            // Only the absence of a panic is of interest here.
            let _ = bincode::decode_from_slice::<Command, _>(&wire, standard());
        }
    }
}
