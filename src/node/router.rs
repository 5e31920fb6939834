//! The router: brings commands to whoever serves their partition, here or on another node, and the
//! encoded replies back in order.
//!
//! A command that a node does not serve (any more) comes back and is tried again by the newest view:
//! while a primary is being replaced, its commands wait here, bounded in number and time. A command
//! that may have run on a node that was lost is repeated only if that does no harm.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio::time::timeout_at;

use crate::cluster::membership::NodeId;
use crate::cluster::peer::FRAME_BYTES_MAX;
use crate::cluster::peer::Outcome;
use crate::cluster::peer::Request;
use crate::cluster::peer::Response;
use crate::cluster::view::View;
use crate::command::Ack;
use crate::command::Codec;
use crate::command::KeyCommand;
use crate::command::Refusal;
use crate::node::acks::Acks;
use crate::node::context::Context;
use crate::node::context::Counters;
use crate::node::link::PeerError;
use crate::node::relay;
use crate::node::shard;
use crate::node::shard::Batch;
use crate::node::shard::Replies;
use crate::protocol;
use crate::store::Partition;
use crate::time::Version;

/// The pauses between two attempts where no change of the view ends them.
const RETRY_AFTER_MIN: Duration = Duration::from_millis(1);
const RETRY_AFTER_MAX: Duration = Duration::from_millis(25);

/// Bytes of values that one forwarded piece may ask for: encoded twice as long they still fit a frame.
const FORWARDED_VALUES_BYTES_MAX: usize = FRAME_BYTES_MAX / 4;

/// What a command without a value takes in a frame beyond its key, more or less.
const COMMAND_BYTES: usize = 8;

/// A command and its place among the replies.
type Placed = (usize, KeyCommand);

/// What became of a command that was sent off.
enum Answer {
    Reply(Bytes),
    /// Not carried out there.
    Moved(KeyCommand),
    /// The node was lost: it may have been carried out.
    Lost(KeyCommand),
}

/// Where a command is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Shard(usize),
    /// As above, and copies that the node does not serve may answer.
    Copy(usize),
    Node(NodeId),
    Nowhere,
}

/// Carries out commands and returns the encoded replies in their order. What the writes have to wait for is
/// left to the caller.
pub async fn run(
    context: &Arc<Context>,
    codec: Codec,
    acks: &mut Acks,
    commands: Vec<KeyCommand>,
) -> Vec<Bytes> {
    let mut replies = vec![Bytes::new(); commands.len()];
    let mut pending: Vec<Placed> = commands.into_iter().enumerate().collect();
    let mut wait: Option<Wait> = None;
    let sent_at = context.version_now();
    loop {
        // Subscribed before the attempt: a view that comes during it must end the pause after it.
        let mut views = context.view.subscribe();
        let view = Arc::clone(&views.borrow_and_update());
        let deadline =
            wait.as_ref().map_or_else(|| Instant::now() + context.settings.failover_wait_max, |w| w.deadline);
        pending = attempt(context, (codec, acks), &view, pending, (sent_at, deadline), &mut replies).await;
        if pending.is_empty() {
            return replies;
        }
        let wait = match &mut wait {
            Some(wait) => wait,
            none => match Wait::begin(context, pending.len(), deadline) {
                Ok(begun) => none.insert(begun),
                Err(refusal) => {
                    refuse(codec, &refusal, &pending, &mut replies);
                    return replies;
                }
            },
        };
        if Instant::now() >= deadline {
            Counters::add(&context.counters.unserved, pending.len());
            for (place, command) in pending {
                let partition = Partition::of(&command.key.0).number();
                let waited_ms =
                    u64::try_from(context.settings.failover_wait_max.as_millis()).unwrap_or(u64::MAX);
                refuse(
                    codec,
                    &Refusal::NoPrimary { partition, waited_ms },
                    &[(place, command)],
                    &mut replies,
                );
            }
            return replies;
        }
        let _ = timeout_at((Instant::now() + wait.pause).min(deadline), views.changed()).await;
        wait.pause = (wait.pause * 2).min(RETRY_AFTER_MAX);
    }
}

/// Carries out commands on the shards of this node alone; none: not served here.
pub async fn run_here(
    context: &Arc<Context>,
    codec: Codec,
    acks: &mut Acks,
    commands: Vec<KeyCommand>,
) -> Vec<Option<Bytes>> {
    let of = |command: &KeyCommand| Place::Shard(context.shard_of(Partition::of(&command.key.0)));
    run_at(context, codec, acks, commands, of).await
}

