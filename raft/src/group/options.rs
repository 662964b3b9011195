//! How a group is timed and bounded.

use std::time::Duration;

use openraft::{Config, SnapshotPolicy, StepDownPolicy};

/// What a group is started with. [`Default`] suits four processes on two
/// cores: a leader lost is replaced in about a second.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// How often a leader says that it lives.
    pub heartbeat: Duration,
    /// The shortest time without a leader after which a follower campaigns.
    pub election_min: Duration,
    /// The longest such time; each campaign draws one between the two.
    pub election_max: Duration,
    /// How many bytes of commands may be applied before the machine's state
    /// is written to Kv. Bounds what a restart applies again.
    pub checkpoint_bytes: u64,
    /// The most bytes of entries in one message to a follower (but always at
    /// least one entry).
    pub replication_bytes: u64,
    /// How many bytes of entries that nobody needs any more are worth a new
    /// state image, after which they are purged.
    pub floor_step_bytes: u64,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(150),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(1000),
            checkpoint_bytes: 64 << 20,
            replication_bytes: 1 << 20,
            floor_step_bytes: 4 << 20,
        }
    }
}

/// Options that contradict one another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("group options: {reason}")]
pub struct OptionsError {
    /// Which, and how.
    pub reason: String,
}

impl GroupOptions {
    /// These options as openraft takes them.
    pub(crate) fn config(&self) -> Result<Config, OptionsError> {
        let refuse = |reason: &str| Err(OptionsError { reason: reason.to_owned() });
        if self.heartbeat.is_zero() {
            return refuse("heartbeat must be more than 0");
        }
        // One lost heartbeat must not cost a leader.
        if self.election_min < self.heartbeat * 2 {
            return refuse("election_min must be at least twice heartbeat");
        }
        if self.election_max <= self.election_min {
            return refuse("election_max must be more than election_min");
        }
        if self.checkpoint_bytes == 0 || self.replication_bytes == 0 || self.floor_step_bytes == 0 {
            return refuse("checkpoint_bytes, replication_bytes and floor_step_bytes must be more than 0");
        }
        let election_max = millis(self.election_max);
        let config = Config {
            cluster_name: "quipu".to_owned(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.election_min),
            election_timeout_max: election_max,
            // A replica that was cut off must not depose a living leader.
            enable_pre_vote: Some(true),
            // A leader that comes back is a follower until it is elected.
            enable_leader_restore: Some(false),
            // Never: a wiped replica comes back under another id.
            allow_log_reversion: Some(false),
            // Without it, a partition that lets only some links through can
            // leave a group without a leader for good. openraft wants at
            // least its lease (election_max) and election_max.
            quorum_loss_probe_interval: Some(2 * election_max + 1),
            // Snapshots are built on demand, and a snapshot alone purges
            // nothing: purging is told explicitly, up to the floor.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            removed_leader_step_down: StepDownPolicy::After(election_max),
            max_payload_entries: 1024,
            ..Config::default()
        };
        config.validate().map_err(|error| OptionsError { reason: error.to_string() })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
