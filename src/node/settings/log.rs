//! What is logged, changed while the node runs. Whoever starts the node knows how.

use std::fmt;
use std::sync::Arc;

/// Changes what is logged while the node runs.
#[derive(Clone, Default)]
pub struct LogControl(Option<Arc<ChangeLog>>);

type ChangeLog = dyn Fn(&str) -> Result<(), String> + Send + Sync;

impl LogControl {
    /// A control that makes a filter, such as `info`, the one in force.
    pub fn new(change: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(change)))
    }

    /// Makes a filter the one in force.
    ///
    /// # Errors
    ///
    /// Whoever started the node does not let it change what is logged.
    pub fn set(&self, filter: &str) -> Result<(), String> {
        self.0.as_ref().map_or_else(|| Err("the log cannot be changed".to_owned()), |change| change(filter))
    }
}

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "LogControl" } else { "no LogControl" })
    }
}
