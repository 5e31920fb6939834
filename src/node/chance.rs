//! Chance, as the shell needs it: another number for every process, or, in a simulation, for every seed.

/// A random number.
pub fn number() -> u64 {
    #[cfg(feature = "sim")]
    return crate::node::sim::random();
    #[cfg(not(feature = "sim"))]
    rand::random()
}
