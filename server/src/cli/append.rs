//! `quipu append`: lines into records.
//!
//! ```text
//!   input ─► Lines ─► Producer ─► cluster
//!                        └► deliveries, oldest first ─► first and last offset
//! ```
//!
//! Reading goes on while earlier lines are in flight, up to the producer's own
//! bound on bytes and [`MAX_WAITING`] lines; the input may be endless.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use futures_util::FutureExt;
use quipu_sdk::{
    AppendError, Client, Compression, Consistency, Delivery, LogName, Offset, Producer, ProducerConfig, Record,
    TraceContext, WriterEpoch,
};
use tokio::io::{AsyncBufRead, BufReader};

use super::failure::Failure;
use super::lines::Lines;
use super::signals::Signals;
use quipu_server::output::counted;

/// The most lines that are read and not yet acknowledged.
const MAX_WAITING: usize = 100_000;

/// Append lines to a log.
///
/// Each line becomes one record, without its line feed and otherwise byte for
/// byte: carriage returns are kept, an empty line is an empty value, a last
/// line without a line feed counts. Lines are appended as they come and in
/// order; the input may be endless. Ctrl-C ends the input.
///
/// Once every record is acknowledged, which means fsynced by a majority of the
/// log's replicas, this prints `appended N records at FIRST..END`. A node or a
/// leader that fails meanwhile is no error; the retries land each record once.
/// A record that gets no answer for --timeout ends this with exit code 3: the
/// log holds it once or not at all, and nobody can tell yet.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  echo 'order 1 placed' | quipu append orders
  quipu append orders --file orders.jsonl --compression zstd
  tail -F /var/log/syslog | quipu append syslog
  echo 'state 7' | quipu append accounts --epoch 3 --expect-end 6")]
pub(crate) struct AppendArguments {
    /// The log's name.
    name: String,
    /// Read this file; - is standard input.
    #[arg(long, value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Put at most so many records into a batch. A batch is one append: its
    /// records land next to each other or not at all.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    batch_records: u32,
    /// Append only if the log ends here, so that nothing came in between: all
    /// lines as one batch, or none. Refused with the end as it is otherwise. Ctrl-C
    /// before the input has ended appends nothing.
    #[arg(long, value_name = "OFFSET")]
    expect_end: Option<u64>,
    /// Append under this writer epoch, as quipu writer acquire gave it: refused
    /// once somebody else has acquired a newer one.
    #[arg(long, value_name = "E", value_parser = clap::value_parser!(u64).range(1..))]
    epoch: Option<u64>,
    /// Compress batches with none, gzip, snappy, lz4 or zstd.
    #[arg(long, value_name = "CODEC", default_value_t = Compression::None)]
    compression: Compression,
}

/// Appends; a record that stays without an answer for `timeout` ends it.
pub(crate) async fn run(arguments: AppendArguments, timeout: Option<Duration>, client: &Client) -> Result<(), Failure> {
    let log: LogName = arguments.name.parse()?;
    let defaults = ProducerConfig::default();
    let config = ProducerConfig {
        batch_records: arguments.batch_records,
        compression: arguments.compression,
        writer_epoch: arguments.epoch.map(WriterEpoch::new),
        delivery_timeout: timeout.unwrap_or(defaults.delivery_timeout),
        ..defaults
    };
    let config = ProducerConfig { trace: trace_of_caller(), ..config };
    let producer = client.producer(&log, config)?;
    let mut progress = Progress::default();
    let how = How { expect_end: arguments.expect_end.map(Offset::new), most: arguments.batch_records };
    let appended = if arguments.file.as_os_str() == "-" {
        append(tokio::io::stdin(), &producer, how, &mut progress).await
    } else {
        let opened = tokio::fs::File::open(&arguments.file).await;
        let file =
            opened.map_err(|error| Failure::system(format_args!("read {}", arguments.file.display()), &error))?;
        append(file, &producer, how, &mut progress).await
    };
    appended.map_err(|failure| match progress.records {
        0 => failure,
        records => failure.after(counted(records, "record was acknowledged", "records were acknowledged")),
    })?;

    let (first, end) = match progress.first {
        Some(first) => (first, progress.end),
        // Nothing was appended at the end as it is, if the log is there at all.
        None => {
            let end = client.offsets(&log, Consistency::Linearizable).await?.end();
            (end, end)
        }
    };
    let mut output = std::io::stdout().lock();
    writeln!(output, "appended {} records at {first}..{end}", progress.records)?;
    output.flush()?;
    Ok(())
}

/// The span that this is run for, where whoever runs it follows what it does:
/// OpenTelemetry hands it to processes in TRACEPARENT.
fn trace_of_caller() -> Option<TraceContext> {
    std::env::var("TRACEPARENT").ok()?.parse().ok()
}

/// What has been acknowledged so far.
#[derive(Default)]
struct Progress {
    records: u64,
    first: Option<Offset>,
    /// Behind the last one.
    end: Offset,
}

impl Progress {
    fn acknowledge(&mut self, delivered: Result<Offset, AppendError>) -> Result<(), Failure> {
        let offset = delivered?;
        self.records += 1;
        self.first.get_or_insert(offset);
        self.end = offset.next();
        Ok(())
    }
}

