//! The driver around foca: inputs in, [`Output`]s out, everything in between on one schedule.
//!
//! Every input runs in the same order: notice a stall, let foca react, then settle: take over its
//! timers, datagrams and member list. The shell hands in the packets it has received before it
//! calls [`Membership::handle_time`], so that no timer outruns an answer that is already there.

use std::collections::BTreeMap;
use std::time::Duration;

use foca::Codec;
use foca::Error;
use foca::Foca;
use foca::Header;
use foca::Member;
use foca::Notification;
use foca::PostcardCodec;
use foca::State;
use foca::Timer;
use rand::rngs::StdRng;

use crate::cluster::membership::Bond;
use crate::cluster::membership::Meeting;
use crate::cluster::membership::MemberView;
use crate::cluster::membership::MembershipSettings;
use crate::cluster::membership::MembershipStats;
use crate::cluster::membership::Output;
use crate::cluster::membership::horizon::Horizon;
use crate::cluster::membership::identity::ClusterId;
use crate::cluster::membership::identity::Generation;
use crate::cluster::membership::identity::Identity;
use crate::cluster::membership::identity::NodeId;
use crate::cluster::membership::packet::Kind;
use crate::cluster::membership::packet::PacketError;
use crate::cluster::membership::packet::open;
use crate::cluster::membership::record::RECORD_BYTES_MAX;
use crate::cluster::membership::record::RecordHeader;
use crate::cluster::membership::record::RecordTooLong;
use crate::cluster::membership::record::SharedRecords;
use crate::cluster::membership::schedule::Schedule;
use crate::cluster::membership::schedule::Task;
use crate::cluster::membership::suspicion::Suspicion;
use crate::cluster::membership::view::View;
use crate::time::Moment;

/// How often a node that is alone knocks at others, and stray suspicions are cleared up.
pub(super) const TEND_PERIOD: Duration = Duration::from_millis(500);
/// Every member gets our record again within this time, or later in large clusters.
pub(super) const RECORD_ROUND_MIN: Duration = Duration::from_secs(2);

/// What foca asked for during one call.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) sends: Vec<(Identity, Vec<u8>)>,
    pub(super) timers: Vec<(Timer<Identity>, Duration)>,
}

