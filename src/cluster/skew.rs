//! How far the clock of another node is from ours: versions come from wall clocks, so one that is far
//! ahead wins over writes that are really later.

use crate::time::Timestamp;

/// A node whose clock is further off than this cannot join.
pub const SKEW_MAX_MS: u64 = 60_000;
/// From here on it is a warning.
pub const SKEW_WARNED_MS: u64 = 500;

/// How many milliseconds another clock is ahead of ours: it said `theirs` in answer to what we sent at
/// `sent`, which we had at `received`. What may be due to the way there and back is taken off.
pub fn certain_skew(sent: Timestamp, received: Timestamp, theirs: Timestamp) -> i64 {
    let theirs = signed(theirs);
    let (earliest, latest) = (signed(sent), signed(received).max(signed(sent)));
    match theirs {
        ahead if ahead > latest => ahead - latest,
        behind if behind < earliest => behind - earliest,
        _ => 0,
    }
}

/// Whether clocks that are so far apart, one way or the other, are too far apart to join.
pub fn is_too_far(ahead_ms: i64) -> bool {
    ahead_ms.unsigned_abs() > SKEW_MAX_MS
}

/// Whether that is worth a warning.
pub fn is_worth_a_warning(ahead_ms: i64) -> bool {
    ahead_ms.unsigned_abs() > SKEW_WARNED_MS
}

fn signed(time: Timestamp) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn what_the_way_may_have_taken_is_no_skew() {
        assert_eq!(certain_skew(at(1_000), at(1_400), at(1_200)), 0);
        assert_eq!(certain_skew(at(1_000), at(1_400), at(1_401)), 1);
        assert_eq!(certain_skew(at(1_000), at(1_400), at(900)), -100);
        // Our own clock was set back meanwhile.
        assert_eq!(certain_skew(at(1_000), at(500), at(1_000)), 0);
    }

    #[test]
    fn a_minute_is_not_too_far_and_more_is_either_way() {
        assert!(!is_too_far(60_000) && !is_too_far(-60_000));
        assert!(is_too_far(60_001) && is_too_far(-60_001));
        assert!(is_too_far(certain_skew(at(0), at(0), at(u64::MAX))));
        assert!(!is_worth_a_warning(-500) && is_worth_a_warning(-501));
    }
}
