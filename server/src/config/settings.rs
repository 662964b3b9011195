//! Every setting of a node, in one table: its name, unit, default and range,
//! and why one would change it. The file format, the flags, the example file
//! and the checks are all read off it.

/// What a setting counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Milliseconds.
    Milliseconds,
    /// A number of things.
    Count,
    /// Yes (1, `true`) or no (0, `false`).
    Switch,
}

impl Unit {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Milliseconds => "ms",
            Self::Count | Self::Switch => "",
        }
    }
}

/// One setting, as the table describes it.
pub struct Setting {
    /// `section.name`, as in the file.
    pub key: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// What it is when nobody says otherwise.
    pub default: u64,
    /// The smallest value.
    pub least: u64,
    /// The largest value.
    pub most: u64,
    /// What it does, for an operator.
    pub about: &'static str,
    slot: fn(&mut Settings) -> &mut u64,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Declares [`Settings`] and [`SETTINGS`] from one list, so that no field can
/// be without its row.
macro_rules! settings {
    ($($field:ident = $key:literal, $unit:ident, $default:expr, $least:expr => $most:expr, $about:literal;)*) => {
        /// The value of every setting.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Settings {
            $(#[doc = $about] pub $field: u64,)*
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        /// The table of all settings, in the order of the example file.
        pub const SETTINGS: &[Setting] = &[
            $(Setting {
                key: $key,
                unit: Unit::$unit,
                default: $default,
                least: $least,
                most: $most,
                about: $about,
                slot: |settings| &mut settings.$field,
            },)*
        ];

        $(const _: () = assert!($least <= $default && $default <= $most, "a default lies in its range");)*
    };
}

settings! {
    heartbeat_ms = "raft.heartbeat_ms", Milliseconds, 150, 10 => 10_000,
        "How often a leader tells its followers that it is there.";
    election_timeout_min_ms = "raft.election_timeout_min_ms", Milliseconds, 500, 50 => 60_000,
        "A follower that heard of no leader for a time drawn from this to raft.election_timeout_max_ms stands for election. At least twice raft.heartbeat_ms.";
    election_timeout_max_ms = "raft.election_timeout_max_ms", Milliseconds, 1_000, 100 => 120_000,
        "See raft.election_timeout_min_ms, which has to be less.";
    checkpoint_bytes = "raft.checkpoint_bytes", Bytes, 64 * MIB, KIB => 16 * GIB,
        "How many bytes of entries a replica applies before its state is saved: what a start after a crash applies again.";
    replication_bytes = "raft.replication_bytes", Bytes, MIB, KIB => 64 * MIB,
        "How many bytes of entries one message to a follower holds; a single entry always fits.";
    max_batch_bytes = "log.max_batch_bytes", Bytes, MIB, KIB => 64 * MIB,
        "The largest batch that an append may carry, for logs created without saying so themselves.";
    largest_max_batch_bytes = "log.largest_max_batch_bytes", Bytes, 64 * MIB, KIB => 64 * MIB,
        "The largest max_batch_bytes that a log may be created with. At least log.max_batch_bytes.";
    max_decompressed_bytes = "log.max_decompressed_bytes", Bytes, 128 * MIB, KIB => GIB,
        "The most bytes that a compressed batch's records may come to. At least log.largest_max_batch_bytes.";
    check_records = "log.check_records", Switch, 1, 0 => 1,
        "Whether an append's records are walked through before it is accepted. Without it a batch whose count lies leaves offsets without records.";
    append_queue_bytes = "log.append_queue_bytes", Bytes, 128 * MIB, MIB => 4 * GIB,
        "How many bytes of appends may wait on one log before further ones are refused as overloaded. At least log.largest_max_batch_bytes.";
    floor_step_bytes = "log.floor_step_bytes", Bytes, 4 * MIB, 1 => GIB,
        "How many bytes of trimmed records of one log are worth dropping its entries up to there, which writes the state of the log as of them once more.";
    cursor_commit_interval_ms = "log.cursor_commit_interval_ms", Milliseconds, 1_000, 0 => 60_000,
        "How often a log gets an entry for the sake of its cursors and leases alone: what is committed or renewed meanwhile goes together, or with the next append.";
    max_clock_skew_ms = "retention.max_clock_skew_ms", Milliseconds, 10_000, 1_000 => 86_400_000,
        "While this node's clock may be further than this from the median of its peers', or none of them was heard of for a minute, it trims no log by age; what it leads is then stamped with the median's time.";
    segment_bytes = "journal.segment_bytes", Bytes, 256 * MIB, MIB => 4 * GIB,
        "The length of one journal file, pre-written before use. A multiple of 1 MiB, at least 1 MiB more than log.largest_max_batch_bytes.";
    tail_cache_bytes = "journal.tail_cache_bytes", Bytes, 64 * MIB, MIB => 64 * GIB,
        "How many bytes of the newest entries are kept in memory for readers at the tail and for followers.";
    staged_bytes = "journal.staged_bytes", Bytes, 256 * MIB, 64 * KIB => 64 * GIB,
        "While so many bytes wait for this node's disk, its logs refuse appends as overloaded: a majority elsewhere may be faster than this disk.";
    low_space_bytes = "storage.low_space_bytes", Bytes, 268_435_456, 0 => 1024 * GIB,
        "While the data directory's file system has fewer bytes left than these and a journal file's, the logs led here refuse appends and no journal file is prepared ahead; reads and trims go on, and what cannot wait may take three quarters of it.";
    scrub_bytes_per_second = "storage.scrub_bytes_per_second", Bytes, 8_388_608, 0 => 16 * GIB,
        "How many bytes of what is stored are read a second to find what rots before somebody needs it; 0 for none.";
    scrub_interval_ms = "storage.scrub_interval_ms", Milliseconds, 86_400_000, 1_000 => 31_536_000_000_u64,
        "Everything stored is read for that no more often than this.";
    max_connections = "server.max_connections", Count, 4_096, 8 => 1_000_000,
        "How many connections are open at a time; further ones are closed at once.";
    http_connections = "server.http_connections", Count, 64, 1 => 4_096,
        "How many connections to the HTTP address are open at a time; further ones are closed at once.";
    http_connection_ms = "server.http_connection_ms", Milliseconds, 10_000, 100 => 60_000,
        "How long a connection to the HTTP address may take, from its begin to the last byte of its one answer.";
    metrics_logs = "server.metrics_logs", Count, 100, 0 => 10_000,
        "How many logs have series of their own in /metrics, those created first. How many more there are is quipu_logs_not_shown.";
    metrics_cursors = "server.metrics_cursors", Count, 1_000, 0 => 100_000,
        "How many cursors of the logs led here have a series of their own in /metrics. How many more there are is quipu_cursors_not_shown.";
    reflection = "server.reflection", Switch, 1, 0 => 1,
        "Whether the node tells tools such as grpcurl which services it has (grpc.reflection.v1).";
    append_stream_appends = "server.append_stream_appends", Count, 1_024, 1 => 65_536,
        "How many appends of one Append stream are in flight; the stream is read no further meanwhile.";
    append_stream_bytes = "server.append_stream_bytes", Bytes, 64 * MIB, KIB => 4 * GIB,
        "How many bytes of batches of one Append stream are in flight; a single batch always fits.";
    read_response_bytes = "server.read_response_bytes", Bytes, MIB, KIB => 64 * MIB,
        "How many bytes of batches one answer of a Read stream holds when the reader does not say, and at most; a single batch always fits.";
    shutdown_grace_ms = "server.shutdown_grace_ms", Milliseconds, 10_000, 0 => 600_000,
        "How long requests may take to finish, and leaderships to be handed over, when the node is asked to end.";
    sample_per_million = "telemetry.sample_per_million", Count, 10_000, 0 => 1_000_000,
        "With telemetry.otlp_endpoint: how many of a million appends are followed that come without a client's own trace context. Those with one are followed if it says so.";
}

impl Setting {
    /// The setting's value in `settings`.
    pub fn get(&self, settings: &Settings) -> u64 {
        // The slot wants a mutable place; a copy serves.
        *(self.slot)(&mut settings.clone())
    }

    /// A value of it, as a person writes it: digits, in groups if one likes
    /// (`1_000`); a switch may be `true` or `false`.
    pub(super) fn parse(&self, text: &str) -> Option<u64> {
        match (self.unit, text) {
            (Unit::Switch, "true") => Some(1),
            (Unit::Switch, "false") => Some(0),
            _ => text.replace('_', "").parse().ok(),
        }
    }

    /// The setting's value in `settings`, as a person writes it.
    pub(super) fn text(&self, settings: &Settings) -> String {
        match self.unit {
            Unit::Switch => (self.get(settings) == 1).to_string(),
            _ => self.get(settings).to_string(),
        }
    }

    pub(super) fn set(&self, settings: &mut Settings, value: u64) {
        *(self.slot)(settings) = value;
    }

    /// The setting of that name.
    pub fn find(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }
}