impl foca::Runtime<Identity> for Collected {
    // The member list says more: see `View`.
    fn notify(&mut self, _: Notification<'_, Identity>) {}

    fn send_to(&mut self, to: Identity, data: &[u8]) {
        self.sends.push((to, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Identity>, after: Duration) {
        self.timers.push((event, after));
    }
}

/// One node's part in the membership protocol. See the module for its rules.
///
/// A node whose clock went back starts with a generation that the others hold for a former life.
/// They tell it of the one they know, and it goes on with the generation after that.
pub struct Membership {
    pub(super) cluster: ClusterId,
    pub(super) settings: MembershipSettings,
    pub(super) identity: Identity,
    pub(super) foca: Foca<Identity, PostcardCodec, StdRng, SharedRecords>,
    pub(super) collected: Collected,
    pub(super) schedule: Schedule,
    pub(super) view: View,
    pub(super) suspicions: BTreeMap<NodeId, Suspicion>,
    /// The identities that we were told to join through.
    pub(super) seeds: BTreeMap<NodeId, Identity>,
    pub(super) knock_cursor: usize,
    pub(super) records: SharedRecords,
    pub(super) own_bytes: Option<Vec<u8>>,
    pub(super) own_record: Option<Vec<u8>>,
    pub(super) revision: u64,
    pub(super) record_cursor: Option<NodeId>,
    /// When the last valid packet came, from whomever.
    pub(super) heard: Moment,
    /// When our present life began.
    pub(super) life_since: Moment,
    pub(super) outbid: Option<Moment>,
    /// Until when deaths may be taken back: see `forgive`.
    pub(super) cut_off_until: Moment,
    pub(super) member_count: usize,
    pub(super) horizon: Horizon,
    /// Those that were said to be kept out.
    pub(super) kept_out: BTreeMap<NodeId, Generation>,
    /// It has left, or it has to begin anew.
    pub(super) has_left: bool,
    pub(super) stats: MembershipStats,
}

impl Membership {
    /// A node that knows nobody yet. The settings must have passed their check.
    pub fn new(
        identity: Identity,
        cluster: ClusterId,
        settings: MembershipSettings,
        rng: StdRng,
        now: Moment,
    ) -> Self {
        let records = SharedRecords::new(identity.node);
        let config = settings.config(1);
        let foca = Foca::with_custom_broadcast(identity, config, rng, PostcardCodec, records.clone());
        let mut schedule = Schedule::default();
        schedule.add(now + TEND_PERIOD, Task::Tend);
        schedule.add(now + RECORD_ROUND_MIN, Task::SendRecord);
        let horizon = Horizon::new(identity, settings.away_max, now);
        schedule.add(now + horizon.period(), Task::Stamp);
        Self {
            cluster,
            settings,
            identity,
            foca,
            collected: Collected::default(),
            schedule,
            view: View::default(),
            suspicions: BTreeMap::new(),
            seeds: BTreeMap::new(),
            knock_cursor: 0,
            records,
            own_bytes: None,
            own_record: None,
            revision: 0,
            record_cursor: None,
            heard: now,
            life_since: now,
            outbid: None,
            cut_off_until: Moment::default(),
            member_count: 0,
            horizon,
            kept_out: BTreeMap::new(),
            has_left: false,
            stats: MembershipStats::default(),
        }
    }

    /// A datagram arrived. An error says why it was dropped; it is already counted.
    pub fn handle_packet(
        &mut self,
        bytes: &[u8],
        now: Moment,
        out: &mut Vec<Output>,
    ) -> Result<(), PacketError> {
        if self.has_left {
            return Ok(());
        }
        self.notice_stall(now, out);
        self.stats.packets_in += 1;
        self.stats.bytes_in += bytes.len() as u64;
        let result = match open(self.cluster, bytes) {
            Ok((Kind::Gossip, bond, payload)) => self.take_gossip(payload, &bond, now, out),
            Ok((Kind::Record, bond, payload)) => self.take_record(payload, &bond, now, out),
            Ok((Kind::Bond, _, payload)) => self.take_bond(payload, now, out),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            *self.stats.dropped.entry(error).or_default() += 1;
        }
        result
    }

    /// Does what is due. To be called at [`Membership::deadline`], after all packets that have
    /// arrived by then.
    pub fn handle_time(&mut self, now: Moment, out: &mut Vec<Output>) {
        self.notice_stall(now, out);
        while let Some(task) = self.schedule.next_due(now) {
            match task {
                Task::Foca(timer) => self.run_timer(timer, now, out),
                Task::Accuse(node) => self.conclude(node, now, out),
                Task::Press(node) => self.press_on(node, now, out),
                Task::Tend => self.tend(now, out),
                Task::SendRecord => self.send_record_round(now, out),
                Task::Stamp => self.stamp(now),
            }
        }
    }

    /// When [`Membership::handle_time`] wants to be called next; never again after leaving.
    pub fn deadline(&self) -> Option<Moment> {
        self.schedule.deadline()
    }

    /// Joins through a node whose identity was learned by a handshake. Remembered: should we be
    /// alone now or later, we knock there again.
    pub fn announce(&mut self, identity: Identity, now: Moment, out: &mut Vec<Output>) {
        if self.has_left || identity.node == self.identity.node {
            return;
        }
        self.seeds.insert(identity.node, identity);
        let result = self.foca.announce(identity, &mut self.collected);
        self.note_error(result);
        self.settle(now, out);
    }

    /// Proof that this life's process is gone: it is down at once, here and with all others.
    /// Ignored if a later life is known.
    pub fn peer_gone(&mut self, identity: Identity, now: Moment, out: &mut Vec<Output>) {
        let is_news = self.view.node(identity.node).is_none_or(|known| {
            known.identity.generation < identity.generation
                || (known.identity == identity && known.state != State::Down)
        });
        if self.has_left || identity.node == self.identity.node || !is_news {
            return;
        }
        let update = Member::down(identity);
        let result = self.foca.apply_many(std::iter::once(update.clone()), true, &mut self.collected);
        self.note_error(result);
        let result = self.foca.gossip(&mut self.collected);
        self.note_error(result);
        self.settle(now, out);
        self.tell_all(update, out);
    }

    /// Says something new about ourselves to all members, those to come included.
    pub fn set_record(
        &mut self,
        bytes: &[u8],
        now: Moment,
        out: &mut Vec<Output>,
    ) -> Result<(), RecordTooLong> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(RecordTooLong { bytes: bytes.len() });
        }
        self.own_bytes = Some(bytes.to_vec());
        if !self.has_left {
            self.publish_record();
            let result = self.foca.broadcast(&mut self.collected);
            self.note_error(result);
            self.settle(now, out);
        }
        Ok(())
    }

    /// Leaves for good: tells everybody. Nothing that arrives afterwards has any effect.
    pub fn leave(&mut self, now: Moment, out: &mut Vec<Output>) {
        if self.has_left {
            return;
        }
        let farewell = Member::down(self.identity);
        let result = self.foca.leave_cluster(&mut self.collected);
        self.note_error(result);
        self.settle(now, out);
        // Nobody repeats it for us once we are gone: twice, against loss.
        self.tell_all(farewell.clone(), out);
        self.tell_all(farewell, out);
        self.has_left = true;
        self.schedule.clear();
    }

    /// Forgets a node that is down, and no longer tries to reach it.
    pub fn forget(&mut self, node: NodeId) {
        let Some(identity) = self.view.node(node).map(|known| known.identity) else { return };
        if self.view.forget(&identity) {
            self.schedule.remove(|task| matches!(task, Task::Foca(Timer::RemoveDown(id)) if id.node == node));
            self.seeds.remove(&node);
            self.records.book().forget(node);
            let result = self.foca.handle_timer(Timer::RemoveDown(identity), &mut self.collected);
            self.note_error(result);
        }
    }

    /// The members that are alive or suspect, by node, without ourselves.
    pub fn members(&self) -> impl Iterator<Item = MemberView> + '_ {
        self.view.active()
    }

