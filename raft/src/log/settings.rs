//! What a log takes and keeps: what can be changed while it runs.
//!
//! The leader holds a batch against it before it proposes it. Nothing here is
//! part of apply: what was proposed under an earlier setting stays.

use std::time::Duration;

use quipu_protocol::batch::{BatchHeader, Codecs, Compression};
use quipu_protocol::{Timestamp, v1};

use super::retention::Retention;

/// What a log takes and keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The most bytes that a batch may have; the node's own bound holds, too.
    pub max_batch_bytes: u64,
    /// The codecs that batches may have.
    pub codecs: Codecs,
    /// How far a record's timestamp may lie before the leader's clock; `None`
    /// for any.
    pub timestamp_before: Option<Duration>,
    /// How far it may lie after it.
    pub timestamp_after: Option<Duration>,
    /// What is kept.
    pub retention: Retention,
    /// How long after its last commit a cursor is kept, in milliseconds of log time;
    /// 0 for ever.
    pub cursor_expiry_ms: u64,
    /// How many bytes a lease may keep from retention beyond what that keeps;
    /// `None` for any.
    pub max_lease_bytes: Option<u64>,
    /// The longest that a lease is granted for, ms; `None` for any.
    pub max_lease_ms: Option<u64>,
}

/// How long a cursor is kept unless the log says otherwise: 7 days, in milliseconds.
pub const CURSOR_EXPIRY_MS: u64 = 7 * 24 * 60 * 60 * 1000;

impl Default for LogSettings {
    /// Takes all and keeps all.
    fn default() -> Self {
        Self {
            max_batch_bytes: u64::MAX,
            codecs: Codecs::ANY,
            timestamp_before: None,
            timestamp_after: None,
            retention: Retention::default(),
            cursor_expiry_ms: 0,
            max_lease_bytes: None,
            max_lease_ms: None,
        }
    }
}

impl LogSettings {
    /// As a log is configured.
    pub fn of(config: &v1::LogConfig) -> Self {
        let set = |ms: u64| Some(ms).filter(|ms| *ms > 0).map(Duration::from_millis);
        Self {
            max_batch_bytes: config.max_batch_bytes.into(),
            // A codec of a later version cannot be told to this one.
            codecs: Codecs::from_bits(config.codecs).unwrap_or_default(),
            timestamp_before: set(config.max_timestamp_before_ms),
            timestamp_after: set(config.max_timestamp_after_ms),
            retention: Retention::of(config),
            cursor_expiry_ms: config.cursor_expiry_ms.unwrap_or(CURSOR_EXPIRY_MS),
            max_lease_bytes: Some(config.max_lease_bytes).filter(|bytes| *bytes > 0),
            max_lease_ms: Some(config.max_lease_ms).filter(|ms| *ms > 0),
        }
    }

    /// Whether a batch's records have to be looked at for their timestamps.
    pub fn bounds_timestamps(&self) -> bool {
        self.timestamp_before.is_some() || self.timestamp_after.is_some()
    }

    /// Whether the log takes a batch with this header whose oldest record is
    /// of `oldest`, while the leader's clock shows `now`.
    ///
    /// # Errors
    /// Says which setting does not let it in.
    pub fn take(&self, header: &BatchHeader, oldest: Timestamp, now: Timestamp) -> Result<(), NotTaken> {
        if !self.codecs.contains(header.compression) {
            return Err(NotTaken::Codec { codec: header.compression, codecs: self.codecs });
        }
        let newest = header.max_timestamp;
        if let Some(bound) = self.timestamp_before.filter(|bound| is_further(now, oldest, *bound)) {
            return Err(NotTaken::TooOld { timestamp: oldest, now, bound });
        }
        if let Some(bound) = self.timestamp_after.filter(|bound| is_further(newest, now, *bound)) {
            return Err(NotTaken::TooNew { timestamp: newest, now, bound });
        }
        Ok(())
    }
}

