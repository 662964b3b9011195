//! From two samples to what is shown: rates and lag.
//!
//! A rate is what a counter grew by, by the time between the samples. A counter
//! that went back belongs to a process that was started anew: there is no rate
//! then, rather than a wrong one.

use std::time::Duration;

use quipu_sdk::{
    ClusterStatus, JournalCounters, LogDescription, NodeId, NodeState, NodeStatus, ReplicaDescription, ReplicaState,
    ServiceCounters,
};

use super::sample::Sample;

/// What is shown of a cluster.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    /// The cluster's id, as people write it.
    pub(super) cluster: String,
    pub(super) catalog_leader: Option<NodeId>,
    /// By id.
    pub(super) nodes: Vec<NodeFigures>,
    /// By name.
    pub(super) logs: Vec<LogFigures>,
    /// How many logs there are, and how many of them fit the filter.
    pub(super) all_logs: u64,
    pub(super) fitting_logs: usize,
}

/// What is shown of a node.
#[derive(Clone, Debug)]
pub(super) struct NodeFigures {
    pub(super) node: NodeStatus,
    /// How many of the logs that were asked for it leads.
    pub(super) leads: usize,
    pub(super) leads_catalog: bool,
    /// None without two samples of the same process.
    pub(super) rates: Option<NodeRates>,
}

/// What a node does a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct NodeRates {
    pub(super) appends: f64,
    pub(super) appended_bytes: f64,
    pub(super) append_errors: f64,
    pub(super) reads: f64,
    pub(super) read_batches: f64,
    pub(super) read_bytes: f64,
    pub(super) fsyncs: f64,
    pub(super) written_bytes: f64,
    /// Processors in use: 1.5 is one and a half.
    pub(super) processors: f64,
}

/// What is shown of a log.
#[derive(Clone, Debug)]
pub(super) struct LogFigures {
    pub(super) log: LogDescription,
    /// Records appended a second.
    pub(super) records: Option<f64>,
    /// The most entries that a replica that answers has not fsynced.
    pub(super) lag: u64,
    /// The most records that a replica that answers has not applied.
    pub(super) behind: u64,
    /// How many replicas run, of those that are wanted.
    pub(super) running: usize,
}

impl LogFigures {
    /// How many records of the log `replica` has not applied.
    pub(super) fn behind_of(&self, replica: &ReplicaDescription) -> u64 {
        behind(&self.log, replica)
    }
}

impl Figures {
    /// What `now` says, with rates since `before`.
    pub(super) fn of(before: Option<&Sample>, now: &Sample) -> Self {
        let ClusterStatus { cluster, nodes, logs, catalog_leader } = &now.status;
        let node = |node: &NodeStatus| {
            let earlier = before.and_then(|before| {
                let earlier = before.status.nodes.iter().find(|earlier| earlier.id == node.id)?;
                Some((earlier, now.at.checked_sub(before.at)?))
            });
            NodeFigures {
                leads: now.logs.iter().filter(|log| log.leader == Some(node.id)).count(),
                leads_catalog: *catalog_leader == Some(node.id),
                rates: earlier.and_then(|(earlier, elapsed)| NodeRates::between(earlier, node, elapsed)),
                node: node.clone(),
            }
        };
        let log = |log: &LogDescription| {
            let earlier = before.and_then(|before| {
                let earlier = before.logs.iter().find(|earlier| earlier.log.id == log.log.id)?;
                Some((earlier, now.logs_at.checked_sub(before.logs_at)?))
            });
            LogFigures::of(earlier, log)
        };
        Self {
            cluster: cluster.to_string(),
            catalog_leader: *catalog_leader,
            nodes: nodes.iter().map(node).collect(),
            logs: now.logs.iter().map(log).collect(),
            all_logs: *logs,
            fitting_logs: now.fitting,
        }
    }
}

