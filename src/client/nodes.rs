//! The nodes that a client knows, which of them gets a call, and how that is kept current.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use tokio::sync::Notify;
use tokio::time::sleep;
use tokio::time::timeout;
use tracing::debug;
use tracing::info;

use crate::client::LOG_TARGET;
use crate::client::ReadFrom;
use crate::client::Settings;
use crate::client::connection;
use crate::client::connection::Connection;
use crate::client::map::Map;
use crate::client::pool::Pool;
use crate::client::request::Effect;
use crate::client::request::Request;

/// What is known at one time.
#[derive(Debug)]
pub(super) struct Known {
    pub map: Map,
    /// For each node of the map.
    pools: Vec<Arc<Pool>>,
    /// Of the addresses that the application gave, those that no node of the map has. They may lead to
    /// nodes by another way, or to whatever has taken their place.
    seeds: Vec<Arc<Pool>>,
}

/// The nodes of a client; all its copies share them.
#[derive(Debug)]
pub(super) struct Nodes {
    pub settings: Arc<Settings>,
    seeds: Vec<Arc<Pool>>,
    known: RwLock<Arc<Known>>,
    /// Whose turn it is, where any will do.
    turn: AtomicUsize,
    doubt: Notify,
}

impl Nodes {
    pub fn new(settings: Settings, seeds: Vec<String>) -> Arc<Self> {
        let settings = Arc::new(settings);
        let seeds: Vec<_> = seeds.into_iter().map(|seed| Pool::new(seed, &settings)).collect();
        let known = Known { map: Map::default(), pools: Vec::new(), seeds: seeds.clone() };
        Arc::new(Self {
            settings,
            seeds,
            known: RwLock::new(Arc::new(known)),
            turn: AtomicUsize::new(0),
            doubt: Notify::new(),
        })
    }

    pub fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The node that gets a request next, of those that it has not been sent to in vain; none: all have.
    pub fn pick(&self, request: &Request, tried: &[Arc<Pool>]) -> Option<Arc<Pool>> {
        let known = self.known();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let is_spread = self.settings.read_from == ReadFrom::Any && request.effect == Effect::Read;
        known.pick(request, turn, is_spread, tried).cloned()
    }

    /// Says that what is known may be wrong: it is looked at soon.
    pub fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Learns the nodes and the ring from the first node that tells.
    pub async fn learn(&self) -> io::Result<()> {
        let mut teacher = None;
        self.refresh(&mut teacher).await
    }

    /// Looks again and again what has changed.
    pub async fn keep_current(nodes: Arc<Self>) {
        let interval = nodes.settings.refresh_interval;
        // It also bounds how often doubt is followed.
        let pause = nodes.settings.backoff_max.min(interval);
        let mut teacher = None;
        loop {
            sleep(pause).await;
            // Doubt or not, it is time then.
            let _ = timeout(interval.saturating_sub(pause), nodes.doubt.notified()).await;
            nodes.look_after_all().await;
            if let Err(error) = nodes.refresh(&mut teacher).await {
                debug!(target: LOG_TARGET, %error, "no node says who is where");
            }
        }
    }

    async fn look_after_all(&self) {
        let known = self.known();
        let pools = known.pools.iter().chain(&known.seeds);
        let due = pools.clone().filter(|pool| pool.is_due()).map(|pool| pool.look_after());
        futures_util::future::join_all(due).await;
        pools.for_each(|pool| pool.sweep());
    }

    /// Asks the node that was asked before, or another one.
    async fn refresh(&self, teacher: &mut Option<Connection>) -> io::Result<()> {
        let wait_max = self.settings.connect_wait_max;
        if let Some(mut connection) = teacher.take()
            && let Ok(Ok(())) = timeout(wait_max, self.take_from(&mut connection)).await
        {
            *teacher = Some(connection);
            return Ok(());
        }
        let known = self.known();
        let all = || known.pools.iter().chain(&known.seeds);
        let mut order: Vec<_> = all().filter(|pool| pool.is_well()).collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let first = turn % order.len().max(1);
        order.rotate_left(first);
        order.extend(all().filter(|pool| !pool.is_well()));
        let mut reason = io::Error::other("no address is known");
        for pool in order {
            let ask = async {
                let mut connection = Connection::open(pool.address()).await?;
                self.take_from(&mut connection).await?;
                io::Result::Ok(connection)
            };
            match timeout(wait_max, ask).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(connection) => {
                    *teacher = Some(connection);
                    return Ok(());
                }
                Err(error) => {
                    pool.fail(&error);
                    reason = io::Error::new(error.kind(), format!("{}: {error}", pool.address()));
                }
            }
        }
        Err(reason)
    }

    /// What one node says becomes what is known. The ring is asked for only if it has changed.
    async fn take_from(&self, connection: &mut Connection) -> io::Result<()> {
        let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
        let nodes = lines(connection, "NODES").await?;
        let map = match self.known().map.with_nodes(&nodes) {
            Some(map) => map,
            None => {
                let ring = lines(connection, "RING").await?;
                Map::new(&nodes, &ring).map_err(invalid)?
            }
        };
        self.set(map);
        Ok(())
    }

    fn set(&self, map: Map) {
        let before = self.known();
        if map == before.map {
            return;
        }
        let pools: HashMap<&str, &Arc<Pool>> =
            self.seeds.iter().chain(&before.pools).map(|pool| (pool.address(), pool)).collect();
        let pool = |address: &String| match pools.get(address.as_str()) {
            Some(pool) => Arc::clone(pool),
            None => Pool::new(address.clone(), &self.settings),
        };
        let pools: Vec<_> = map.nodes.iter().map(|node| pool(&node.address)).collect();
        let is_other = |seed: &&Arc<Pool>| !pools.iter().any(|pool| pool.address() == seed.address());
        let seeds = self.seeds.iter().filter(is_other).cloned().collect();
        let names: Vec<_> = map.nodes.iter().map(|node| format!("{} {}", node.name, node.state)).collect();
        if map.view != before.map.view {
            info!(target: LOG_TARGET, nodes = names.join(", "), view = map.view, "ring changed");
        }
        let known = Arc::new(Known { map, pools, seeds });
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
    }
}

