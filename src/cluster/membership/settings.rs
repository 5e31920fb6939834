//! How fast membership reacts, and the bounds within which that works.
//!
//! Rule kept here: settings that pass [`MembershipSettings::check`] make a detector that neither
//! accuses before an answer can be back nor sends more often than a node can bear.

use std::num::NonZeroU8;
use std::num::NonZeroUsize;
use std::time::Duration;

use foca::Config;
use foca::PeriodicParams;
use thiserror::Error;

use crate::cluster::membership::packet::PAYLOAD_BYTES_MAX;

/// Members asked to probe in our stead, and members that each round of gossip reaches.
///
/// Gossip goes out only while there is something to tell, so an idle cluster pays nothing for it.
const FAN_OUT: NonZeroUsize = NonZeroUsize::new(3).expect("three is not zero");
/// How often members that are down are told that we are here, so that a healed split is noticed.
const ANNOUNCE_TO_DOWN_PERIOD: Duration = Duration::from_secs(1);
/// How often a random member is asked for all members it knows, against gossip that was lost.
const ANNOUNCE_PERIOD: Duration = Duration::from_secs(5);
/// How long a dead identity is remembered, unless it is forgotten on purpose.
const REMOVE_DOWN_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// Timers that fire later than this mean that this node, not the others, was away.
const STALL_MAX: Duration = Duration::from_millis(100);
/// Who was apart for longer comes back empty, unless a setting says otherwise.
const AWAY_MAX: Duration = Duration::from_secs(600);
/// The least that a setting can say.
pub const AWAY_MAX_MIN: Duration = Duration::from_secs(2);
/// Small clusters need more repetitions than SWIM's logarithm grants them.
const TRANSMISSIONS_MIN: f64 = 8.0;

/// The four times that make up the failure detector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipSettings {
    /// How often one member is probed. A silent death is noticed after one or two of these.
    pub probe_period: Duration,
    /// How long a direct answer may take before others are asked to probe.
    pub probe_rtt: Duration,
    /// How long a suspect has to refute before it is declared down.
    pub suspicion: Duration,
    /// How often news are passed on while there are any.
    pub gossip_period: Duration,
    /// Who is apart from the others for longer comes back without what it had.
    pub away_max: Duration,
}

/// A setting is out of its bound. The node does not start.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("membership {setting} is {value:?} but must be {relation} {bound:?}")]
pub struct SettingsError {
    /// The setting's name.
    pub setting: &'static str,
    /// Its value.
    pub value: Duration,
    /// How the value must relate to the bound.
    pub relation: &'static str,
    /// The bound.
    pub bound: Duration,
}

impl Default for MembershipSettings {
    fn default() -> Self {
        Self::from_millis(150, 40, 300, 30)
    }
}

impl MembershipSettings {
    /// For networks that lose or delay many packets: a death is known after about two seconds.
    pub const fn cautious() -> Self {
        Self::from_millis(500, 150, 1_000, 100)
    }

    /// For a quiet local network: a death is known after about three tenths of a second.
    pub const fn fast() -> Self {
        Self::from_millis(80, 20, 150, 15)
    }

    const fn from_millis(probe_period: u64, probe_rtt: u64, suspicion: u64, gossip_period: u64) -> Self {
        Self {
            probe_period: Duration::from_millis(probe_period),
            probe_rtt: Duration::from_millis(probe_rtt),
            suspicion: Duration::from_millis(suspicion),
            gossip_period: Duration::from_millis(gossip_period),
            away_max: AWAY_MAX,
        }
    }

    /// Refuses settings with which detection does not work, naming the first that is wrong.
    pub fn check(&self) -> Result<(), SettingsError> {
        let Self { probe_period, probe_rtt, suspicion, gossip_period, away_max } = *self;
        at_least("probe_rtt", probe_rtt, Duration::from_millis(1))?;
        // A direct answer and then an indirect one must fit into a period.
        at_least("probe_period", probe_period, probe_rtt.saturating_mul(2))?;
        at_most("probe_period", probe_period, Duration::from_secs(60))?;
        at_least("suspicion", suspicion, probe_period)?;
        at_most("suspicion", suspicion, Duration::from_secs(300))?;
        at_least("gossip_period", gossip_period, Duration::from_millis(5))?;
        at_most("gossip_period", gossip_period, probe_period)?;
        // A death must be known for a while before it can matter how long it is ago.
        at_least("away_max", away_max, AWAY_MAX_MIN)
    }

