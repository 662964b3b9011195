//! What a node tells Prometheus, gathered when it is asked.
//!
//! docs/operations.md lists every metric and says which to alert on. Names end
//! in their unit; counters start at zero with the node's process. Series of
//! single logs are bounded by `server.metrics_logs`.

use std::fmt;

use futures_util::FutureExt as _;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, EncodeMetric as _, text as openmetrics,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use quipu_protocol::LogId;
use quipu_raft::group::{GroupStatus, Role};
use quipu_raft::node::{CursorLag, FailedReplica, Gauge, RunningLog};
use quipu_raft::{Pinned, Skew};
use quipu_storage::journal::{Counters, EntryId};

use super::About;
use crate::services::REASONS;

pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that is told, as of now.
///
/// # Errors
/// None that memory would give.
pub(super) fn text(about: &About) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Figures::of(about)));
    let mut text = String::new();
    openmetrics::encode(&mut text, &registry)?;
    Ok(text)
}

/// A node's figures at a moment.
#[derive(Debug)]
struct Figures {
    ready: bool,
    failed: bool,
    cpu_seconds: f64,
    clock_ahead_seconds: Option<f64>,
    age_retention_held: bool,
    journal: Counters,
    space_low: bool,
    bounded: Vec<Gauge>,
    /// Names without the `_total` that is written behind them.
    counts: Vec<(&'static str, &'static str, u64)>,
    append_errors: [u64; REASONS.len()],
    read_errors: [u64; REASONS.len()],
    leads_catalog: bool,
    logs: Vec<RunningLog>,
    failed_replicas: Vec<FailedReplica>,
    shown: usize,
    cursors: Vec<CursorLag>,
    cursors_left_out: usize,
    /// Of the logs that are shown and led here.
    lease_pins: Vec<(String, Pinned)>,
}

impl Figures {
    fn of(about: &About) -> Self {
        let shared = &about.shared;
        let (node, tallies) = (&shared.node, &shared.tallies);
        let catalog = node.replicas().into_iter().find(|(group, ..)| *group == LogId::CATALOG);
        let mut reasons = [tallies.append_errors.by_reason(), tallies.read_errors.by_reason()];
        let [append_errors, read_errors] = reasons.each_mut().map(|by_reason| {
            let mut counts = [0; REASONS.len()];
            counts.iter_mut().zip(by_reason).for_each(|(count, (_, counted))| *count = counted);
            counts
        });
        let (skew, age_retention_held) = node.skew();
        let logs = node.running_logs();
        let most = usize::try_from(shared.settings.metrics_cursors).unwrap_or(usize::MAX);
        let (cursors, cursors_left_out) = node.cursor_lags(&logs, most);
        let shown = usize::try_from(shared.settings.metrics_logs).unwrap_or(usize::MAX);
        let lease_pins = node.lease_pins(&logs[..logs.len().min(shown)]);
        Self {
            ready: about.health.is_serving(),
            failed: node.failed().now_or_never().is_some(),
            cpu_seconds: (about.cpu_micros)() as f64 / 1e6,
            clock_ahead_seconds: match skew {
                Skew::Ahead { ms, .. } => Some(ms as f64 / 1e3),
                Skew::Alone | Skew::Unheard => None,
            },
            age_retention_held,
            journal: node.journal().counters(),
            space_low: node.journal().low_space().is_some(),
            bounded: shared.footprint(),
            counts: vec![
                ("quipu_appends", "Appends acknowledged, duplicates included", tallies.appends.get()),
                ("quipu_append_duplicates", "Appends that repeated one that had landed", tallies.duplicates.get()),
                ("quipu_appended_records", "Records of acknowledged appends", tallies.appended_records.get()),
                ("quipu_appended_bytes", "Bytes of acknowledged appends' batches", tallies.appended_bytes.get()),
                ("quipu_reads", "Read streams begun", tallies.reads.get()),
                ("quipu_read_batches", "Batches sent to readers", tallies.read_batches.get()),
                ("quipu_read_bytes", "Bytes of batches sent to readers", tallies.read_bytes.get()),
                ("quipu_leader_changes", "Changes of leader of groups with a replica here", node.leader_changes()),
            ],
            append_errors,
            read_errors,
            leads_catalog: catalog.is_some_and(|(.., status)| status.role == Role::Leader),
            logs,
            cursors,
            cursors_left_out,
            lease_pins,
            failed_replicas: node.failed_replicas(),
            shown,
        }
    }
}

