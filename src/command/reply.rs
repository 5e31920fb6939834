//! What a client is answered.

#[cfg(doc)]
use crate::command::Command;
use crate::command::Refusal;

/// The answer to a [`Command`], free of its protocol. A value is borrowed, so that a shard can
/// encode it straight from its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// Done as asked.
    Done,
    /// The value of a key.
    Value(&'a [u8]),
    /// There is no such key.
    Absent,
    /// How many keys were deleted.
    Deleted(u64),
    /// A number.
    Integer(i64),
    /// A fixed word, such as the type of a value.
    Word(&'static str),
    /// Bytes made for the answer.
    Bytes(Vec<u8>),
    /// Several answers that belong on one line, of which only the last may hold blanks.
    Line(Vec<Reply<'a>>),
    /// Several answers in one.
    List(Vec<Reply<'a>>),
    /// Names and values, in order.
    Map(Vec<(Reply<'a>, Reply<'a>)>),
    /// The answer to [`Command::Ping`] without words.
    Pong,
    /// The answer to [`Command::Exit`].
    Goodbye,
    /// Lines for a human reader, each without its line end, none empty.
    Lines(Vec<String>),
    /// Not done, and why.
    Refused(Refusal),
}
