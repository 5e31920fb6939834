//! The setting `ack`.

use clap::ValueEnum;
use serde::Deserialize;

use crate::command::Ack;

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum AckMode {
    /// When its primary has it.
    #[default]
    Async,
    /// When the replica that would take over has it too, if one can be reached.
    Replicated,
}

impl From<AckMode> for Ack {
    fn from(mode: AckMode) -> Self {
        match mode {
            AckMode::Async => Self::Async,
            AckMode::Replicated => Self::Replicated,
        }
    }
}