/// How lines are appended.
#[derive(Clone, Copy)]
struct How {
    /// All as one batch, if the log ends here.
    expect_end: Option<Offset>,
    /// The most records of a batch.
    most: u32,
}

async fn append(
    input: impl tokio::io::AsyncRead + Unpin,
    producer: &Producer,
    how: How,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let mut lines = Lines::new(BufReader::with_capacity(1 << 18, input), ProducerConfig::MAX_BATCH_BYTES);
    let mut signals = Signals::listen().map_err(|error| Failure::system("listen for Ctrl-C", &error))?;
    if let Some(expected) = how.expect_end {
        return append_at(expected, &mut lines, producer, how.most, progress, &mut signals).await;
    }
    let mut waiting = VecDeque::new();
    tokio::select! {
        biased;
        _ = signals.next() => {}
        sent = send_lines(&mut lines, producer, &mut waiting, progress) => sent?,
    }
    // Asked to end once more, the process ends as it is.
    let all_answered = async {
        while let Some(delivery) = waiting.pop_front() {
            progress.acknowledge(delivery.await)?;
        }
        Ok(())
    };
    tokio::select! {
        biased;
        _ = signals.next() => Err(Failure::OutcomeUnknown("ended before every record was acknowledged".to_owned())),
        answered = all_answered => answered,
    }
}

/// Appends all lines as one batch, if the log ends at `expected`. Asked to end before
/// all of them are read, it has sent nothing.
async fn append_at(
    expected: Offset,
    lines: &mut Lines<impl AsyncBufRead + Unpin>,
    producer: &Producer,
    most: u32,
    progress: &mut Progress,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let records = tokio::select! {
        biased;
        signal = signals.next() => {
            return Err(Failure::Refused(format!("{signal} came before the last line: nothing was appended")));
        }
        gathered = gather(lines, producer, most) => gathered?,
    };
    if records.is_empty() {
        return Ok(());
    }
    let range = tokio::select! {
        biased;
        _ = signals.next() => {
            return Err(Failure::OutcomeUnknown("ended before the batch was acknowledged".to_owned()));
        }
        appended = producer.append_at(expected, records) => appended?,
    };
    (progress.records, progress.first, progress.end) = (range.count(), Some(range.start()), range.end());
    Ok(())
}

/// All lines, as records of one batch: no more of them are read than that may take.
async fn gather(
    lines: &mut Lines<impl AsyncBufRead + Unpin>,
    producer: &Producer,
    most: u32,
) -> Result<Vec<Record>, Failure> {
    let (mut records, mut room) = (Vec::new(), 0);
    while let Some(line) = lines.next().await.map_err(|error| Failure::Refused(error.to_string()))? {
        if records.len() as u64 >= u64::from(most) {
            let why = format!("--expect-end appends one batch, and that takes {most} records (--batch-records)");
            return Err(Failure::Refused(why));
        }
        let record = producer.record(line);
        room = producer.room_for(room, &record)?;
        records.push(record);
    }
    Ok(records)
}

/// Sends every line; returns at the end of the input, when the last ones may
/// still be waiting for their acknowledgement.
async fn send_lines(
    lines: &mut Lines<impl AsyncBufRead + Unpin>,
    producer: &Producer,
    waiting: &mut VecDeque<Delivery>,
    progress: &mut Progress,
) -> Result<(), Failure> {
    loop {
        while let Some(delivered) = waiting.front_mut().and_then(FutureExt::now_or_never) {
            waiting.pop_front();
            progress.acknowledge(delivered)?;
        }
        let full = waiting.len() >= MAX_WAITING;
        let line = match waiting.front_mut() {
            Some(oldest) => tokio::select! {
                biased;
                line = lines.next(), if !full => line,
                delivered = oldest => {
                    waiting.pop_front();
                    progress.acknowledge(delivered)?;
                    continue;
                }
            },
            None => lines.next().await,
        };
        let line = line.map_err(|error| Failure::Refused(error.to_string()))?;
        let Some(line) = line else { return Ok(()) };
        waiting.push_back(producer.send(producer.record(line)).await?);
    }
}

#[cfg(test)]
mod tests {
    use quipu_sdk::{ClientConfig, system};

    use super::*;

    /// A producer whose cluster nobody reaches.
    fn producer() -> Producer {
        let client = Client::new(ClientConfig::new(["127.0.0.1:1"]), system::environment()).expect("a good address");
        let log = "orders".parse::<LogName>().expect("a name");
        client.producer(&log, ProducerConfig::default()).expect("a good configuration")
    }

    #[tokio::test]
    async fn lines_of_one_batch_are_read_up_to_its_bound_and_no_further() {
        let endless = || Lines::new(BufReader::new(tokio::io::repeat(b'\n')), ProducerConfig::MAX_BATCH_BYTES);
        let too_large = gather(&mut endless(), &producer(), u32::MAX).await.expect_err("no batch takes them");
        let message = too_large.message().expect("it says why");
        assert!(message.contains("buffer_bytes allows 67108864"), "{message}");
        let too_many = gather(&mut endless(), &producer(), 3).await.expect_err("no batch takes them");
        assert!(too_many.message().is_some_and(|message| message.contains("--batch-records")), "{too_many:?}");
    }
}
