//! WAIT: how many replicas have all that a connection has written.
//!
//! A connection remembers in which partitions it has written, and since when: a bit for each write, looked
//! at only when it says WAIT. Then the primary of each partition puts a mark into its streams to the nodes
//! that would take over from it. A stream is in order, so that who acknowledges the mark has acknowledged
//! the writes, but for two cases, which do not count:
//!
//! 1. The stream was dropped since the write, and began anew. The write may be in neither part; it comes by
//!    the pull that the gap leads to. That stream counts again when the pull is done.
//! 2. The primary serves the partition only since the write. It may have taken over before it got the write,
//!    and nobody else can say. The answer is 0, at once, and these writes are not asked for again.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio::time::sleep_until;
use tokio::time::timeout_at;

use crate::cluster::membership::NodeId;
use crate::cluster::outgoing::Outgoing;
use crate::cluster::peer::Request;
use crate::cluster::peer::Response;
use crate::cluster::peer::Spread;
use crate::cluster::serving::Serving;
use crate::cluster::view::View;
use crate::command::server::Wait;
use crate::node::context::Context;
use crate::node::peers::Mark;
use crate::node::redirect::Scope;
use crate::node::relay;
use crate::node::shard;
use crate::store::Partition;
use crate::store::PartitionSet;

/// The longest wait, also of who wants to wait for ever: a client that is gone is not to be waited for.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How long who wants to wait for nobody lets the replicas answer that have everything already.
const AT_ONCE_WAIT: Duration = Duration::from_millis(20);
/// After that long the primaries are asked again: others may be primaries meanwhile, or replicas.
const STEP_WAIT_MAX: Duration = Duration::from_millis(500);
/// How much longer the answer of another node may take.
const ANSWER_WAIT: Duration = Duration::from_millis(200);
/// Between two attempts that end at once.
const PAUSE: Duration = Duration::from_millis(20);

/// What a connection has written and does not know to be on all replicas.
#[derive(Debug, Default)]
pub struct Written(Option<Writes>);

/// Writes to some partitions.
#[derive(Clone, Debug)]
pub struct Writes {
    /// Which.
    pub partitions: PartitionSet,
    /// None is older.
    pub since: Instant,
}

impl Written {
    /// Something is written.
    #[inline]
    pub fn add(&mut self, partition: Partition) {
        self.writes().partitions.insert(partition);
    }

    /// All that there is is written.
    pub fn add_all(&mut self) {
        self.writes().partitions = PartitionSet::full();
    }

    #[inline]
    fn writes(&mut self) -> &mut Writes {
        self.0.get_or_insert_with(|| Writes { partitions: PartitionSet::new(), since: Instant::now() })
    }
}

/// Since when a shard serves its partitions.
#[derive(Debug, Default)]
pub struct Terms(BTreeMap<Partition, Instant>);

impl Terms {
    /// It serves these from now on.
    pub fn keep(&mut self, served: &PartitionSet) {
        let now = Instant::now();
        self.0.retain(|partition, _| served.contains(*partition));
        served.iter().for_each(|partition| {
            self.0.entry(partition).or_insert(now);
        });
    }

    /// Who has what was written to the shard's partitions.
    pub fn lines(&self, writes: &Writes, serving: &Serving, is_its: impl Fn(Partition) -> bool) -> Lines {
        let mut lines = Lines::default();
        for partition in writes.partitions.iter().filter(|partition| is_its(*partition)) {
            match self.0.get(&partition) {
                Some(since) if *since <= writes.since => {
                    lines.nodes.insert(serving.successors(partition).collect());
                    lines.served_since = lines.served_since.max(Some(*since));
                }
                Some(_) => lines.is_unknown = true,
                None => lines.is_elsewhere = true,
            }
        }
        lines
    }
}

/// What one shard says of writes to its partitions.
#[derive(Debug, Default)]
pub struct Lines {
    /// Who would take over from this node, for each of the partitions; each list is there once.
    pub nodes: BTreeSet<Vec<NodeId>>,
    /// A partition is not served here.
    pub is_elsewhere: bool,
    /// A partition is served here only since it was written to.
    pub is_unknown: bool,
    /// Since when all others are, at the latest.
    pub served_since: Option<Instant>,
}

