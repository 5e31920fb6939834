//! Who is there: membership and failure detection.
//!
//! [`Membership`] drives foca 2.0.0 (SWIM with suspicion). It is a plain value: packets, times and
//! evidence go in, [`Output`]s come out; the shell moves the packets and reads the clock. Rules
//! that it keeps, beyond SWIM's own:
//!
//! 1. Who has refuted is not accused: foca's timer would tell a member that has long refuted that
//!    it is down. A suspicion ends in death only if the suspect is still the same life, of the same
//!    incarnation, and still suspect. It hears of the suspicion from us directly, several times.
//! 2. Who is alone keeps knocking: at the nodes it was told of and at those it knew before.
//! 3. News are repeated `max(8, 4·log10(N+1)+4)` times, and a death also goes to everybody at once.
//! 4. Who was away blames itself: timers that fire late are armed anew instead of accusing. Who
//!    hears nothing from three or more others doubts its own ears first.
//! 5. A death by timeout alone asks for one check by TCP, which runs beside the suspicion. An
//!    answer, or a packet from the suspect, puts the death off a bounded number of times.
//! 6. The shell hears of a node's former life ending before it hears of the next one beginning,
//!    and, where the network keeps the order, gets the new life's record before either.
//! 7. After a split only the smaller side has to begin new lives; a node that was stopped and given
//!    up always does.
//! 8. Nothing is learned from packets that are corrupt or another cluster's; foca's errors are
//!    counted and end nothing.
//! 9. A node that has left does not come back, whatever it receives.
//! 10. Who was apart for longer than tombstones are kept does not come back with what it has: nothing
//!     that it says is heard, and if its side is the one to yield, it begins anew. See [`bond`].

mod bond;
mod driver;
mod horizon;
mod identity;
mod lives;
mod meeting;
mod packet;
mod record;
mod schedule;
mod sending;
mod settings;
mod suspicion;
mod view;

#[cfg(test)]
mod apart;
#[cfg(test)]
pub(in crate::cluster) mod simulation;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::time::Moment;

pub use bond::Bond;
pub use bond::Meeting;
pub use driver::Membership;
pub use identity::ClusterId;
pub use identity::Generation;
pub use identity::Identity;
pub use identity::NodeId;
pub use packet::DATAGRAM_BYTES_MAX;
pub use packet::PacketError;
pub use record::RECORD_BYTES_MAX;
pub use record::RecordTooLong;
pub use settings::AWAY_MAX_MIN;
pub use settings::MembershipSettings;
pub use settings::SettingsError;

/// What the shell is to do, or to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this datagram.
    Send {
        /// Where to.
        to: SocketAddr,
        /// The whole datagram.
        bytes: Vec<u8>,
    },
    /// A member is there, for the first time, in a new life, or in the same life after all.
    Alive(Identity),
    /// Somebody could not reach this member; it counts as alive until it is down.
    Suspect(Identity),
    /// A suspect has answered.
    Refuted(Identity),
    /// This life of a member is over: it died, left, or a later life has begun. Only a node that
    /// was itself cut off may see the same life again.
    Down(Identity),
    /// Verify by TCP that this member is alive, and call [`Membership::peer_answered`] if so. A
    /// stopped process still accepts connections: only an answer from the process counts.
    Check(Identity),
    /// A node says something new about itself. May come before the [`Output::Alive`] of its life:
    /// to be kept by node and generation, whether that life is known or not.
    Record {
        /// The node.
        node: NodeId,
        /// The life in which it said so.
        generation: Generation,
        /// Greater than that of all records of this life reported before.
        revision: u64,
        /// What it says.
        bytes: Vec<u8>,
    },
    /// The others had declared us down: this is our new identity, already announced.
    Rejoined(Identity),
    /// This node was apart from this member for longer than it may be, and its side is the one that
    /// yields: whatever it has is to be dropped, and it joins anew. Nothing else has any effect.
    Yield {
        /// For how long, about.
        away: Duration,
        /// A member of the other side.
        to: Identity,
    },
    /// This member was apart for so long that it does not come in with what it has. Said once.
    KeptOut {
        /// For how long, about.
        away: Duration,
        /// Who.
        identity: Identity,
    },
    /// This node was away for about this long.
    Stalled {
        /// How late the timers were.
        for_: Duration,
    },
    /// The last other member is gone.
    Alone,
    /// The first other member is there.
    Joined,
}

/// What this node holds of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberState {
    /// It answers, or nobody has noticed that it does not.
    Alive,
    /// Somebody could not reach it. It counts as alive.
    Suspect,
}

/// A member as this node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// Who.
    pub identity: Identity,
    /// In which state.
    pub state: MemberState,
    /// When the last packet came from it directly.
    pub heard: Option<Moment>,
}

/// Counters since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MembershipStats {
    /// Datagrams that came in, dropped ones included.
    pub packets_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Datagrams that went out.
    pub packets_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Datagrams dropped, by reason.
    pub dropped: BTreeMap<PacketError, u64>,
    /// Foca's errors, by kind. None of them ends anything.
    pub errors: BTreeMap<&'static str, u64>,
    /// Suspicions raised by this node.
    pub suspicions: u64,
    /// Deaths declared by this node after a suspicion.
    pub accusations: u64,
    /// Suspicions put off: the suspect answered by TCP or was heard, or we heard nobody at all.
    pub reprieves: u64,
    /// Times that this node was away.
    pub stalls: u64,
    /// Times that this node was declared down and came back.
    pub rejoins: u64,
}