/// Whether `later` lies more than `bound` after `earlier`.
fn is_further(later: Timestamp, earlier: Timestamp, bound: Duration) -> bool {
    let apart = i128::from(later.get()) - i128::from(earlier.get());
    u128::try_from(apart).is_ok_and(|apart| apart > bound.as_millis())
}

/// Why a log does not take a batch. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Its codec is not among those that the log takes.
    #[error("the batch's codec is {codec}, and the log takes {codecs}")]
    Codec {
        /// The batch's.
        codec: Compression,
        /// The log's.
        codecs: Codecs,
    },
    /// A record is too old.
    #[error(
        "a record's timestamp is {} and the leader's clock shows {}: \
         it may lie at most {} ms before (max_timestamp_before_ms)",
        .timestamp.get(), .now.get(), .bound.as_millis()
    )]
    TooOld {
        /// The record's timestamp.
        timestamp: Timestamp,
        /// The leader's clock.
        now: Timestamp,
        /// How far it may lie before.
        bound: Duration,
    },
    /// A record is from too far ahead.
    #[error(
        "a record's timestamp is {} and the leader's clock shows {}: \
         it may lie at most {} ms after (max_timestamp_after_ms)",
        .timestamp.get(), .now.get(), .bound.as_millis()
    )]
    TooNew {
        /// The record's timestamp.
        timestamp: Timestamp,
        /// The leader's clock.
        now: Timestamp,
        /// How far it may lie after.
        bound: Duration,
    },
}

impl NotTaken {
    /// The setting that does not let the batch in, by its name in a log's
    /// configuration.
    pub const fn setting(&self) -> &'static str {
        match self {
            Self::Codec { .. } => "codecs",
            Self::TooOld { .. } => "max_timestamp_before_ms",
            Self::TooNew { .. } => "max_timestamp_after_ms",
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quipu_protocol::batch::{BatchBuilder, Record};

    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    /// The header of a batch with records at these times.
    fn header(compression: Compression, times: &[i64]) -> BatchHeader {
        let mut builder = BatchBuilder::new(compression);
        for time in times {
            builder.push(&Record::new(Timestamp::new(*time), Bytes::from(vec![7; 1_000]))).unwrap();
        }
        BatchHeader::parse(&builder.finish(None).unwrap()).unwrap()
    }

    fn setting_against(settings: LogSettings, compression: Compression, times: &[i64]) -> Option<&'static str> {
        let oldest = Timestamp::new(*times.iter().min().unwrap());
        let taken = settings.take(&header(compression, times), oldest, Timestamp::new(NOW));
        taken.err().map(|refused| refused.setting())
    }

    #[test]
    fn default_takes_everything() {
        for codec in Compression::ALL {
            assert_eq!(setting_against(LogSettings::default(), codec, &[i64::MIN, i64::MAX]), None);
        }
    }

    #[test]
    fn codec_that_is_not_among_the_logs_is_refused() {
        let settings = LogSettings { codecs: "none,lz4".parse().unwrap(), ..LogSettings::default() };
        for (codec, against) in
            [(Compression::None, None), (Compression::Lz4, None), (Compression::Zstd, Some("codecs"))]
        {
            assert_eq!(setting_against(settings, codec, &[NOW]), against, "{codec}");
        }
    }

    #[test]
    fn timestamps_are_held_against_the_leaders_clock_to_the_millisecond() {
        let config =
            v1::LogConfig { max_timestamp_before_ms: 1_000, max_timestamp_after_ms: 50, ..v1::LogConfig::default() };
        let settings = LogSettings { max_batch_bytes: u64::MAX, ..LogSettings::of(&config) };
        let against = |times: &[i64]| setting_against(settings, Compression::None, times);
        assert_eq!(against(&[NOW, NOW + 50, NOW - 1_000]), None);
        assert_eq!(against(&[NOW, NOW - 1_001]), Some("max_timestamp_before_ms"));
        assert_eq!(against(&[NOW + 51, NOW]), Some("max_timestamp_after_ms"));
        assert_eq!(against(&[i64::MIN]), Some("max_timestamp_before_ms"));
        assert_eq!(against(&[i64::MAX]), Some("max_timestamp_after_ms"));
    }
}