/// As [`run_here`], and copies that this node does not serve may answer what changes nothing.
pub async fn run_on_copies(
    context: &Arc<Context>,
    codec: Codec,
    commands: Vec<KeyCommand>,
) -> Vec<Option<Bytes>> {
    let of = |command: &KeyCommand| Place::Copy(context.shard_of(Partition::of(&command.key.0)));
    run_at(context, codec, &mut Acks::default(), commands, of).await
}

async fn run_at(
    context: &Arc<Context>,
    codec: Codec,
    acks: &mut Acks,
    commands: Vec<KeyCommand>,
    of: impl Fn(&KeyCommand) -> Place,
) -> Vec<Option<Bytes>> {
    let mut replies = vec![None; commands.len()];
    let placed = commands.into_iter().enumerate();
    let groups = start(context, codec, acks, group(placed, of));
    for (places, answers) in join(groups, acks).await {
        for (place, answer) in places.into_iter().zip(answers) {
            replies[place] = match answer {
                Answer::Reply(reply) => Some(reply),
                Answer::Moved(_) | Answer::Lost(_) => None,
            };
        }
    }
    replies
}

/// A wait for a primary to be replaced, counted while it lasts.
struct Wait {
    context: Arc<Context>,
    count: usize,
    deadline: Instant,
    pause: Duration,
}

