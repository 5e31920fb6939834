//! How a client behaves. Every default suits a cluster in one network.

use std::time::Duration;

use crate::client::Error;

/// Which copy of a key is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadFrom {
    /// Its primary, which has every acknowledged write.
    #[default]
    Primary,
    /// Its primary and its replicas in turn, which spreads the load of keys that are read much. A
    /// replica may not have the latest writes yet.
    Any,
}

/// The settings of a [`Client`](crate::client::Client).
///
/// ```
/// use std::time::Duration;
///
/// use cachegopher::client::ReadFrom;
/// use cachegopher::client::Settings;
///
/// let settings = Settings {
///     deadline: Duration::from_millis(800),
///     read_from: ReadFrom::Any,
///     ..Settings::default()
/// };
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a call may take, all waiting and repeating included. A node waits up to 2 s for the
    /// successor of a primary that has died, so that a longer deadline hides failovers from the caller.
    /// A call about many keys, or for a listing, has this time for each of its pieces. Default: 5 s.
    pub deadline: Duration,
    /// Which copy is read. Default: the primary.
    pub read_from: ReadFrom,
    /// How many connections there are to one node at most. A connection serves one call at a time;
    /// a call that finds all of them busy waits. Default: 16.
    pub connections_max: usize,
    /// The age at which a connection is closed instead of being used again. Default: 5 min.
    pub connection_timeout: Duration,
    /// How long connecting to a node may take before another one is tried. Default: 1 s.
    pub connect_wait_max: Duration,
    /// How often the system asks whether the other end of an idle connection still exists (TCP
    /// keep-alive). None: never. Default: 30 s.
    pub keep_alive: Option<Duration>,
    /// How long a node may be silent while it owes an answer, before it is asked on another connection
    /// whether it lives. If it does not answer that in as much time, what may be repeated is sent to
    /// another node. Default: 300 ms.
    pub silence_max: Duration,
    /// How long a node that failed is left out, as long as there are others. Then it is asked whether it
    /// answers again, before it gets any call. Default: 2 s.
    pub unhealthy_interval: Duration,
    /// The pause before all nodes are tried again that a call has tried in vain; it doubles each time, up
    /// to `backoff_max`, and a random part of as much is added, so that clients do not return all at
    /// once. Default: 5 ms.
    pub backoff_min: Duration,
    /// Its greatest value. Default: 200 ms.
    pub backoff_max: Duration,
    /// How often it is looked whether the nodes or the ring have changed. It is also done whenever a node
    /// fails. Until a change is known, calls take a detour over another node. Default: 1 s.
    pub refresh_interval: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(5),
            read_from: ReadFrom::Primary,
            connections_max: 16,
            connection_timeout: Duration::from_secs(300),
            connect_wait_max: Duration::from_secs(1),
            keep_alive: Some(Duration::from_secs(30)),
            silence_max: Duration::from_millis(300),
            unhealthy_interval: Duration::from_secs(2),
            backoff_min: Duration::from_millis(5),
            backoff_max: Duration::from_millis(200),
            refresh_interval: Duration::from_secs(1),
        }
    }
}

impl Settings {
    /// Whether they can be used.
    pub(super) fn check(&self) -> Result<(), Error> {
        let refuse = |setting, must| Err(Error::Settings { reason: format!("{setting} must be {must}") });
        let positive = [
            ("deadline", self.deadline),
            ("connection_timeout", self.connection_timeout),
            ("connect_wait_max", self.connect_wait_max),
            ("keep_alive", self.keep_alive.unwrap_or(Duration::MAX)),
            ("silence_max", self.silence_max),
            ("backoff_min", self.backoff_min),
            ("refresh_interval", self.refresh_interval),
        ];
        if let Some((setting, _)) = positive.into_iter().find(|(_, duration)| duration.is_zero()) {
            return refuse(setting, "longer than nothing");
        }
        if self.connections_max == 0 {
            return refuse("connections_max", "at least 1");
        }
        if self.backoff_max < self.backoff_min {
            return refuse("backoff_max", "at least backoff_min");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_can_be_used_and_senseless_settings_are_refused_by_name() {
        let base = Settings::default;
        assert_eq!(base().check(), Ok(()));
        assert_eq!(Settings { keep_alive: None, ..base() }.check(), Ok(()));
        for (settings, name) in [
            (Settings { deadline: Duration::ZERO, ..base() }, "deadline"),
            (Settings { keep_alive: Some(Duration::ZERO), ..base() }, "keep_alive"),
            (Settings { connections_max: 0, ..base() }, "connections_max"),
            (Settings { backoff_min: Duration::from_secs(9), ..base() }, "backoff_max"),
        ] {
            let refused = settings.check().unwrap_err().to_string();
            assert!(refused.contains(name), "{refused}");
        }
    }
}