impl NodeRates {
    /// None if a process ended in between, or did not answer.
    fn between(before: &NodeStatus, now: &NodeStatus, elapsed: Duration) -> Option<Self> {
        let down = |node: &NodeStatus| node.state == NodeState::Down;
        if down(before) || down(now) {
            return None;
        }
        let (services, journal) = (before.services?, before.journal?);
        let (services_now, journal_now) = (now.services?, now.journal?);
        let service =
            |counter: fn(&ServiceCounters) -> u64| per_second(counter(&services), counter(&services_now), elapsed);
        let disk = |counter: fn(&JournalCounters) -> u64| per_second(counter(&journal), counter(&journal_now), elapsed);
        let cpu = now.cpu.checked_sub(before.cpu)?;
        Some(Self {
            appends: service(|it| it.appends)?,
            appended_bytes: service(|it| it.appended_bytes)?,
            append_errors: service(|it| it.append_errors)?,
            reads: service(|it| it.reads)?,
            read_batches: service(|it| it.read_batches)?,
            read_bytes: service(|it| it.read_bytes)?,
            fsyncs: disk(|it| it.fsyncs)?,
            written_bytes: disk(|it| it.written_bytes)?,
            processors: ratio(cpu.as_secs_f64(), elapsed)?,
        })
    }
}

impl LogFigures {
    fn of(earlier: Option<(&LogDescription, Duration)>, log: &LogDescription) -> Self {
        let records = earlier
            .and_then(|(earlier, elapsed)| per_second(earlier.range.end().get(), log.range.end().get(), elapsed));
        let running = || log.replicas.iter().filter(|replica| replica.state == ReplicaState::Running);
        Self {
            records,
            lag: running().map(|replica| replica.lag).max().unwrap_or_default(),
            behind: running().map(|replica| behind(log, replica)).max().unwrap_or_default(),
            running: running().count(),
            log: log.clone(),
        }
    }
}

fn behind(log: &LogDescription, replica: &ReplicaDescription) -> u64 {
    log.range.end().get().saturating_sub(replica.end.get())
}

/// What a counter grows by in a second; none if it went back.
fn per_second(before: u64, now: u64, elapsed: Duration) -> Option<f64> {
    ratio(now.checked_sub(before)? as f64, elapsed)
}

fn ratio(amount: f64, elapsed: Duration) -> Option<f64> {
    (!elapsed.is_zero()).then(|| amount / elapsed.as_secs_f64())
}

#[cfg(test)]
pub(super) mod tests {
    use quipu_protocol::{ClusterId, LogId, ReplicaId, Term};
    use quipu_sdk::{LogConfig, LogSummary, Offset, OffsetRange, ReplicaRole};

    use super::*;

    /// A node that has done `appends` appends of 100 bytes, two reads each.
    pub(in super::super) fn node(id: u64, appends: u64) -> NodeStatus {
        let services = ServiceCounters {
            appends,
            appended_records: appends,
            appended_bytes: 100 * appends,
            append_errors: 0,
            reads: 2 * appends,
            read_batches: 2 * appends,
            read_bytes: 200 * appends,
        };
        let journal =
            JournalCounters { fsyncs: appends / 2, written_bytes: 4096 * appends, ..JournalCounters::default() };
        NodeStatus {
            id: NodeId::new(id),
            address: format!("127.0.0.1:{}", 7000 + id),
            state: NodeState::Up,
            version: "0.1.0".to_owned(),
            journal: Some(journal),
            cpu: Duration::from_millis(appends),
            services: Some(services),
            damaged_replicas: 0,
            refetched_entries: 0,
            clock_ahead_ms: Some(0),
            age_retention_held: false,
        }
    }

    pub(in super::super) fn down(id: u64) -> NodeStatus {
        let version = String::new();
        let cpu = Duration::ZERO;
        NodeStatus { state: NodeState::Down, version, journal: None, cpu, services: None, ..node(id, 0) }
    }

    /// A log that ends at `end`, led by node 1; each replica is so many entries,
    /// of one record each, behind.
    pub(in super::super) fn log(name: &str, id: u64, end: u64, lags: &[u64]) -> LogDescription {
        let replica = |(position, lag): (usize, &u64)| ReplicaDescription {
            node: NodeId::new(position as u64 + 1),
            address: format!("127.0.0.1:{}", 7001 + position),
            replica: ReplicaId::new(1000 * id + position as u64),
            role: Some(if position == 0 { ReplicaRole::Leader } else { ReplicaRole::Follower }),
            state: ReplicaState::Running,
            durable_index: end + 3 - lag,
            applied_index: end + 3 - lag,
            lag: *lag,
            end: Offset::new(end - lag),
            damaged_since: None,
            refetched_entries: 0,
        };
        LogDescription {
            log: LogSummary { name: name.parse().expect("a name"), id: LogId::new(id), config: LogConfig::default() },
            range: OffsetRange::new(Offset::new(0), Offset::new(end)),
            leader: Some(NodeId::new(1)),
            term: Term::new(4),
            bytes: 100 * end,
            entries: end,
            age_retention_held: false,
            cursors: 0,
            cursor_bytes: 0,
            cursor_entry_bytes: 0,
            leases: 0,
            lease_entry_bytes: 0,
            replicas: lags.iter().enumerate().map(replica).collect(),
        }
    }

