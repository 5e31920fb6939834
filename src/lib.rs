//! CacheGopher: a distributed in-memory key-value cache that puts availability before consistency.
//!
//! # Floors
//!
//! `bin` > { [`node`], [`client`] } > { [`protocol`], [`cluster`] } > [`command`] > [`store`] > [`time`].
//! A file names only floors below its own; `cluster-tests/tidy.rs` keeps that rule. Everything below
//! `node` and `client` is plain values: no tokio, no actor, no socket, no clock, no log.
//!
//! # Glossary
//!
//! | word | meaning |
//! |---|---|
//! | node | a process |
//! | member | a node as another one sees it |
//! | generation | one life of a node, from start (or rejoin) to end; the later one is greater |
//! | peer link | the TCP connection that one node dials to another |
//! | slot | CRC16 of the key (or its `{tag}`) modulo 16384, as Redis Cluster defines it |
//! | partition | four neighbouring slots; the unit of placement, copying and failover |
//! | ring | which nodes each partition prefers, computed from the nodes and their weights alone |
//! | preference list | all nodes in the order in which a partition prefers them, loads bounded per rank |
//! | copies | the first RF live members of the preference list |
//! | acknowledged | answered: by the primary alone, or (mode `replicated`) when the replica that would take over has it |
//! | synced | a node holds everything of a partition that its primary had |
//! | primary, replica | the first live synced node of the preference list; the other copies |
//! | promotion | a replica becomes primary because those before it are dead or unsynced |
//! | hand-over | a primary gives a partition to another live node, stopping first |
//! | pull | a node asks another for all entries of some partitions newer than a version |
//! | record | what a node says about itself to all others: addresses, weight, synced partitions |
//! | view | the ownership of all partitions as one node computes it at one time |
//! | shard | the actor that owns some of a node's partitions: tables, one LRU order, one budget |
//! | version | hybrid logical clock on every entry and tombstone; the greater wins everywhere |
//! | tenure | what a shard knows only because it serves its partitions: leases, marks; void when they move |
//! | lease | the right of one caller to set a key that many miss |
//! | digest | what a copy of a partition holds, in a few numbers; copies with the same one are alike |
//! | tombstone | what a delete leaves behind, so that an older copy cannot bring the key back |

pub mod client;
pub mod cluster;
pub mod command;
pub mod node;
pub mod protocol;
pub mod store;
pub mod time;
