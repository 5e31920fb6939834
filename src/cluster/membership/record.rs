//! Records: what a node says about itself to all others.
//!
//! A record is opaque here: the node, its generation, a revision and up to
//! [`RECORD_BYTES_MAX`] bytes. Rule kept here: of two records of one node the later generation
//! wins, then the greater revision; only a record that wins is passed on, so that relaying ends.
//!
//! Foca owns the handler of its broadcasts and never gives it back, so handler and driver share
//! a [`RecordBook`]; the lock around it is never contended and exists only to keep the driver `Send`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use bincode::Decode;
use bincode::Encode;
use foca::BroadcastHandler;
use foca::Invalidates;
use thiserror::Error;

use crate::cluster::membership::identity::Generation;
use crate::cluster::membership::identity::Identity;
use crate::cluster::membership::identity::NodeId;

/// The longest record: leaves room for foca's header and some updates in a datagram.
pub const RECORD_BYTES_MAX: usize = 900;
/// The most nodes whose records are remembered; those of further nodes are not taken.
pub const RECORDS_MAX: usize = 4_096;

/// Our own record cannot be sent. The one before stays in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("record of {bytes} bytes is longer than {RECORD_BYTES_MAX}")]
pub struct RecordTooLong {
    /// Its length.
    pub bytes: usize,
}

/// A record's header, and its key among foca's broadcasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct RecordHeader {
    pub(super) node: NodeId,
    pub(super) generation: Generation,
    pub(super) revision: u64,
}

impl RecordHeader {
    /// The encoded record of this header and these bytes.
    pub(super) fn seal(&self, bytes: &[u8]) -> Vec<u8> {
        // Three integers into a vector: encoding them cannot fail.
        let mut record = bincode::encode_to_vec(self, bincode::config::standard()).unwrap_or_default();
        record.extend_from_slice(bytes);
        record
    }

    /// The header and the bytes of an encoded record, if it is one.
    pub(super) fn open(record: &[u8]) -> Option<(Self, &[u8])> {
        let (header, length) = bincode::decode_from_slice(record, bincode::config::standard()).ok()?;
        let bytes = record.get(length..)?;
        (bytes.len() <= RECORD_BYTES_MAX).then_some((header, bytes))
    }

    const fn age(&self) -> (Generation, u64) {
        (self.generation, self.revision)
    }
}

impl Invalidates for RecordHeader {
    fn invalidates(&self, other: &Self) -> bool {
        self.node == other.node && self.age() >= other.age()
    }
}

/// The newest record of each node, and those that the shell has not yet seen.
#[derive(Debug, Default)]
pub(super) struct RecordBook {
    newest: BTreeMap<NodeId, RecordHeader>,
    fresh: Vec<(RecordHeader, Vec<u8>)>,
}

impl RecordBook {
    /// Takes a record in; whether it is newer than what was known.
    pub(super) fn take(&mut self, header: RecordHeader) -> bool {
        let is_known = self.newest.contains_key(&header.node);
        if !is_known && self.newest.len() >= RECORDS_MAX {
            return false;
        }
        let newest = self.newest.entry(header.node).or_insert(header);
        let is_newer = !is_known || header.age() > newest.age();
        if is_newer {
            *newest = header;
        }
        is_newer
    }

    /// Forgets a node.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.newest.remove(&node);
    }

    /// The records that are new since the last call.
    pub(super) fn drain_fresh(&mut self) -> Vec<(RecordHeader, Vec<u8>)> {
        std::mem::take(&mut self.fresh)
    }
}

/// The handle to the book that foca and the driver share.
#[derive(Clone, Debug)]
pub(super) struct SharedRecords {
    own: NodeId,
    book: Arc<Mutex<RecordBook>>,
}

impl SharedRecords {
    /// An empty book for the node `own`.
    pub(super) fn new(own: NodeId) -> Self {
        Self { own, book: Arc::default() }
    }

    /// The book. Nothing panics while holding it, so a poisoned lock holds a sound book.
    pub(super) fn book(&self) -> MutexGuard<'_, RecordBook> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Not a record. The rest of its packet is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("record is malformed")]
pub(super) struct MalformedRecord;

impl BroadcastHandler<Identity> for SharedRecords {
    type Key = RecordHeader;
    type Error = MalformedRecord;

    fn receive_item(
        &mut self,
        data: &[u8],
        sender: Option<&Identity>,
    ) -> Result<Option<RecordHeader>, MalformedRecord> {
        let (header, bytes) = RecordHeader::open(data).ok_or(MalformedRecord)?;
        // Others repeat our own record, perhaps one of a former life: we know better.
        if header.node == self.own && sender.is_some() {
            return Ok(None);
        }
        let mut book = self.book();
        if !book.take(header) {
            return Ok(None);
        }
        if header.node != self.own {
            book.fresh.push((header, bytes.to_vec()));
        }
        Ok(Some(header))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(node: u64, generation: u64, revision: u64) -> RecordHeader {
        let (node, generation) = (NodeId::from_raw(node), Generation::from_raw(generation));
        RecordHeader { node, generation, revision }
    }

    #[test]
    fn a_record_is_taken_once_and_only_if_newer() {
        let mut records = SharedRecords::new(NodeId::from_raw(1));
        let mut take = |generation, revision| {
            let record = header(2, generation, revision).seal(b"bytes");
            records.receive_item(&record, None).unwrap().is_some()
        };
        assert!(take(1, 5));
        assert!(!take(1, 5));
        assert!(!take(1, 4));
        assert!(take(1, 6));
        assert!(take(2, 0), "a later life begins its revisions anew");
        assert!(!take(1, 7));
        assert_eq!(records.book().drain_fresh().len(), 3);
    }

    #[test]
    fn what_others_say_about_us_is_not_taken() {
        let mut records = SharedRecords::new(NodeId::from_raw(1));
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let sender = Identity { node: NodeId::from_raw(2), generation: Generation::from_raw(1), addr };
        let record = header(1, 9, 9).seal(b"");
        assert_eq!(records.receive_item(&record, Some(&sender)), Ok(None));
        assert!(records.receive_item(&record, None).unwrap().is_some());
        assert!(records.book().drain_fresh().is_empty(), "our own is no news to the shell");
    }

    #[test]
    fn garbage_and_excess_are_refused() {
        let mut records = SharedRecords::new(NodeId::from_raw(1));
        assert_eq!(records.receive_item(b"\xff", None), Err(MalformedRecord));
        let long = header(2, 1, 1).seal(&[0; RECORD_BYTES_MAX + 1]);
        assert_eq!(records.receive_item(&long, None), Err(MalformedRecord));
        for node in 0..RECORDS_MAX as u64 {
            assert!(records.receive_item(&header(10 + node, 1, 1).seal(b""), None).unwrap().is_some());
        }
        assert_eq!(records.receive_item(&header(5, 1, 1).seal(b""), None), Ok(None));
    }
}