    /// When the last packet came from this node, in whatever life.
    pub fn heard_from(&self, node: NodeId) -> Option<Moment> {
        self.view.heard(node)
    }

    /// Our identity. Its generation grows when we rejoin.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Counters since the start.
    pub fn stats(&self) -> &MembershipStats {
        &self.stats
    }

    fn take_gossip(
        &mut self,
        payload: &[u8],
        bond: &Bond,
        now: Moment,
        out: &mut Vec<Output>,
    ) -> Result<(), PacketError> {
        let header: Header<Identity> =
            PostcardCodec.decode_header(payload).map_err(|_| PacketError::Malformed)?;
        if !self.lets_in(header.src, bond, now, out) {
            return Ok(());
        }
        let is_healing = self.forgive(&header, now);
        let result = self.foca.handle_data(payload, &mut self.collected);
        let is_malformed = matches!(result, Err(Error::Decode(_) | Error::MalformedPacket));
        self.note_error(result);
        self.settle(now, out);
        self.listen(&header, bond, now);
        self.heard = now;
        self.view.hear(header.src.node, now);
        self.note_voice(&header.src);
        if is_healing {
            self.knock(now, out);
        }
        if is_malformed { Err(PacketError::Malformed) } else { Ok(()) }
    }

    fn take_record(
        &mut self,
        payload: &[u8],
        bond: &Bond,
        now: Moment,
        out: &mut Vec<Output>,
    ) -> Result<(), PacketError> {
        let (header, _) = RecordHeader::open(payload).ok_or(PacketError::Malformed)?;
        // About us, it is an echo of a former life or from an impostor.
        if header.node != self.identity.node && self.horizon.judge(bond, now) == Meeting::Near {
            let result = self.foca.add_broadcast(payload).map(drop);
            self.note_error(result);
            self.settle(now, out);
        }
        Ok(())
    }

    fn run_timer(&mut self, timer: Timer<Identity>, now: Moment, out: &mut Vec<Output>) {
        let is_probe = matches!(timer, Timer::ProbeRandomMember(_));
        if let Timer::RemoveDown(identity) = &timer
            && self.view.forget(identity)
        {
            self.records.book().forget(identity.node);
        }
        let result = self.foca.handle_timer(timer.clone(), &mut self.collected);
        // A probe that fails to be sent would be the last one: foca starts the next timer after it.
        let has_next = self.collected.timers.iter().any(|(t, _)| matches!(t, Timer::ProbeRandomMember(_)));
        if is_probe && !has_next && matches!(result, Err(Error::Encode(_))) {
            self.collected.timers.push((timer, self.settings.probe_period));
        }
        self.note_error(result);
        self.settle(now, out);
    }

    /// If our timers are late we were away: what we have not heard proves nothing then. (1) The
    /// probe under way and all suspicions get their full time again, (2) everything else runs now,
    /// (3) we speak, so that whoever holds us for dead says so.
    pub(super) fn notice_stall(&mut self, now: Moment, out: &mut Vec<Output>) {
        let lateness = self.deadline().map(|due| now.since(due)).unwrap_or_default();
        if lateness <= self.settings.stall_threshold() {
            return;
        }
        let settings = &self.settings;
        self.schedule.shift(|task, due| match task {
            Task::Foca(Timer::SendIndirectProbe { .. }) => now + settings.probe_rtt,
            Task::Foca(Timer::ProbeRandomMember(_)) => now + settings.probe_period,
            // Later, too: an announcement that overtakes the gossip of (3) looks like that of a node
            // beyond a split, whose death may be taken back without its learning of it.
            Task::Accuse(_) | Task::Foca(Timer::PeriodicAnnounce(_)) => now + settings.suspicion,
            Task::Foca(_) | Task::Press(_) | Task::Tend | Task::SendRecord | Task::Stamp => due.max(now),
        });
        let members = u32::try_from(self.member_count + 1).unwrap_or(u32::MAX);
        let recovery = settings.probe_period.saturating_mul(members) + settings.suspicion + TEND_PERIOD;
        self.horizon.stand_still(lateness, recovery, now);
        self.suspicions.values_mut().for_each(|suspicion| suspicion.put_off(now + settings.suspicion));
        self.heard = now;
        self.stats.stalls += 1;
        out.push(Output::Stalled { for_: lateness });
        let result = self.foca.gossip(&mut self.collected);
        self.note_error(result);
        self.settle(now, out);
    }