/// How far writes have spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copies {
    /// So many replicas have them, where they are the fewest.
    pub count: usize,
    /// Whether these are all.
    pub spread: Spread,
}

/// What holds for writes that are not older than something on which it relies.
#[derive(Clone, Copy, Debug)]
pub struct Relied {
    /// How far they have spread.
    pub copies: Copies,
    /// When the youngest term of a primary or stream that was counted began; none: there is none.
    pub since: Option<Instant>,
}

impl Copies {
    const NONE: Self = Self { count: 0, spread: Spread::Partly };

    /// Both together.
    fn with(self, other: Self) -> Self {
        Self { count: self.count.min(other.count), spread: self.spread.max(other.spread) }
    }
}

impl Relied {
    const NONE: Self = Self { copies: Copies::NONE, since: None };
}

/// Waits until so many replicas have what the connection has written, and says how many have it.
pub async fn wait(context: &Arc<Context>, scope: Scope, written: &mut Written, wait: Wait) -> usize {
    let Some(writes) = written.0.take() else { return replica_count(&context.current_view(), scope) };
    let is_brief = wait.is_at_once || wait.replicas == 0;
    let wait_max = match wait.timeout {
        _ if is_brief => AT_ONCE_WAIT,
        Some(timeout) => timeout.min(WAIT_MAX),
        None => WAIT_MAX,
    };
    let deadline = Instant::now() + wait_max;
    // Who wants none is told of all that answer in that time.
    let wanted = if wait.replicas == 0 { usize::MAX } else { wait.replicas };
    let mut news = context.hang_up.subscribe();
    let mut copies = Copies::NONE;
    loop {
        let step = Instant::now() + STEP_WAIT_MAX;
        let pause = Instant::now() + PAUSE;
        copies = tokio::select! {
            copies = copies_of(context, &writes, wanted, deadline.min(step)) => copies,
            // A node that stops answers what it knows.
            _ = news.wait_for(|news| news.is_stopping) => break,
        };
        let is_enough = copies.count >= wanted || is_brief || copies.spread == Spread::Unknown;
        if is_enough || Instant::now() >= deadline {
            break;
        }
        sleep_until(pause.min(deadline)).await;
    }
    match copies.spread {
        Spread::Everywhere => {}
        Spread::Partly => written.0 = Some(writes),
        Spread::Unknown => return 0,
    }
    copies.count
}

/// How many replicas every key has.
pub fn replica_count(view: &View, scope: Scope) -> usize {
    let is_meant = |partition: &Partition| scope == Scope::Cluster || view.is_primary(*partition);
    let count = |partition| {
        let primary = view.primary(partition);
        view.complete_copies(partition).filter(|node| Some(*node) != primary).count()
    };
    Partition::all().filter(is_meant).map(count).min().unwrap_or_default()
}

/// Which replicas have what was written: returns when all have it that can have it by then. Partly: or a
/// stream to one was dropped, or a primary could not be asked.
pub async fn spread(context: &Arc<Context>, writes: &Writes, until: Instant) -> Spread {
    copies_of(context, writes, usize::MAX, until).await.spread
}

/// Asks the primaries of the partitions that were written to.
async fn copies_of(context: &Arc<Context>, writes: &Writes, wanted: usize, until: Instant) -> Copies {
    let view = context.current_view();
    let mut by_primary: Vec<(NodeId, PartitionSet)> = Vec::new();
    for partition in writes.partitions.iter() {
        let Some(primary) = view.primary(partition) else { return Copies::NONE };
        match by_primary.iter_mut().find(|(known, _)| *known == primary) {
            Some((_, partitions)) => drop(partitions.insert(partition)),
            None => by_primary.push((primary, PartitionSet::from_iter([partition]))),
        }
    }
    let ask = |(node, partitions): (NodeId, PartitionSet)| {
        let (context, here) = (Arc::clone(context), view.me());
        let writes = Writes { partitions, since: writes.since };
        tokio::spawn(async move {
            match node == here {
                true => copies_here(&context, writes, wanted, until).await.copies,
                false => copies_there(&context, node, writes, wanted, until).await,
            }
        })
    };
    let asked: Vec<_> = by_primary.into_iter().map(ask).collect();
    let mut copies = Copies { count: usize::MAX, spread: Spread::Everywhere };
    for answer in asked {
        copies = copies.with(answer.await.unwrap_or(Copies::NONE));
    }
    copies
}