impl Collector for Figures {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.node(&mut page)?;
        self.journal(&mut page)?;
        self.services(&mut page)?;
        self.replicas(&mut page)?;
        self.each_log(&mut page)?;
        self.each_cursor(&mut page)
    }
}

impl Figures {
    fn node(&self, page: &mut Page<'_>) -> fmt::Result {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        page.gauges("quipu_build_info", "The software's version; always 1", [(version, 1)])?;
        page.gauge("quipu_ready", "1 while the node takes part in its cluster", u64::from(self.ready))?;
        page.gauge("quipu_failed", "1 once the node cannot go on", u64::from(self.failed))?;
        page.counter("process_cpu_seconds", "CPU time of the node's process", self.cpu_seconds)?;
        let ahead = "How far its clock is ahead of the median of its peers'; not there while unknown";
        page.gauge_if_known("quipu_clock_ahead_seconds", ahead, self.clock_ahead_seconds)?;
        let held = "1 while nothing is trimmed by age here, since the node's clock is in doubt";
        page.gauge("quipu_age_retention_held", held, u64::from(self.age_retention_held))?;
        let names: Vec<String> = self.bounded.iter().map(|gauge| gauge.name.replace('-', "_")).collect();
        let of = |value: fn(&Gauge) -> u64| {
            let labelled = names.iter().zip(&self.bounded);
            labelled.map(move |(name, gauge)| ([("resource", name.as_str())], value(gauge)))
        };
        let used = "What is held of something bounded, the fullest of its kind: bytes or a number, as its name says";
        page.gauges("quipu_resource_used", used, of(|gauge| gauge.value))?;
        page.gauges("quipu_resource_limit", "The most that may be held of it", of(|gauge| gauge.bound))
    }

    fn journal(&self, page: &mut Page<'_>) -> fmt::Result {
        let Counters {
            commits,
            fsyncs,
            entries,
            payload_bytes,
            written_bytes,
            prepared_bytes,
            relocated_bytes,
            recycled_segments,
            damage_found,
            misreads,
            mended_entries,
            mended_bytes,
            scrubbed_bytes,
            scrub_passes,
            scrub_findings,
        } = self.journal;
        page.counter("quipu_journal_commits", "Group commits", commits)?;
        page.counter("quipu_journal_fsyncs", "fdatasyncs that appends waited for", fsyncs)?;
        page.counter("quipu_journal_entries", "Entries written", entries)?;
        page.counter("quipu_journal_payload_bytes", "Bytes of entries' payloads", payload_bytes)?;
        page.counter("quipu_journal_written_bytes", "Bytes written by commits, headers included", written_bytes)?;
        page.counter("quipu_journal_prepared_bytes", "Bytes written ahead to prepare segments", prepared_bytes)?;
        page.counter("quipu_journal_relocated_bytes", "Bytes written again to free old segments", relocated_bytes)?;
        page.counter("quipu_journal_recycled_segments", "Segments that were let go of", recycled_segments)?;
        page.counter("quipu_journal_damage_found", "Replicas found damaged while the node ran", damage_found)?;
        let misread = "Reads whose checksum was wrong, and right when they were repeated";
        page.counter("quipu_journal_misreads", misread, misreads)?;
        let refetched = "Entries fetched from peers in place of damaged ones";
        page.counter("quipu_journal_refetched_entries", refetched, mended_entries)?;
        page.counter("quipu_journal_refetched_bytes", "Bytes of their payloads", mended_bytes)?;
        page.counter("quipu_scrub_bytes", "Bytes read to find rot", scrubbed_bytes)?;
        page.counter("quipu_scrub_passes", "How often everything sealed was read for that", scrub_passes)?;
        page.counter("quipu_scrub_findings", "Frames found rotten by it", scrub_findings)?;
        page.gauge("quipu_space_low", "1 while appends are refused for want of room", u64::from(self.space_low))
    }

    fn services(&self, page: &mut Page<'_>) -> fmt::Result {
        for (name, help, count) in &self.counts {
            page.counter(name, help, *count)?;
        }
        let by_reason = |counts: &[u64; REASONS.len()]| {
            let labels = REASONS.map(|reason| [("reason", reason)]);
            labels.into_iter().zip(*counts).collect::<Vec<_>>()
        };
        let appends = "Appends that were not acknowledged; all but outcome_unknown have changed nothing";
        page.counters("quipu_append_errors", appends, by_reason(&self.append_errors))?;
        page.counters("quipu_read_errors", "Read streams refused or broken", by_reason(&self.read_errors))
    }