    /// How late a timer may fire before this node blames itself instead of others.
    pub fn stall_threshold(&self) -> Duration {
        STALL_MAX.min(self.suspicion / 2)
    }

    /// How long tombstones are kept: longer than anybody may be apart, so that who comes back just in time
    /// still gets them with what it pulls.
    pub fn tombstone_age_max(&self) -> Duration {
        self.away_max * 3 / 2
    }

    /// Foca's configuration for a cluster of this many nodes.
    pub(super) fn config(&self, node_count: usize) -> Config {
        let every = |frequency, num_members| Some(PeriodicParams { frequency, num_members });
        Config {
            probe_period: self.probe_period,
            probe_rtt: self.probe_rtt,
            num_indirect_probes: FAN_OUT,
            max_transmissions: transmissions(node_count),
            suspect_to_down_after: self.suspicion,
            remove_down_after: Some(REMOVE_DOWN_AFTER),
            max_packet_size: NonZeroUsize::new(PAYLOAD_BYTES_MAX).unwrap_or(NonZeroUsize::MIN),
            notify_down_members: true,
            periodic_announce: every(ANNOUNCE_PERIOD, NonZeroUsize::MIN),
            periodic_announce_to_down_members: every(ANNOUNCE_TO_DOWN_PERIOD, FAN_OUT),
            periodic_gossip: every(self.gossip_period, FAN_OUT),
        }
    }
}

/// How often each piece of news is repeated: `max(8, 4·log10(N+1)+4)`.
pub(super) fn transmissions(node_count: usize) -> NonZeroU8 {
    let node_count = f64::from(u32::try_from(node_count).unwrap_or(u32::MAX));
    let wanted = (4.0 * (node_count + 1.0).log10() + 4.0).ceil().max(TRANSMISSIONS_MIN);
    // At most 4·log10(2^32)+4 = 43: the cast neither truncates nor yields zero.
    NonZeroU8::new(wanted as u8).unwrap_or(NonZeroU8::MIN)
}

fn at_least(setting: &'static str, value: Duration, bound: Duration) -> Result<(), SettingsError> {
    match value >= bound {
        true => Ok(()),
        false => Err(SettingsError { setting, value, relation: "at least", bound }),
    }
}

fn at_most(setting: &'static str, value: Duration, bound: Duration) -> Result<(), SettingsError> {
    match value <= bound {
        true => Ok(()),
        false => Err(SettingsError { setting, value, relation: "at most", bound }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_pass_their_check() {
        assert_eq!(MembershipSettings::default().check(), Ok(()));
        assert_eq!(MembershipSettings::cautious().check(), Ok(()));
        assert_eq!(MembershipSettings::fast().check(), Ok(()));
    }

    #[test]
    fn a_refusal_names_the_setting_its_value_and_its_bound() {
        let settings = MembershipSettings { suspicion: Duration::from_millis(100), ..Default::default() };
        assert_eq!(
            settings.check().unwrap_err().to_string(),
            "membership suspicion is 100ms but must be at least 150ms"
        );
        let settings = MembershipSettings { gossip_period: Duration::from_secs(1), ..Default::default() };
        assert_eq!(
            settings.check().unwrap_err().to_string(),
            "membership gossip_period is 1s but must be at most 150ms"
        );
    }

    #[test]
    fn small_clusters_repeat_their_news_at_least_eight_times() {
        assert_eq!(transmissions(1).get(), 8);
        assert_eq!(transmissions(3).get(), 8);
        assert_eq!(transmissions(30).get(), 10);
        assert_eq!(transmissions(1_000).get(), 17);
        assert_eq!(transmissions(usize::MAX).get(), 43);
    }
}