async fn copies_there(
    context: &Context,
    node: NodeId,
    writes: Writes,
    wanted: usize,
    until: Instant,
) -> Copies {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let wait_ms = millis(until.saturating_duration_since(Instant::now()));
    let age_ms = millis(writes.since.elapsed());
    let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
    let partitions = writes.partitions;
    let request = |id| Request::AwaitCopies { id, partitions: partitions.clone(), age_ms, wanted, wait_ms };
    let asked = relay::ask_any_way(context, node, request);
    let Ok(Ok(Response::Copied { count, spread, holds_us, .. })) =
        timeout_at(until + ANSWER_WAIT, asked).await
    else {
        return Copies::NONE;
    };
    // While the question was on its way the writes became older than it says: what the answer relies on may
    // be younger than they are. It holds for what is older than this even if it took no time to come back.
    let holds_since = Instant::now().checked_sub(Duration::from_micros(holds_us));
    match holds_since.is_none_or(|since| since <= writes.since) || spread == Spread::Unknown {
        true => Copies { count: count as usize, spread },
        false => Copies::NONE,
    }
}

/// As another node asks for it.
pub async fn copies_for(
    context: &Context,
    partitions: PartitionSet,
    age_ms: u64,
    wanted: u32,
    wait_ms: u64,
) -> Relied {
    let now = Instant::now();
    // Older than this machine: so are all its streams younger.
    let Some(since) = now.checked_sub(Duration::from_millis(age_ms)) else { return Relied::NONE };
    let until = now + Duration::from_millis(wait_ms).min(STEP_WAIT_MAX);
    copies_here(context, Writes { partitions, since }, wanted as usize, until).await
}

/// Waits until as many nodes as wanted have acknowledged writes to partitions that this node serves.
async fn copies_here(context: &Context, writes: Writes, wanted: usize, until: Instant) -> Relied {
    let writes = Arc::new(writes);
    let mut asked = Vec::with_capacity(context.shards.len());
    for shard in &context.shards {
        let (reply, answer) = oneshot::channel();
        shard.cast(shard::Message::Lines(Arc::clone(&writes), reply));
        asked.push(answer);
    }
    let (mut nodes, mut served_since) = (BTreeSet::new(), None);
    for answer in asked {
        let Ok(lines) = answer.await else { return Relied::NONE };
        match lines {
            Lines { is_elsewhere: true, .. } => return Relied::NONE,
            Lines { is_unknown: true, .. } => {
                return Relied { copies: Copies { count: 0, spread: Spread::Unknown }, since: None };
            }
            lines => {
                nodes.extend(lines.nodes);
                served_since = served_since.max(lines.served_since);
            }
        }
    }
    let mut marks = Marks::put(context, &writes, nodes);
    let _ = timeout_at(until, poll_fn(|task| marks.poll(task, wanted))).await;
    Relied { copies: marks.copies(), since: served_since.max(marks.reached.values().copied().max()) }
}

/// Marks behind writes, in the streams to the nodes that would take over.
struct Marks {
    lines: BTreeSet<Vec<NodeId>>,
    waiting: Vec<(NodeId, oneshot::Receiver<Instant>)>,
    /// Since when these streams have lost nothing of what is asked for.
    reached: BTreeMap<NodeId, Instant>,
}

impl Marks {
    fn put(context: &Context, writes: &Arc<Writes>, lines: BTreeSet<Vec<NodeId>>) -> Self {
        let nodes: BTreeSet<NodeId> = lines.iter().flatten().copied().collect();
        let (mut sent, mut waiting) = (Vec::new(), Vec::new());
        for node in nodes {
            let (reached, mark) = oneshot::channel();
            sent.push((node, Mark { reached, behind: Some(Arc::clone(writes)) }));
            waiting.push((node, mark));
        }
        context.peers.stream_marked(&Outgoing::new(), sent);
        Self { lines, waiting, reached: BTreeMap::new() }
    }