    fn replicas(&self, page: &mut Page<'_>) -> fmt::Result {
        let running = |which: fn(&GroupStatus) -> bool| self.logs.iter().filter(|log| which(&log.status)).count();
        let led = running(|status| status.role == Role::Leader);
        let leaderless = running(|status| status.leader.is_none());
        let damaged = self.failed_replicas.iter().filter(|failed| failed.damaged).count();
        page.gauge("quipu_replicas", "Logs' replicas that run here", self.logs.len())?;
        page.gauge("quipu_replicas_led", "Those of them that lead", led)?;
        page.gauge("quipu_replicas_leaderless", "Those of them that know of no leader", leaderless)?;
        page.gauge(
            "quipu_replicas_failed",
            "Logs' replicas that should run here and do not",
            self.failed_replicas.len(),
        )?;
        page.gauge("quipu_replicas_damaged", "Those of them whose entries are damaged", damaged)?;
        page.gauge("quipu_catalog_led", "1 while this node leads the catalog", u64::from(self.leads_catalog))?;
        let left_out = self.logs.len().saturating_sub(self.shown);
        page.gauge("quipu_logs_not_shown", "Logs without series of their own, beyond server.metrics_logs", left_out)
    }

    fn each_log(&self, page: &mut Page<'_>) -> fmt::Result {
        let shown = || self.logs.iter().take(self.shown);
        let of = |value: fn(&RunningLog) -> u64| shown().map(move |log| ([("log", log.name.as_str())], value(log)));
        page.gauges("quipu_log_start_offset", "First readable offset here", of(|log| log.range.start().get()))?;
        page.gauges("quipu_log_end_offset", "Next offset to be assigned, here", of(|log| log.range.end().get()))?;
        page.gauges("quipu_log_leader", "1 while the replica here leads", of(|log| u64::from(leads(log))))?;
        let lag = "Entries known to be committed and not yet applied here";
        page.gauges("quipu_log_applied_lag_entries", lag, of(|log| behind(log.status.committed, log.status.applied)))?;
        let lag = "Entries that the replica furthest behind has not fsynced, as its leader knows";
        let led = shown().filter(|log| leads(log)).map(|log| ([("log", log.name.as_str())], furthest_behind(log)));
        page.gauges("quipu_log_replication_lag_entries", lag, led)?;
        self.each_leased_log(page)
    }

    fn each_leased_log(&self, page: &mut Page<'_>) -> fmt::Result {
        let of = |value: fn(&Pinned) -> u64| {
            self.lease_pins.iter().map(move |(log, pinned)| ([("log", log.as_str())], value(pinned)))
        };
        page.gauges("quipu_log_leases", "Leases held of a log led here", of(|pinned| pinned.leases))?;
        let records = "Records from the oldest lease of a log led here to its end: retention lets none of them go";
        page.gauges("quipu_log_lease_pinned_records", records, of(|pinned| pinned.records))?;
        let bytes = "Bytes of those records' batches; growing without end, a holder renews and does not move on";
        page.gauges("quipu_log_lease_pinned_bytes", bytes, of(|pinned| pinned.bytes))
    }

    fn each_cursor(&self, page: &mut Page<'_>) -> fmt::Result {
        let lag = "Records that come after a cursor of a log led here, of those that can still be read";
        let labelled = self
            .cursors
            .iter()
            .map(|cursor| ([("log", cursor.log.as_str()), ("cursor", cursor.cursor.as_str())], cursor.records));
        page.gauges("quipu_cursor_lag_records", lag, labelled)?;
        let left_out = "Cursors of the logs led here without a series of their own, beyond server.metrics_cursors";
        page.gauge("quipu_cursors_not_shown", left_out, self.cursors_left_out)
    }
}

fn leads(log: &RunningLog) -> bool {
    log.status.role == Role::Leader
}

fn furthest_behind(log: &RunningLog) -> u64 {
    let status = &log.status;
    status.matched.values().map(|matched| behind(status.last, *matched)).max().unwrap_or_default()
}

/// How many entries `reached` is behind `goal`.
fn behind(goal: Option<EntryId>, reached: Option<EntryId>) -> u64 {
    let index = |entry: Option<EntryId>| entry.map_or(0, |entry| entry.index.get());
    index(goal).saturating_sub(index(reached))
}

/// Writes metrics, one after the other.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(encoder)
    }

    fn gauge_if_known(&mut self, name: &str, help: &str, value: Option<f64>) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        value.map_or(Ok(()), |value| ConstGauge::new(value).encode(encoder))
    }

    fn counter(&mut self, name: &str, help: &str, value: impl EncodeCounterValue) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(encoder)
    }

    fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in series {
            ConstGauge::new(value).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in series {
            ConstCounter::new(value).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
