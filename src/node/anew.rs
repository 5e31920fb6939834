//! Beginning anew: a node that was apart from the others for too long starts its own program again, under
//! the same process id, with nothing but what it was started with and this.

use std::net::SocketAddr;

/// Where the new program finds it.
const VARIABLE: &str = "CACHEGOPHER_ANEW";

/// Why a node starts empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anew {
    /// How often this process has begun anew.
    pub count: u64,
    /// For how long it was apart, about.
    pub away_ms: u64,
    /// A node of those that it was apart from: it joins through it before any other.
    pub to: SocketAddr,
}

impl Anew {
    /// What the environment of the new program has to say.
    pub fn variable(&self) -> (&'static str, String) {
        (VARIABLE, format!("{} {} {}", self.count, self.away_ms, self.to))
    }

    /// What this program's environment says.
    pub fn of_environment() -> Option<Self> {
        Self::parse(&std::env::var(VARIABLE).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (count, away_ms) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Self { count, away_ms, to: words.next()?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_new_program_is_told_it_understands() {
        let anew = Anew { count: 2, away_ms: 700_000, to: SocketAddr::from(([10, 0, 0, 1], 7)) };
        assert_eq!(Anew::parse(&anew.variable().1), Some(anew));
        assert_eq!(["", "1 2", "1 2 3", "a 2 10.0.0.1:7"].map(Anew::parse), [None; 4]);
    }
}
