//! Whether a link is stuck: something is awaited on it, and nothing comes.
//!
//! A line may swallow what is sent without a word, and TCP itself would find out after a quarter of an hour. So
//! somebody looks at each link again and again. One that is silent while something is awaited is asked for a sign of
//! life; one that stays silent is given up, and what was awaited goes another way. Two rules:
//!
//! - A peer may stand still for as long as nobody takes its place: a link is given up later than that.
//! - Silence counts only while it is looked at: if much time has passed between two looks, then it was this process
//!   that stood still.
//!
//! A link that was given up and could be made again at once was only slow: the next one is given more time.

use std::time::Duration;

use crate::time::Moment;

/// How often links are looked at.
pub const LOOK_PERIOD: Duration = Duration::from_millis(50);
/// What the time between two looks counts for at most.
const LOOK_MAX: Duration = Duration::from_millis(100);
/// After so long a silence the peer is asked for a sign of life, at each look.
const ASK_AFTER: Duration = Duration::from_millis(100);
/// The patience with a slow line, in multiples of what an ordinary one gets.
const PATIENCE_MAX: u32 = 4;
/// How long it is remembered that a line is slow.
const SLOW_FOR: Duration = Duration::from_secs(30);

/// What is found of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nothing is awaited, or something has come.
    Fine,
    /// It is to be asked for a sign of life.
    Silent,
    /// It is to be given up.
    Stuck {
        /// Since when nothing has come.
        since: Moment,
    },
}

/// Looks at a link.
#[derive(Debug, Default)]
pub struct Vigil {
    last: Option<Look>,
    silence: Option<Silence>,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    at: Moment,
    heard: u64,
}

#[derive(Clone, Copy, Debug)]
struct Silence {
    since: Moment,
    counted: Duration,
}

impl Vigil {
    /// A look at the link. `heard` is another number whenever something has come.
    pub fn look(&mut self, now: Moment, heard: u64, is_awaited: bool, patience: Duration) -> Finding {
        let last = self.last.replace(Look { at: now, heard });
        let Some(last) = last.filter(|last| is_awaited && last.heard == heard) else {
            self.silence = None;
            return Finding::Fine;
        };
        // What is awaited since the last look may have been asked for just now.
        let Some(silence) = &mut self.silence else {
            self.silence = Some(Silence { since: now, counted: Duration::ZERO });
            return Finding::Fine;
        };
        silence.counted += now.since(last.at).min(LOOK_MAX);
        match silence.counted {
            counted if counted >= patience => Finding::Stuck { since: silence.since },
            counted if counted >= ASK_AFTER => Finding::Silent,
            _ => Finding::Fine,
        }
    }
}

/// How long the links to one peer may be silent.
#[derive(Debug)]
pub struct Patience {
    factor: u32,
    gave_up: Option<Moment>,
    linked: Moment,
}

impl Default for Patience {
    fn default() -> Self {
        Self { factor: 1, gave_up: None, linked: Moment::default() }
    }
}

impl Patience {
    /// How long a link may be silent now, if that is what an ordinary one may be.
    pub fn limit(&self, now: Moment, ordinary: Duration) -> Duration {
        match now.since(self.linked) {
            age if age < SLOW_FOR => ordinary * self.factor,
            _ => ordinary,
        }
    }

    /// A link was given up.
    pub fn gave_up(&mut self, now: Moment) {
        self.gave_up = Some(now);
    }

    /// A link was made.
    pub fn linked(&mut self, now: Moment, ordinary: Duration) {
        if let Some(gave_up) = self.gave_up.take() {
            let was_slow = now.since(gave_up) < ordinary;
            self.factor = if was_slow { (2 * self.factor).min(PATIENCE_MAX) } else { 1 };
            self.linked = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(550);

    fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    /// What is found at looks at these times while nothing comes.
    fn found(vigil: &mut Vigil, looks: impl IntoIterator<Item = u64>) -> Vec<Finding> {
        looks.into_iter().map(|millis| vigil.look(at(millis), 7, true, PATIENCE)).collect()
    }

    #[test]
    fn a_link_on_which_nothing_comes_is_asked_and_then_given_up() {
        let found = found(&mut Vigil::default(), (0..=12).map(|look| 1_000 + 50 * look));
        assert_eq!(found[..3], [Finding::Fine; 3]);
        assert_eq!(found[3..12], [Finding::Silent; 9]);
        assert_eq!(found[12], Finding::Stuck { since: at(1_050) });
    }

    #[test]
    fn whatever_comes_and_the_end_of_all_waiting_begin_it_anew() {
        let mut vigil = Vigil::default();
        found(&mut vigil, (0..11).map(|look| 50 * look));
        assert_eq!(vigil.look(at(550), 8, true, PATIENCE), Finding::Fine, "something has come");
        let mut vigil = Vigil::default();
        found(&mut vigil, (0..11).map(|look| 50 * look));
        assert_eq!(vigil.look(at(550), 7, false, PATIENCE), Finding::Fine, "nothing is awaited");
        let after = found(&mut vigil, (12..15).map(|look| 50 * look));
        assert_eq!(after, [Finding::Fine, Finding::Fine, Finding::Silent]);
    }

    #[test]
    fn a_stall_of_ones_own_counts_as_a_look_and_no_more() {
        let mut vigil = Vigil::default();
        let found = found(&mut vigil, [0, 50, 100, 5_000]);
        assert_eq!(found[3], Finding::Silent);
        assert_eq!(vigil.look(at(5_050), 8, true, PATIENCE), Finding::Fine, "the answer was there");
    }

    #[test]
    fn a_line_that_is_only_slow_is_given_more_time_for_a_while() {
        let mut patience = Patience::default();
        let limit = |patience: &Patience, millis| patience.limit(at(millis), PATIENCE).as_millis();
        patience.linked(at(1_000), PATIENCE);
        assert_eq!(limit(&patience, 1_000), 550, "the first link says nothing");
        for (number, expected) in [(2, 1_100), (3, 2_200), (4, 2_200)] {
            patience.gave_up(at(1_000 * number));
            patience.linked(at(1_000 * number + 300), PATIENCE);
            assert_eq!(limit(&patience, 1_000 * number + 400), expected);
        }
        assert_eq!(limit(&patience, 40_000), 550, "that was long ago");
        patience.gave_up(at(50_000));
        patience.linked(at(53_000), PATIENCE);
        assert_eq!(limit(&patience, 53_000), 550, "the line was cut");
    }
}