    pub(in super::super) fn sample(seconds: u64, nodes: Vec<NodeStatus>, logs: Vec<LogDescription>) -> Sample {
        let at = Duration::from_secs(seconds);
        let status = ClusterStatus {
            cluster: ClusterId::new(0xabc),
            nodes,
            logs: logs.len() as u64,
            catalog_leader: Some(NodeId::new(2)),
        };
        Sample { at, logs_at: at, status, fitting: logs.len(), logs }
    }

    #[test]
    fn rates_are_what_counters_grew_by_in_a_second() {
        let before = sample(10, vec![node(1, 1_000)], vec![log("orders", 7, 500, &[0, 0, 0])]);
        let now = sample(12, vec![node(1, 1_500)], vec![log("orders", 7, 900, &[0, 0, 0])]);
        let figures = Figures::of(Some(&before), &now);
        let rates = figures.nodes[0].rates.expect("two samples of one process");
        assert_eq!((rates.appends, rates.appended_bytes, rates.reads), (250.0, 25_000.0, 500.0));
        assert_eq!((rates.fsyncs, rates.written_bytes), (125.0, 1_024_000.0));
        assert!((rates.processors - 0.25).abs() < 1e-9, "{rates:?}");
        assert_eq!(figures.logs[0].records, Some(200.0));
        assert_eq!(figures.nodes[0].leads, 1);
    }

    #[test]
    fn a_node_that_was_started_anew_has_no_rate_and_no_negative_one() {
        let before = sample(10, vec![node(1, 1_000), node(2, 10)], Vec::new());
        let now = sample(11, vec![node(1, 5), node(2, 20)], Vec::new());
        let figures = Figures::of(Some(&before), &now);
        assert_eq!(figures.nodes[0].rates, None);
        assert_eq!(figures.nodes[1].rates.map(|rates| rates.appends), Some(10.0), "the other one is not concerned");
        // From then on it has them again.
        let later = sample(13, vec![node(1, 25), node(2, 30)], Vec::new());
        assert_eq!(Figures::of(Some(&now), &later).nodes[0].rates.map(|rates| rates.appends), Some(10.0));
    }

    #[test]
    fn without_two_samples_or_time_between_them_there_are_no_rates() {
        let only = sample(10, vec![node(1, 1_000)], vec![log("orders", 7, 500, &[0])]);
        for before in [None, Some(&only)] {
            let figures = Figures::of(before, &only);
            assert_eq!((figures.nodes[0].rates, figures.logs[0].records), (None, None));
        }
        let was_down = sample(8, vec![down(1)], Vec::new());
        assert_eq!(Figures::of(Some(&was_down), &only).nodes[0].rates, None);
    }

    #[test]
    fn an_end_that_went_back_and_a_log_made_anew_have_no_rate() {
        // The leader is gone, and a follower tells an older end.
        let before = sample(10, Vec::new(), vec![log("orders", 7, 500, &[0]), log("returns", 8, 100, &[0])]);
        let now = sample(11, Vec::new(), vec![log("orders", 7, 490, &[0]), log("returns", 9, 200, &[0])]);
        let figures = Figures::of(Some(&before), &now);
        assert_eq!(figures.logs.iter().map(|log| log.records).collect::<Vec<_>>(), [None, None]);
    }

    #[test]
    fn lag_is_that_of_the_replica_furthest_behind_of_those_that_answer() {
        let mut described = log("orders", 7, 500, &[0, 3, 40]);
        let figures = LogFigures::of(None, &described);
        assert_eq!((figures.lag, figures.behind, figures.running), (40, 40, 3));
        assert_eq!(figures.behind_of(&described.replicas[1]), 3);
        described.replicas[2].state = ReplicaState::Unreachable;
        let figures = LogFigures::of(None, &described);
        assert_eq!((figures.lag, figures.behind, figures.running), (3, 3, 2));
    }
}