impl Wait {
    fn begin(context: &Arc<Context>, count: usize, deadline: Instant) -> Result<Self, Refusal> {
        let waiting = context.counters.waiting.fetch_add(count, Ordering::AcqRel);
        let wait = Self { context: Arc::clone(context), count, deadline, pause: RETRY_AFTER_MIN };
        match waiting + count <= context.settings.waiting_max {
            true => Ok(wait),
            false => Err(Refusal::TooManyWaiting { waiting }),
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.context.counters.waiting.fetch_sub(self.count, Ordering::AcqRel);
    }
}

/// Sends all commands to where the view says, waits for the answers, and returns what is to be tried
/// again, in order.
async fn attempt(
    context: &Arc<Context>,
    (codec, acks): (Codec, &mut Acks),
    view: &View,
    pending: Vec<Placed>,
    (sent_at, deadline): (Version, Instant),
    replies: &mut [Bytes],
) -> Vec<Placed> {
    let of = |command: &KeyCommand| {
        let partition = Partition::of(&command.key.0);
        if !command.is_read() {
            acks.for_wait.add(partition);
        }
        match view.route(partition) {
            Some(node) if node == view.me() => Place::Shard(context.shard_of(partition)),
            Some(node) => Place::Node(node),
            None => Place::Nowhere,
        }
    };
    let mut again = Vec::new();
    let groups = group(pending.into_iter(), of);
    let groups = start(context, codec, acks, groups);
    for (places, answers) in join_until(groups, acks, deadline).await {
        for (place, answer) in places.into_iter().zip(answers) {
            match answer {
                Answer::Reply(reply) => replies[place] = reply,
                Answer::Moved(command) => again.push((place, command)),
                Answer::Lost(command) if command.is_idempotent() => {
                    again.push((place, command.repeated(sent_at)));
                }
                Answer::Lost(command) => refuse(codec, &Refusal::Unknown, &[(place, command)], replies),
            }
        }
    }
    again.sort_unstable_by_key(|(place, _)| *place);
    again
}

fn refuse(codec: Codec, refusal: &Refusal, pending: &[Placed], replies: &mut [Bytes]) {
    let mut bytes = Vec::new();
    protocol::encode_refusal(codec, refusal, &mut bytes);
    let bytes = Bytes::from(bytes);
    pending.iter().for_each(|(place, _)| replies[*place] = bytes.clone());
}

/// Commands by where they go; each group keeps their order.
fn group(
    placed: impl Iterator<Item = Placed>,
    mut of: impl FnMut(&KeyCommand) -> Place,
) -> Vec<(Place, Vec<usize>, Vec<KeyCommand>)> {
    let mut groups: Vec<(Place, Vec<usize>, Vec<KeyCommand>)> = Vec::new();
    for (place, command) in placed {
        let to = of(&command);
        match groups.iter_mut().find(|(known, _, _)| *known == to) {
            Some((_, places, commands)) => {
                places.push(place);
                commands.push(command);
            }
            None => groups.push((to, vec![place], vec![command])),
        }
    }
    groups
}

type Forwarding = Pin<Box<dyn Future<Output = Vec<Answer>> + Send>>;

/// A group under way.
enum Sent {
    /// A shard was free, and has carried them out.
    Done(Vec<Answer>),
    /// To a shard. The commands are kept: a shard that fails does not give them back.
    Shard(oneshot::Receiver<Replies>, Vec<KeyCommand>),
    /// To another node, while other groups are under way too.
    Node(tokio::task::JoinHandle<Vec<Answer>>, Arc<Vec<KeyCommand>>),
    /// To another node, and there is no other group: it needs no task of its own.
    OnlyNode(Forwarding, Arc<Vec<KeyCommand>>),
    Nowhere(Vec<KeyCommand>),
}

fn start(
    context: &Arc<Context>,
    codec: Codec,
    acks: &mut Acks,
    groups: Vec<(Place, Vec<usize>, Vec<KeyCommand>)>,
) -> Vec<(Vec<usize>, Sent)> {
    let is_alone = groups.len() == 1;
    let ack = acks.mode();
    let mut start_one = |to, commands: Vec<KeyCommand>| match to {
        Place::Shard(number) | Place::Copy(number) => {
            let may_read_copies = matches!(to, Place::Copy(_));
            let held = context.shards[number].try_hold(context, context.clocks.now());
            let (mut outcomes, mut bytes) = (Vec::with_capacity(commands.len()), Vec::new());
            let became = |outcome| outcomes.push(outcome);
            if let Some(mut held) = held
                && let Some(()) =
                    held.run_all(codec, commands.iter(), may_read_copies, (acks, &mut bytes), became)
            {
                held.let_go(acks);
                return Sent::Done(split(outcomes, &bytes.into(), &commands));
            }
            let (reply, replies) = oneshot::channel();
            let kept = commands.clone();
            context.shards[number].cast(shard::Message::Run(Batch {
                codec,
                commands,
                may_read_copies,
                ack,
                reply,
            }));
            Sent::Shard(replies, kept)
        }
        Place::Node(node) => {
            let kept = Arc::new(commands);
            let forwarding = forward(Arc::clone(context), node, (codec, ack), Arc::clone(&kept));
            match is_alone {
                true => Sent::OnlyNode(Box::pin(forwarding), kept),
                false => Sent::Node(tokio::spawn(forwarding), kept),
            }
        }
        Place::Nowhere => Sent::Nowhere(commands),
    };
    groups.into_iter().map(|(to, places, commands)| (places, start_one(to, commands))).collect()
}

async fn join(groups: Vec<(Vec<usize>, Sent)>, acks: &mut Acks) -> Vec<(Vec<usize>, Vec<Answer>)> {
    let mut joined = Vec::with_capacity(groups.len());
    for (places, sent) in groups {
        joined.push((places, sent.answers(acks).await));
    }
    joined
}

/// What another node has not answered at the deadline counts as lost.
async fn join_until(
    groups: Vec<(Vec<usize>, Sent)>,
    acks: &mut Acks,
    deadline: Instant,
) -> Vec<(Vec<usize>, Vec<Answer>)> {
    let mut joined = Vec::with_capacity(groups.len());
    for (places, sent) in groups {
        let answers = match sent {
            Sent::Node(mut answers, kept) => match timeout_at(deadline, &mut answers).await {
                Ok(answers) => answers.unwrap_or_else(|_| all(Answer::Lost, &kept)),
                Err(_) => {
                    // Or it would wait for as long as the link holds.
                    answers.abort();
                    all(Answer::Lost, &kept)
                }
            },
            Sent::OnlyNode(answers, kept) => {
                let answers = timeout_at(deadline, answers).await;
                answers.unwrap_or_else(|_| all(Answer::Lost, &kept))
            }
            // A shard always answers or drops the batch: it has run whatever the time.
            Sent::Done(_) | Sent::Shard(..) | Sent::Nowhere(_) => sent.answers(acks).await,
        };
        joined.push((places, answers));
    }
    joined
}

impl Sent {
    async fn answers(self, acks: &mut Acks) -> Vec<Answer> {
        match self {
            Sent::Done(answers) => answers,
            Sent::Shard(replies, kept) => match replies.await {
                Ok(replies) => {
                    acks.add(replies.acks);
                    split(replies.outcomes, &replies.bytes, &replies.commands)
                }
                Err(_) => all(Answer::Lost, &kept),
            },
            Sent::Node(answers, kept) => answers.await.unwrap_or_else(|_| all(Answer::Lost, &kept)),
            Sent::OnlyNode(answers, _) => answers.await,
            Sent::Nowhere(commands) => all(Answer::Moved, &commands),
        }
    }
}

/// The same has become of all.
fn all(answer: fn(KeyCommand) -> Answer, commands: &[KeyCommand]) -> Vec<Answer> {
    commands.iter().cloned().map(answer).collect()
}

fn split(outcomes: Vec<Outcome>, bytes: &Bytes, commands: &[KeyCommand]) -> Vec<Answer> {
    let mut start = 0;
    let answer = |(outcome, command): (Outcome, &KeyCommand)| match outcome {
        Outcome::Reply { end } => {
            // An end out of order can only come from a peer that is broken: an empty reply is safe.
            let end = (end as usize).clamp(start, bytes.len());
            let reply = bytes.slice(start..end);
            start = end;
            Answer::Reply(reply)
        }
        Outcome::Moved => Answer::Moved(command.clone()),
    };
    outcomes.into_iter().zip(commands).map(answer).collect()
}

/// Sends commands to the node that serves them, so many at a time that the replies fit a frame. The
/// next ones go out only when all before them are answered, or commands on one key could change places.
async fn forward(
    context: Arc<Context>,
    node: NodeId,
    how: (Codec, Ack),
    commands: Arc<Vec<KeyCommand>>,
) -> Vec<Answer> {
    let entry_bytes_max = context.settings.text.entry_bytes_max;
    if piece_len(&commands, entry_bytes_max) == commands.len() {
        return forward_piece(&context, node, how, commands).await;
    }
    let mut answers = Vec::with_capacity(commands.len());
    while let rest = &commands[answers.len()..]
        && !rest.is_empty()
    {
        let piece = Arc::new(rest[..piece_len(rest, entry_bytes_max)].to_vec());
        answers.extend(forward_piece(&context, node, how, piece).await);
        if answers.iter().any(|answer| !matches!(answer, Answer::Reply(_))) {
            answers.extend(all(Answer::Moved, &commands[answers.len()..]));
        }
    }
    answers
}

/// How many of these commands have replies that fit one frame for certain. A value may double when it
/// is encoded; all other replies are short.
fn piece_len(commands: &[KeyCommand], entry_bytes_max: usize) -> usize {
    let reads_max = (FORWARDED_VALUES_BYTES_MAX / entry_bytes_max).max(1);
    let mut reads = 0;
    let fits = |command: &&KeyCommand| {
        reads += command.values_answered();
        reads <= reads_max
    };
    commands.iter().take_while(fits).count().max(1)
}

async fn forward_piece(
    context: &Context,
    node: NodeId,
    (codec, ack): (Codec, Ack),
    commands: Arc<Vec<KeyCommand>>,
) -> Vec<Answer> {
    Counters::add(&context.counters.forwarded, commands.len());
    let Some(peer) = context.peers.find(node) else { return all(Answer::Moved, &commands) };
    let request = |id| Request::Forward { id, codec, ack, commands: Arc::clone(&commands) };
    let answer = match peer.link() {
        Some(link) => {
            let bytes = commands.iter().map(|command| COMMAND_BYTES + command.key.0.len()).sum();
            link.ask_sized(request, bytes).await
        }
        // Seldom, and not to be part of every forwarding's memory.
        None => Box::pin(relay::ask(context, &peer, commands.len(), request)).await,
    };
    match answer {
        Ok(Response::Forwarded { outcomes, replies, latest, .. }) if outcomes.len() == commands.len() => {
            context.observe(latest);
            split(outcomes, &replies.0, &commands)
        }
        // Nothing was sent.
        Err(PeerError::NoLink) => all(Answer::Moved, &commands),
        // The link is lost, or the peer is broken.
        Ok(_) | Err(_) => all(Answer::Lost, &commands),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Op;

    #[test]
    fn a_forwarded_piece_asks_for_no_more_than_a_frame_can_answer() {
        let key = Bytes::from_static(b"k");
        let get = KeyCommand::new(key.clone(), Op::Get);
        let set = KeyCommand::set(key, Bytes::new());
        let batch = |gets: usize| vec![get.clone(); gets];
        assert_eq!(piece_len(&batch(1_000), 65_536), 64);
        assert_eq!(piece_len(&batch(1_000), 1 << 20), 4);
        assert_eq!(piece_len(&batch(3), 1 << 20), 3);
        assert_eq!(piece_len(&vec![set; 1_000], 65_536), 1_000);
        const { assert!(2 * 4 * (1 << 20) < FRAME_BYTES_MAX) };
    }
}