    /// Takes over what foca has done since the last time.
    pub(super) fn settle(&mut self, now: Moment, out: &mut Vec<Output>) {
        if *self.foca.identity() != self.identity {
            self.take_new_identity(now, out);
        }
        for (header, bytes) in self.records.book().drain_fresh() {
            let RecordHeader { node, generation, revision } = header;
            out.push(Output::Record { node, generation, revision, bytes });
        }
        let told = out.len();
        let foca = &self.foca;
        let rival = self.view.compare(|| foca.iter_membership_state(), self.identity.node, now, out);
        let newcomers: Vec<Identity> = out[told..].iter().filter_map(newcomer).collect();
        for (timer, after) in std::mem::take(&mut self.collected.timers) {
            self.plan(timer, after, now, out);
        }
        self.forward_sends(out);
        // Directly, since others no longer repeat a record that they have all heard.
        newcomers.into_iter().for_each(|identity| self.send_record(identity, out));
        self.suspicions.retain(|_, suspicion| suspicion.is_open(&self.view));
        self.note_member_count(out);
        if let Some(rival) = rival {
            self.outbid(rival, now, out);
        }
    }

    fn plan(&mut self, timer: Timer<Identity>, after: Duration, now: Moment, out: &mut Vec<Output>) {
        match timer {
            Timer::ChangeSuspectToDown { member_id, incarnation, .. } => {
                self.raise_suspicion(member_id, incarnation, now, out);
            }
            Timer::RemoveDown(identity) => {
                // Only the latest counts, or a node that keeps dying would fill the schedule.
                let node = identity.node;
                self.schedule
                    .remove(|task| matches!(task, Task::Foca(Timer::RemoveDown(id)) if id.node == node));
                self.schedule.add(now + after, Task::Foca(timer));
            }
            Timer::ProbeRandomMember(_)
            | Timer::SendIndirectProbe { .. }
            | Timer::PeriodicAnnounce(_)
            | Timer::PeriodicAnnounceDown(_)
            | Timer::PeriodicGossip(_) => self.schedule.add(now + after, Task::Foca(timer)),
        }
    }

    fn note_member_count(&mut self, out: &mut Vec<Output>) {
        let before = std::mem::replace(&mut self.member_count, self.foca.num_members());
        if before == self.member_count {
            return;
        }
        match (before, self.member_count) {
            (0, _) => out.push(Output::Joined),
            (_, 0) => out.push(Output::Alone),
            (_, _) => {}
        }
        let result = self.foca.set_config(self.settings.config(self.member_count + 1));
        self.note_error(result);
    }

    pub(super) fn note_error(&mut self, result: Result<(), Error>) {
        let Err(error) = result else { return };
        let kind = match error {
            Error::DataTooBig => "data too big",
            Error::NotUndead => "not undead",
            Error::SameIdentity => "same identity",
            Error::NotConnected => "not connected",
            Error::IncompleteProbeCycle => "incomplete probe cycle",
            Error::DataFromOurselves => "data from ourselves",
            Error::IndirectForOurselves => "indirect for ourselves",
            Error::MalformedPacket => "malformed packet",
            Error::Encode(_) => "encode",
            Error::Decode(_) => "decode",
            Error::CustomBroadcast(_) => "custom broadcast",
            Error::InvalidConfig => "invalid config",
        };
        *self.stats.errors.entry(kind).or_default() += 1;
    }
}

fn newcomer(output: &Output) -> Option<Identity> {
    match output {
        Output::Alive(identity) => Some(*identity),
        Output::Send { .. }
        | Output::Suspect(_)
        | Output::Refuted(_)
        | Output::Down(_)
        | Output::Check(_)
        | Output::Record { .. }
        | Output::Rejoined(_)
        | Output::Yield { .. }
        | Output::KeptOut { .. }
        | Output::Stalled { .. }
        | Output::Alone
        | Output::Joined => None,
    }
}
