//! When a write is acknowledged.

use bincode::Decode;
use bincode::Encode;

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum Ack {
    /// When the primary has it.
    #[default]
    Async,
    /// When the replica that would take over has it too, if one can be reached.
    Replicated,
}

impl Ack {
    /// The mode of that name, in any case.
    pub fn of_name(name: &[u8]) -> Option<Self> {
        [Self::Async, Self::Replicated]
            .into_iter()
            .find(|ack| name.eq_ignore_ascii_case(ack.name().as_bytes()))
    }

    /// Its name in settings, commands and figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Async => "async",
            Self::Replicated => "replicated",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_found_by_its_name_in_any_case() {
        assert_eq!(Ack::of_name(b"REPLICATED"), Some(Ack::Replicated));
        assert_eq!(Ack::of_name(b"async"), Some(Ack::Async));
        assert_eq!(Ack::of_name(b"sync"), None);
    }
}
