//! Several commands that one shard carries out at once: what a client put between MULTI and EXEC, as
//! far as its keys lie in one partition. Nobody sees some of them done and others not.

use bincode::Decode;
use bincode::Encode;
use bincode::de::Decoder;
use bincode::de::read::Reader;
use bincode::error::DecodeError;

use crate::command::KeyCommand;
use crate::command::Op;
use crate::store::Blob;
use crate::time::Version;

/// The number of `Op::Together` among the variants of `Op`: one byte on the wire. A test compares it.
const OP_NUMBER: u8 = 22;

/// Commands of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct Together {
    /// Only if these keys of the partition are as they were: a key and what `Op::Mark` answered.
    pub unchanged: Vec<(Blob, Blob)>,
    /// In order. None of them holds others itself.
    pub commands: Vec<KeyCommand>,
    /// They may have run before, and were sent first when this was the latest version: a key that has
    /// a later one was written since, by them or by somebody else, and stays as it is.
    pub repeats: Option<Version>,
    /// There is one command, and its reply is not in a list.
    pub is_single: bool,
}

impl Together {
    /// These commands, for the first time.
    pub fn new(commands: Vec<KeyCommand>) -> Self {
        Self { unchanged: Vec::new(), commands, repeats: None, is_single: false }
    }

    /// The bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        let marks = self.unchanged.iter().map(|(key, mark)| key.0.len() + mark.0.len());
        marks.sum::<usize>() + self.commands.iter().map(KeyCommand::bytes).sum::<usize>()
    }

    /// The same commands, each [aside](KeyCommand::aside).
    pub fn aside(self) -> Self {
        Self { commands: self.commands.into_iter().map(KeyCommand::aside).collect(), ..self }
    }

    /// Whether running it twice does no harm. A repetition could not tell its own changes from those
    /// of others.
    pub fn is_idempotent(&self) -> bool {
        self.unchanged.is_empty() && self.commands.iter().all(KeyCommand::is_idempotent)
    }
}

impl KeyCommand {
    /// The same once more, though it may have run: see [`Together::repeats`].
    pub fn repeated(self, sent_at: Version) -> Self {
        let Self { key, op } = self;
        let together = match op {
            Op::Together(together) => {
                let repeats = together.repeats.or(Some(sent_at));
                Together { repeats, ..together }
            }
            op => {
                let commands = vec![Self { key: key.clone(), op }];
                Together { repeats: Some(sent_at), is_single: true, ..Together::new(commands) }
            }
        };
        Self { key, op: Op::Together(together) }
    }
}

impl<Context> Decode<Context> for Together {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let unchanged = Decode::decode(decoder)?;
        let count = u64::decode(decoder)?;
        // No number of a peer sizes memory, and none lets this call itself: it ends at the first level.
        let mut commands = Vec::new();
        for _ in 0..count {
            let key = Blob::decode(decoder)?;
            if decoder.reader().peek_read(1).is_some_and(|next| next.first() == Some(&OP_NUMBER)) {
                return Err(DecodeError::Other("commands within commands"));
            }
            commands.push(KeyCommand { key, op: Decode::decode(decoder)? });
        }
        Ok(Self {
            unchanged,
            commands,
            repeats: Decode::decode(decoder)?,
            is_single: Decode::decode(decoder)?,
        })
    }
}

bincode::impl_borrow_decode!(Together);

#[cfg(test)]
mod tests {
    use bincode::config::standard;
    use bytes::Bytes;

    use super::*;
    use crate::command::Aside;

    fn blob(bytes: &'static [u8]) -> Blob {
        Blob(Bytes::from_static(bytes))
    }

    fn together(commands: Vec<KeyCommand>) -> KeyCommand {
        let unchanged = vec![(blob(b"w"), blob(b"mark"))];
        let together = Together { unchanged, ..Together::new(commands) };
        KeyCommand { key: blob(b"k"), op: Op::Together(together) }
    }

    #[test]
    fn commands_travel_together_but_not_within_others() {
        let get = KeyCommand { key: blob(b"k"), op: Op::Get };
        let sent = together(vec![get.clone(), KeyCommand { key: blob(b"k2"), op: Op::Add(1) }]);
        let wire = bincode::encode_to_vec(&sent, standard()).unwrap();
        assert_eq!(bincode::decode_from_slice(&wire, standard()).unwrap(), (sent, wire.len()));
        let nested = bincode::encode_to_vec(together(vec![together(vec![get])]), standard()).unwrap();
        let error = bincode::decode_from_slice::<KeyCommand, _>(&nested, standard()).unwrap_err();
        assert!(matches!(error, DecodeError::Other("commands within commands")), "{error}");
    }

    #[test]
    fn a_count_of_commands_takes_no_memory() {
        let mut wire = bincode::encode_to_vec(together(Vec::new()), standard()).unwrap();
        let count = wire.len() - 3;
        wire[count] = 250;
        let error = bincode::decode_from_slice::<KeyCommand, _>(&wire, standard()).unwrap_err();
        assert!(
            matches!(error, DecodeError::UnexpectedVariant { .. } | DecodeError::UnexpectedEnd { .. }),
            "{error}"
        );
    }

    #[test]
    fn what_is_read_together_is_read_aside_where_the_connection_wants_it() {
        let command = |op| KeyCommand { key: blob(b"k"), op };
        let reads = together(vec![command(Op::Get), command(Op::Add(1))]).aside();
        assert_eq!(reads, together(vec![command(Op::Aside(Aside::Get)), command(Op::Add(1))]));
    }

    #[test]
    fn it_is_repeated_only_if_nothing_in_it_forbids() {
        let set = KeyCommand::set(Bytes::new(), Bytes::new());
        let plain = Together::new(vec![set.clone(), set.clone()]);
        assert!(plain.is_idempotent());
        let counted = KeyCommand { key: blob(b""), op: Op::Add(1) };
        assert!(!Together { commands: vec![set, counted], ..plain.clone() }.is_idempotent());
        assert!(!Together { unchanged: vec![(blob(b"w"), blob(b"m"))], ..plain }.is_idempotent());
    }
}
