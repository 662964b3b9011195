//! How long things took, as percentiles.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::cli::failure::Failure;

/// Longer ones count as this long.
const MAX: Duration = Duration::from_secs(3600);

/// Latencies, kept to three digits.
pub(super) struct Latencies {
    nanoseconds: Histogram<u64>,
}

impl Latencies {
    pub(super) fn new() -> Result<Self, Failure> {
        let most = u64::try_from(MAX.as_nanos()).expect("an hour in nanoseconds is a u64");
        let made = Histogram::new_with_max(most, 3);
        Ok(Self { nanoseconds: made.map_err(|error| Failure::system("keep latencies", &error))? })
    }

    pub(super) fn record(&mut self, latency: Duration) {
        self.nanoseconds.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1));
    }

    pub(super) fn count(&self) -> u64 {
        self.nanoseconds.len()
    }

    /// In how many milliseconds `percent` of them were done.
    pub(super) fn milliseconds(&self, percent: f64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "an hour of nanoseconds has fewer than 53 bits")]
        let nanoseconds = self.nanoseconds.value_at_percentile(percent) as f64;
        (nanoseconds / 1000.0).round() / 1000.0
    }

    pub(super) fn as_json(&self) -> Value {
        json!({
            "p50": self.milliseconds(50.0),
            "p90": self.milliseconds(90.0),
            "p99": self.milliseconds(99.0),
            "p99.9": self.milliseconds(99.9),
            "max": self.milliseconds(100.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Latencies;

    #[test]
    fn percentiles_are_of_what_was_recorded() {
        let mut latencies = Latencies::new().expect("a histogram");
        for milliseconds in 1..=1000 {
            latencies.record(Duration::from_millis(milliseconds));
        }
        assert_eq!(latencies.count(), 1000);
        for (percent, expect) in [(50.0, 500.0), (90.0, 900.0), (99.0, 990.0), (99.9, 999.0), (100.0, 1000.0)] {
            let found = latencies.milliseconds(percent);
            assert!((found - expect).abs() <= expect / 500.0, "p{percent} is {found}");
        }
    }
}
