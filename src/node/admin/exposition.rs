//! Figures in the text format that Prometheus reads.

use std::fmt::Display;
use std::fmt::Write;

use crate::node::latency;
use crate::node::latency::Histogram;

/// A page of figures, family by family.
#[derive(Debug, Default)]
pub struct Exposition(String);

/// One family, to which samples are added.
pub struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Exposition {
    /// The type of the page.
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// Something that rises and falls.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// Something that only rises while the node lives.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        debug_assert!(name.ends_with("_total"));
        self.family(name, "counter", help)
    }

    /// How often something took how long.
    pub fn histogram(&mut self, name: &'static str, help: &str) -> Family<'_> {
        debug_assert!(name.ends_with("_seconds"));
        self.family(name, "histogram", help)
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Family { text: &mut self.0, name }
    }

    /// The page.
    pub fn into_text(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// Its only sample.
    pub fn is(self, value: impl Display) {
        self.of(&[], value);
    }

    /// One of its samples. Returns the family, for the next.
    pub fn of(self, labels: &[(&str, &str)], value: impl Display) -> Self {
        sample(self.text, self.name, "", labels, value);
        self
    }

    /// The samples of a histogram.
    pub fn times(self, labels: &[(&str, &str)], histogram: &Histogram) -> Self {
        let mut sum = 0;
        for (bucket, count) in histogram.counts.iter().enumerate() {
            sum += count;
            let bound = latency::bound(bucket);
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.as_secs_f64().to_string());
            let with_bound: Vec<(&str, &str)> =
                labels.iter().copied().chain([("le", bound.as_str())]).collect();
            sample(self.text, self.name, "_bucket", &with_bound, sum);
        }
        sample(self.text, self.name, "_sum", labels, seconds(histogram.nanos));
        sample(self.text, self.name, "_count", labels, sum);
        self
    }
}

/// Nanoseconds in the unit of Prometheus.
pub fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

fn sample(text: &mut String, name: &str, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
    let _ = write!(text, "{name}{suffix}");
    for (index, (label, value)) in labels.iter().enumerate() {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(text, "{}{label}=\"{value}\"", if index == 0 { '{' } else { ',' });
    }
    let _ = writeln!(text, "{} {value}", if labels.is_empty() { "" } else { "}" });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::node::latency::Counting;

    #[test]
    fn a_family_is_its_help_its_type_and_its_samples_with_their_labels_quoted() {
        let mut page = Exposition::default();
        page.gauge("a_bytes", "Of a.").of(&[("name", "x\"\\\ny"), ("b", "")], 1.5).of(&[("name", "z")], 2);
        page.counter("b_total", "Of b.").is(7);
        assert_eq!(
            page.into_text(),
            "# HELP a_bytes Of a.\n# TYPE a_bytes gauge\na_bytes{name=\"x\\\"\\\\\\ny\",b=\"\"} 1.5\n\
             a_bytes{name=\"z\"} 2\n# HELP b_total Of b.\n# TYPE b_total counter\nb_total 7\n"
        );
    }

    #[test]
    fn the_buckets_of_a_histogram_are_cumulative_and_the_last_one_has_all() {
        let counting = Counting::default();
        for micros in [1, 1, 2_000, 10_000] {
            counting.add(Duration::from_micros(micros));
        }
        let mut page = Exposition::default();
        page.histogram("c_seconds", "Of c.").times(&[("cmd", "get")], &counting.histogram());
        let text = page.into_text();
        for line in [
            "c_seconds_bucket{cmd=\"get\",le=\"0.000001024\"} 2\n",
            "c_seconds_bucket{cmd=\"get\",le=\"0.002097152\"} 3\n",
            "c_seconds_bucket{cmd=\"get\",le=\"+Inf\"} 4\n",
            "c_seconds_sum{cmd=\"get\"} 0.012002\n",
            "c_seconds_count{cmd=\"get\"} 4\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
