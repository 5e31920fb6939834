//! How many keys a shard serves, and one of them.

use crate::cluster::serving::STEP_VISITS_MAX;
use crate::cluster::serving::Serving;
use crate::store::Item;
use crate::store::ItemContent;
use crate::store::PartitionSet;
use crate::time::Timestamp;

/// Keys of the partitions that a node serves, those that have expired without being noticed included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// How many.
    pub keys: usize,
    /// How many of them expire.
    pub expiring: usize,
    /// Which partitions these are.
    pub partitions: PartitionSet,
}

impl Serving {
    /// Whether it serves exactly what it has of these partitions.
    pub fn serves_exactly(&self, expected: &PartitionSet) -> bool {
        self.partitions().all(|partition| expected.contains(partition) == self.primary.contains(partition))
    }

    /// How many keys there are in the partitions that the node serves.
    pub fn served(&self) -> Served {
        let mut served = Served { partitions: self.primary.clone(), ..Served::default() };
        for partition in self.primary.iter() {
            served.keys += self.store.len_of(partition);
            served.expiring += self.store.expiring_len_of(partition);
        }
        served
    }

    /// One of the keys that the node serves, chosen by a random number. None: there are none, or as many
    /// as one step may look at have expired.
    pub fn any_key(&self, random: u64, now: Timestamp) -> Option<&[u8]> {
        let mut skipped = random.checked_rem(self.served().keys as u64)? as usize;
        let (mut chosen, mut before) = (None, Vec::new());
        for partition in self.primary.iter() {
            let count = self.store.len_of(partition);
            match chosen {
                None if skipped < count => chosen = Some(partition),
                None => {
                    skipped -= count;
                    before.push(partition);
                }
                Some(_) => {}
            }
        }
        // From the chosen one on, and round again, for where it has expired.
        let chosen = chosen?;
        let from = self.primary.iter().filter(|partition| *partition >= chosen).chain(before);
        let items = from.flat_map(|partition| self.store.values_of(partition));
        let lives = |item: &Item<'_>| item.content.at(now) != ItemContent::Deleted;
        items.skip(skipped).take(STEP_VISITS_MAX).find(lives).map(|item| item.key)
    }
}
