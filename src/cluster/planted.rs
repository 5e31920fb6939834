//! Bugs that the simulation can plant, to prove that it would find them. Without the feature `sim`
//! there are none, and every question after one is answered when the code is compiled.

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A copy does not take note of deletions.
    DropTombstones,
    /// A primary stops serving partitions in favour of another node and does not tell it.
    SkipHandOver,
    /// What a node said in a former life counts in the present one.
    AcceptOldGeneration,
    /// The change that comes last wins, whatever its version.
    ApplyOlderVersion,
    /// A watermark rises though what lies before it never came.
    ForgetWatermark,
    /// A frame of the stream is acknowledged first, and lost if its link ends before it is applied.
    AcknowledgeBeforeApplying,
    /// A gap in a stream is not repaired.
    IgnoreGap,
    /// A flush does not come to the other copies.
    KeepFlushHere,
    /// A copy counts as full although its source did not say so.
    CountUnsynced,
    /// The copies that a dead primary leaves behind do not complete each other.
    ForgetBereaved,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 10] = [
        Bug::DropTombstones,
        Bug::SkipHandOver,
        Bug::AcceptOldGeneration,
        Bug::ApplyOlderVersion,
        Bug::ForgetWatermark,
        Bug::AcknowledgeBeforeApplying,
        Bug::IgnoreGap,
        Bug::KeepFlushHere,
        Bug::CountUnsynced,
        Bug::ForgetBereaved,
    ];
}

#[cfg(feature = "sim")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug, or none.
#[cfg(feature = "sim")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether a bug is planted.
#[cfg(feature = "sim")]
pub fn has(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Whether a bug is planted: never.
#[cfg(not(feature = "sim"))]
pub const fn has(_: Bug) -> bool {
    false
}
