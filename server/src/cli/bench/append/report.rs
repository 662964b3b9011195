//! What a run of `quipu bench append` came to.
//!
//! What the nodes did is the difference of the counters that `status` carries,
//! over the nodes that have a replica of the log. Whatever else the cluster
//! does meanwhile counts as well: measure a quiet one.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use owo_colors::OwoColorize as _;
use quipu_sdk::{ClusterStatus, NodeId, WriterEpoch};
use serde_json::{Value, json};

use super::super::{per, per_second, rounded};
use super::{AppendArguments, Run};
use crate::cli::failure::Failure;
use quipu_server::output::{self, counted, grouped};

/// What the nodes with a replica did during the run, summed up.
pub(super) struct Spent {
    cpu: Duration,
    fsyncs: u64,
    commits: u64,
    /// By journal commits and by RocksDB.
    written_bytes: u64,
    metadata_bytes: u64,
    prepared_bytes: u64,
}

impl Spent {
    /// None when a node was down or was started again in between.
    pub(super) fn between(before: &ClusterStatus, after: &ClusterStatus, nodes: &BTreeSet<NodeId>) -> Option<Self> {
        let mut spent =
            Self { cpu: Duration::ZERO, fsyncs: 0, commits: 0, written_bytes: 0, metadata_bytes: 0, prepared_bytes: 0 };
        for &node in nodes {
            let of = |status: &ClusterStatus| {
                let node = status.nodes.iter().find(|status| status.id == node)?;
                Some((node.cpu, node.journal?))
            };
            let ((cpu_before, before), (cpu_after, after)) = (of(before)?, of(after)?);
            spent.cpu += cpu_after.checked_sub(cpu_before)?;
            spent.fsyncs += after.fsyncs.checked_sub(before.fsyncs)?;
            spent.commits += after.commits.checked_sub(before.commits)?;
            spent.written_bytes += after.written_bytes.checked_sub(before.written_bytes)?;
            spent.metadata_bytes += after.metadata_bytes.checked_sub(before.metadata_bytes)?;
            spent.prepared_bytes += after.prepared_bytes.checked_sub(before.prepared_bytes)?;
        }
        Some(spent)
    }
}

/// A run with what it cost.
pub(super) struct Report<'a> {
    pub(super) arguments: &'a AppendArguments,
    /// The writer epoch under which it appended.
    pub(super) epoch: Option<WriterEpoch>,
    pub(super) run: &'a Run,
    pub(super) replicas: u64,
    pub(super) spent: Option<Spent>,
}

impl Report<'_> {
    fn payload_bytes(&self) -> u64 {
        self.arguments.records * u64::from(self.arguments.record_bytes)
    }

    fn records_per_second(&self) -> f64 {
        per_second(self.arguments.records, self.run.elapsed)
    }

    fn megabytes_per_second(&self) -> f64 {
        per_second(self.payload_bytes(), self.run.elapsed) / 1e6
    }

    fn cpu_micros_per_record(&self, spent: &Spent) -> f64 {
        per(u64::try_from(spent.cpu.as_micros()).unwrap_or(u64::MAX), self.arguments.records)
    }

    /// A record's fsyncs on one node: what all nodes did, shared out.
    fn fsyncs_per_record_and_replica(&self, spent: &Spent) -> f64 {
        per(spent.fsyncs, self.arguments.records * self.replicas)
    }

    fn per_payload_byte_and_replica(&self, bytes: u64) -> f64 {
        per(bytes, self.payload_bytes() * self.replicas)
    }

    pub(super) fn as_json(&self) -> Value {
        let arguments = self.arguments;
        let spent = self.spent.as_ref().map(|spent| {
            json!({
                "cpu_micros_per_record": rounded(self.cpu_micros_per_record(spent)),
                "fsyncs_per_record_and_replica": rounded(self.fsyncs_per_record_and_replica(spent)),
                "commits": spent.commits,
                "fsyncs": spent.fsyncs,
                "written_per_payload_byte_and_replica":
                    rounded(self.per_payload_byte_and_replica(spent.written_bytes + spent.metadata_bytes)),
                "prepared_per_payload_byte_and_replica":
                    rounded(self.per_payload_byte_and_replica(spent.prepared_bytes)),
                "journal_bytes": spent.written_bytes,
                "metadata_bytes": spent.metadata_bytes,
                "prepared_bytes": spent.prepared_bytes,
            })
        });
        json!({
            "log": arguments.log,
            "records": arguments.records,
            "record_bytes": arguments.record_bytes,
            "records_per_call": arguments.records_per_call,
            "in_flight": arguments.in_flight,
            "compression": arguments.compression.as_str(),
            "idempotent": !arguments.no_idempotence,
            "conditional": arguments.conditional,
            "epoch": self.epoch.map(WriterEpoch::get),
            "replicas": self.replicas,
            "seconds": rounded(self.run.elapsed.as_secs_f64()),
            "records_per_second": rounded(self.records_per_second()),
            "megabytes_per_second": rounded(self.megabytes_per_second()),
            "latency_ms": self.run.calls.as_json(),
            "servers": spent,
        })
    }

    /// How it appended, for people.
    fn mode(&self) -> String {
        let mut mode = if self.arguments.no_idempotence { "not idempotent" } else { "idempotent" }.to_owned();
        if let Some(epoch) = self.epoch {
            mode += &format!(", under epoch {epoch}");
        }
        if self.arguments.conditional {
            mode += ", each where the log is to end";
        }
        mode
    }

    pub(super) fn print(&self) -> Result<(), Failure> {
        let AppendArguments { log, records, record_bytes, records_per_call, in_flight, .. } = self.arguments;
        let mut output = output::for_people();
        writeln!(
            output,
            "{} of {} to {log}: {} a call, {} in flight, {}",
            counted(*records, "record", "records"),
            counted((*record_bytes).into(), "byte", "bytes"),
            grouped((*records_per_call).into()),
            counted((*in_flight).into(), "call", "calls"),
            counted(self.replicas, "replica", "replicas"),
        )?;
        writeln!(output, "  mode           {}", self.mode())?;
        let rate = format!("{:.0}", self.records_per_second());
        writeln!(output, "  acknowledged   {} records/s  {:.1} MB/s", rate.bold(), self.megabytes_per_second())?;
        let latency = |percent| self.run.calls.milliseconds(percent);
        writeln!(
            output,
            "  latency        p50 {:.2} ms  p90 {:.2} ms  p99 {:.2} ms  p99.9 {:.2} ms  ({})",
            latency(50.0),
            latency(90.0),
            latency(99.0),
            latency(99.9),
            counted(self.run.calls.count(), "call", "calls"),
        )?;
        let Some(spent) = &self.spent else {
            writeln!(output, "  servers        unknown: a node was down or started again during the run")?;
            return Ok(());
        };
        writeln!(output, "  server CPU     {:.1} µs a record, all nodes together", self.cpu_micros_per_record(spent))?;
        writeln!(output, "  fsyncs         {:.3} a record and replica", self.fsyncs_per_record_and_replica(spent))?;
        writeln!(
            output,
            "  written        {:.3} bytes a payload byte and replica  (journal {:.3}, RocksDB {:.3})",
            self.per_payload_byte_and_replica(spent.written_bytes + spent.metadata_bytes),
            self.per_payload_byte_and_replica(spent.written_bytes),
            self.per_payload_byte_and_replica(spent.metadata_bytes),
        )?;
        writeln!(
            output,
            "  prepared       {:.3} bytes a payload byte and replica, ahead of use",
            self.per_payload_byte_and_replica(spent.prepared_bytes),
        )?;
        Ok(())
    }
}
