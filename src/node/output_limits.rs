//! What may wait for a client that does not read: how many bytes of replies, and for how long.

use std::time::Duration;

/// How long any reply may wait for its reader.
const WRITE_WAIT_MAX: Duration = Duration::from_secs(60);

/// The limits of a client, as Redis has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimits {
    /// With more bytes than that the client is closed at once; zero: there is no such limit.
    pub hard_bytes: usize,
    /// More bytes than that may wait for a time only; zero: there is no such limit.
    pub soft_bytes: usize,
    /// That time.
    pub soft_wait: Duration,
}

impl OutputLimits {
    /// How long replies of so many bytes may wait; none: not at all.
    pub fn wait_max(&self, bytes: usize) -> Option<Duration> {
        if self.hard_bytes > 0 && bytes > self.hard_bytes {
            return None;
        }
        let is_soft = self.soft_bytes > 0 && bytes > self.soft_bytes;
        Some(if is_soft { WRITE_WAIT_MAX.min(self.soft_wait) } else { WRITE_WAIT_MAX })
    }

    /// As CONFIG writes it: there are clients of one class only.
    pub fn text(&self) -> String {
        let Self { hard_bytes, soft_bytes, soft_wait } = self;
        format!("normal {hard_bytes} {soft_bytes} {} slave 0 0 0 pubsub 0 0 0", soft_wait.as_secs())
    }

    /// These limits, changed by what CONFIG SET says: a class, two numbers of bytes and one of seconds, as
    /// often as wanted. What it says of classes that do not exist here changes nothing.
    ///
    /// # Errors
    ///
    /// In Redis' words.
    pub fn changed_by(
        mut self,
        text: &str,
        bytes_of: impl Fn(&str) -> Option<usize>,
    ) -> Result<Self, &'static str> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        if words.is_empty() || !words.len().is_multiple_of(4) {
            return Err("Wrong number of arguments in buffer limit configuration.");
        }
        for group in words.chunks_exact(4) {
            let class = group[0].to_ascii_lowercase();
            if !["normal", "slave", "replica", "pubsub"].contains(&class.as_str()) {
                return Err("Invalid client class specified in buffer limit configuration.");
            }
            let numbers = (bytes_of(group[1]), bytes_of(group[2]), group[3].parse::<u32>().ok());
            let (Some(hard_bytes), Some(soft_bytes), Some(secs)) = numbers else {
                return Err("Error in hard, soft or soft_seconds setting in buffer limit configuration.");
            };
            if class == "normal" {
                self = Self { hard_bytes, soft_bytes, soft_wait: Duration::from_secs(secs.into()) };
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: OutputLimits = OutputLimits { hard_bytes: 0, soft_bytes: 0, soft_wait: Duration::ZERO };

    fn changed(text: &str) -> Result<OutputLimits, &'static str> {
        NONE.changed_by(text, |text| text.parse().ok())
    }

    #[test]
    fn replies_wait_by_what_they_have() {
        let limits = changed("normal 1000 100 5").unwrap();
        assert_eq!(limits.wait_max(100), Some(WRITE_WAIT_MAX));
        assert_eq!(limits.wait_max(101), Some(Duration::from_secs(5)));
        assert_eq!(limits.wait_max(1_000), Some(Duration::from_secs(5)));
        assert_eq!(limits.wait_max(1_001), None);
        assert_eq!(NONE.wait_max(usize::MAX), Some(WRITE_WAIT_MAX));
        assert_eq!(changed("normal 0 100 500").unwrap().wait_max(101), Some(WRITE_WAIT_MAX));
    }

    #[test]
    fn limits_are_read_as_they_are_written_and_refused_in_words_of_redis() {
        let text = "normal 1000 100 5 slave 0 0 0 pubsub 0 0 0";
        assert_eq!(changed(text).unwrap().text(), text);
        assert_eq!(changed("replica 1 2 3 pubsub 4 5 6"), Ok(NONE));
        assert!(changed("normal 1 2").unwrap_err().starts_with("Wrong number"));
        assert!(changed("").unwrap_err().starts_with("Wrong number"));
        assert!(changed("master 1 2 3").unwrap_err().starts_with("Invalid client class"));
        assert!(changed("normal 1 x 3").unwrap_err().starts_with("Error in hard"));
        assert!(changed("normal 1 2 -3").unwrap_err().starts_with("Error in hard"));
    }
}
