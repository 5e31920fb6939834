//! Carries out a command that has a key, on the shard that has the key's partition.

use crate::command::Command;
use crate::command::Refusal;
use crate::command::Reply;
use crate::store::Applied;
use crate::store::Change;
use crate::store::Content;
use crate::store::Partition;
use crate::store::Shard;
use crate::time::Clock;
use crate::time::Timestamp;

/// What came of a command.
#[derive(Debug)]
pub struct Executed<'a> {
    /// The answer.
    pub reply: Reply<'a>,
    /// What has changed, for the other copies.
    pub change: Option<Change>,
}

impl<'a> Executed<'a> {
    fn read(reply: Reply<'a>) -> Self {
        Self { reply, change: None }
    }
}

/// Carries out a command on its partition. A command without a key is about the cluster, not about a
/// shard: it is answered as unknown here, and never gets this far.
pub fn execute<'a>(
    command: &Command,
    partition: Partition,
    shard: &'a mut Shard,
    clock: &mut Clock,
    now: Timestamp,
) -> Executed<'a> {
    match command {
        Command::Get { key } => Executed::read(match shard.get(partition, key, now) {
            Some(value) => Reply::Value(value),
            None => Reply::Absent,
        }),
        Command::Set { key, value } => {
            let content = Content::Value { bytes: value.clone(), expires_at: None };
            write(Change { key: key.clone(), version: clock.next(now), content }, partition, shard, now)
        }
        Command::Delete { key } => match shard.contains(partition, key, now) {
            false => Executed::read(Reply::Deleted(0)),
            true => {
                let change = Change { key: key.clone(), version: clock.next(now), content: Content::Deleted };
                Executed { reply: Reply::Deleted(1), ..write(change, partition, shard, now) }
            }
        },
        Command::Keys
        | Command::Flush
        | Command::Ping
        | Command::Exit
        | Command::Help
        | Command::Nodes
        | Command::Ring
        | Command::Stats => {
            let name = command.verb().name().to_owned();
            Executed::read(Reply::Refused(Refusal::UnknownCommand { name }))
        }
    }
}

fn write(change: Change, partition: Partition, shard: &mut Shard, now: Timestamp) -> Executed<'_> {
    match shard.apply(partition, &change, now) {
        Applied::Newer => Executed { reply: Reply::Done, change: Some(change) },
        // Only a version from a clock far ahead can be greater; then that one is the later write.
        Applied::Stale => Executed::read(Reply::Done),
        Applied::TooLarge { bytes, bytes_max } => {
            Executed::read(Reply::Refused(Refusal::NoMemory { bytes, bytes_max }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ShardLimits;
    use bytes::Bytes;

    const NOW: Timestamp = Timestamp::from_millis(1_000);

    struct Fixture {
        shard: Shard,
        clock: Clock,
    }

    impl Fixture {
        fn new() -> Self {
            Self { shard: Shard::new(ShardLimits::new(4 << 20), 1), clock: Clock::default() }
        }

        fn run(&mut self, command: Command) -> Executed<'_> {
            let partition = Partition::of(command.key().unwrap());
            execute(&command, partition, &mut self.shard, &mut self.clock, NOW)
        }
    }

    fn key() -> Bytes {
        Bytes::from_static(b"key")
    }

    #[test]
    fn a_set_answers_done_and_names_what_the_other_copies_need() {
        let mut fixture = Fixture::new();
        let set = fixture.run(Command::Set { key: key(), value: Bytes::from_static(b"v") });
        assert_eq!(set.reply, Reply::Done);
        let content = Content::Value { bytes: Bytes::from_static(b"v"), expires_at: None };
        assert_eq!(set.change.map(|change| (change.key, change.content)), Some((key(), content)));
        assert_eq!(fixture.run(Command::Get { key: key() }).reply, Reply::Value(b"v"));
    }

    #[test]
    fn a_delete_of_a_key_that_is_not_there_changes_nothing() {
        let mut fixture = Fixture::new();
        let delete = fixture.run(Command::Delete { key: key() });
        assert_eq!(delete.reply, Reply::Deleted(0));
        assert!(delete.change.is_none());
    }

    #[test]
    fn a_delete_leaves_a_change_that_is_later_than_the_set() {
        let mut fixture = Fixture::new();
        let set = fixture.run(Command::Set { key: key(), value: Bytes::new() }).change.unwrap();
        let delete = fixture.run(Command::Delete { key: key() });
        assert_eq!(delete.reply, Reply::Deleted(1));
        let deleted = delete.change.unwrap();
        assert!(deleted.version > set.version);
        assert_eq!(deleted.content, Content::Deleted);
        assert_eq!(fixture.run(Command::Get { key: key() }).reply, Reply::Absent);
    }

    #[test]
    fn a_value_that_fits_no_shard_is_refused_with_the_limit() {
        let mut fixture = Fixture::new();
        let value = Bytes::from(vec![0; 8 << 20]);
        let set = fixture.run(Command::Set { key: key(), value });
        assert!(matches!(set.reply, Reply::Refused(Refusal::NoMemory { .. })));
        assert!(set.change.is_none());
    }
}