impl Known {
    /// The holders of the key come first, its primary before its replicas unless reads are spread; then
    /// all others, beginning with another one each time. In that order the first one that is well, or
    /// else the first.
    fn pick(
        &self,
        request: &Request,
        turn: usize,
        is_spread: bool,
        tried: &[Arc<Pool>],
    ) -> Option<&Arc<Pool>> {
        let holders = request.partition.map_or(&[][..], |partition| self.map.holders(partition));
        let first = if is_spread && !holders.is_empty() { turn % holders.len() } else { 0 };
        let holders =
            holders.iter().cycle().skip(first).take(holders.len()).map(|holder| &self.pools[*holder]);
        let others = self.pools.iter().cycle().skip(turn % self.pools.len().max(1)).take(self.pools.len());
        let is_tried = |pool: &Arc<Pool>| tried.iter().any(|tried| Arc::ptr_eq(tried, pool));
        let all = holders.chain(others).chain(&self.seeds).filter(|pool| !is_tried(pool));
        let is_fine = |pool: &&Arc<Pool>| pool.is_well() && self.is_up(pool);
        all.clone()
            .find(is_fine)
            .or_else(|| all.clone().find(|pool| pool.is_well()))
            .or_else(|| all.clone().next())
    }

    fn is_up(&self, pool: &Arc<Pool>) -> bool {
        let position = self.pools.iter().position(|other| Arc::ptr_eq(other, pool));
        position.is_none_or(|position| self.map.nodes[position].is_up())
    }
}

async fn lines(connection: &mut Connection, command: &str) -> io::Result<String> {
    let answer = connection.ask(&[command]).await?;
    let said = format!("{command} is answered {answer:?}");
    connection::text(answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, said))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Partition;

    const NODES: &str = "a alive client=h:1 primaries=0 replicas=0 view=7\n\
                         b alive client=h:2 primaries=0 replicas=0 view=7\n\
                         c dead client=h:3 primaries=0 replicas=0 view=7\n\
                         d alive client=h:4 primaries=0 replicas=0 view=7";

    fn known(ring: &str) -> Known {
        let settings = Arc::new(Settings::default());
        let map = Map::new(NODES, ring).unwrap();
        let pools = map.nodes.iter().map(|node| Pool::new(node.address.clone(), &settings)).collect();
        Known { map, pools, seeds: vec![Pool::new("seed".to_owned(), &settings)] }
    }

    fn request(key: Option<&'static [u8]>) -> Request {
        Request { wire: Vec::new(), effect: Effect::Read, partition: key.map(Partition::of) }
    }

    /// Where a request goes, one after the other, if nobody answers.
    fn order(known: &Known, request: &Request, turn: usize, is_spread: bool) -> Vec<String> {
        let mut tried = Vec::new();
        while let Some(pool) = known.pick(request, turn, is_spread, &tried) {
            tried.push(Arc::clone(pool));
        }
        tried.iter().map(|pool| pool.address().to_owned()).collect()
    }

    #[test]
    fn a_key_goes_to_its_primary_then_to_replicas_then_to_others_and_to_the_dead_last() {
        let known = known("0-4095 primary=b replicas=c,a");
        assert_eq!(order(&known, &request(Some(b"k")), 0, false), ["h:2", "h:1", "h:4", "seed", "h:3"]);
        known.pools[1].fail(&io::Error::other("broken"));
        assert_eq!(order(&known, &request(Some(b"k")), 0, false), ["h:1", "h:4", "seed", "h:3", "h:2"]);
    }

    #[test]
    fn reads_are_spread_over_all_copies_in_turn() {
        let known = known("0-4095 primary=b replicas=a");
        let first = |turn| order(&known, &request(Some(b"k")), turn, true)[0].clone();
        assert_eq!((first(0), first(1), first(2)), ("h:2".to_owned(), "h:1".to_owned(), "h:2".to_owned()));
        known.pools[0].fail(&io::Error::other("broken"));
        assert_eq!((first(0), first(1)), ("h:2".to_owned(), "h:2".to_owned()));
    }

    #[test]
    fn what_has_no_key_goes_to_all_nodes_in_turn() {
        let known = known("0-4095 primary=b replicas=a");
        let first = |turn| order(&known, &request(None), turn, false)[0].clone();
        assert_eq!((first(0), first(1), first(3)), ("h:1".to_owned(), "h:2".to_owned(), "h:4".to_owned()));
        let nothing = Known { map: Map::default(), pools: Vec::new(), seeds: known.seeds.clone() };
        assert_eq!(order(&nothing, &request(Some(b"k")), 5, true), ["seed"]);
    }
}