    /// Ready when as many as wanted are reached everywhere, or nothing more is waited for.
    fn poll(&mut self, task: &mut std::task::Context<'_>, wanted: usize) -> Poll<()> {
        let reached = &mut self.reached;
        self.waiting.retain_mut(|(node, mark)| match Pin::new(mark).poll(task) {
            Poll::Pending => true,
            Poll::Ready(known) => {
                // Dropped: nobody knows.
                reached.extend(known.ok().map(|whole_since| (*node, whole_since)));
                false
            }
        });
        let is_enough = self.waiting.is_empty() || self.copies().count >= wanted;
        if is_enough { Poll::Ready(()) } else { Poll::Pending }
    }

    fn copies(&self) -> Copies {
        let count = |line: &Vec<NodeId>| line.iter().filter(|node| self.reached.contains_key(node)).count();
        let count_min = self.lines.iter().map(count).min().unwrap_or_default();
        // Where there is no replica at present, there will be one.
        let is_everywhere = self.lines.iter().all(|line| count(line) == line.len().max(1));
        let spread = if is_everywhere { Spread::Everywhere } else { Spread::Partly };
        Copies { count: count_min, spread }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Marks for these lines, and who answers them.
    fn marks(lines: &[&[u64]]) -> (Marks, Vec<(u64, oneshot::Sender<Instant>)>) {
        let lines: BTreeSet<Vec<NodeId>> =
            lines.iter().map(|line| line.iter().copied().map(NodeId::from_raw).collect()).collect();
        let nodes: BTreeSet<NodeId> = lines.iter().flatten().copied().collect();
        let (mut waiting, mut sent) = (Vec::new(), Vec::new());
        for node in nodes {
            let (reached, mark) = oneshot::channel();
            waiting.push((node, mark));
            sent.push((node.as_raw(), reached));
        }
        (Marks { lines, waiting, reached: BTreeMap::new() }, sent)
    }

    /// What has come of them by now.
    fn looked_at(marks: &mut Marks, wanted: usize) -> (bool, Copies) {
        let mut task = std::task::Context::from_waker(std::task::Waker::noop());
        (marks.poll(&mut task, wanted).is_ready(), marks.copies())
    }

    #[test]
    fn what_counts_is_where_the_fewest_have_it() {
        let (mut marks, mut sent) = marks(&[&[1, 2], &[2, 3]]);
        assert_eq!(looked_at(&mut marks, 1), (false, Copies { count: 0, spread: Spread::Partly }));
        let mut answer = |node: u64| {
            let place = sent.iter().position(|(sent, _)| *sent == node).unwrap();
            sent.remove(place).1.send(Instant::now()).unwrap();
        };
        answer(1);
        assert_eq!(looked_at(&mut marks, 1), (false, Copies { count: 0, spread: Spread::Partly }));
        answer(2);
        assert_eq!(looked_at(&mut marks, 1), (true, Copies { count: 1, spread: Spread::Partly }));
        assert!(!looked_at(&mut marks, 2).0);
        answer(3);
        assert_eq!(looked_at(&mut marks, 2), (true, Copies { count: 2, spread: Spread::Everywhere }));
    }

    #[test]
    fn a_mark_that_is_lost_counts_for_nobody_and_is_not_waited_for() {
        let (mut marks, sent) = marks(&[&[1]]);
        drop(sent);
        assert_eq!(looked_at(&mut marks, 1), (true, Copies { count: 0, spread: Spread::Partly }));
        let (mut nobody, _) = self::marks(&[&[]]);
        assert_eq!(looked_at(&mut nobody, 1), (true, Copies { count: 0, spread: Spread::Partly }));
    }

    #[test]
    fn parts_of_writes_are_as_far_as_the_least_of_them() {
        let everywhere = Copies { count: 2, spread: Spread::Everywhere };
        let unknown = Copies { count: 0, spread: Spread::Unknown };
        assert_eq!(everywhere.with(Copies::NONE), Copies::NONE);
        assert_eq!(Copies::NONE.with(unknown), unknown);
        assert_eq!(unknown.with(everywhere), unknown);
    }
}
