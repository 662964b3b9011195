//! A journal lives, dies and lives again, many times over, and is compared
//! with a model after every death.
//!
//! ```text
//!   open ─► random calls, random completions ─► power cut │ kill ─► open ─► …
//!                                                                    │
//!        what it holds = the calls up to some point, and no point before
//!        the last one that was acknowledged ◄────────────────────────┘
//! ```
//!
//! Nothing is damaged there, so nothing may be called so: a crash is not
//! corruption. Then one place of a file is spoilt, and every replica holds all
//! it held, or is called damaged: corruption is not a crash either.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, mpsc};

use bytes::Bytes;
use quipu_protocol::environment::Random;
use quipu_protocol::{ClusterId, Incarnation, Index, LogId, NodeId, ReplicaId, Term};
use quipu_storage::journal::{
    Entry, EntryId, Journal, JournalConfig, JournalError, OpenError, Owner, ReadError, RecoveryReport, ReplicaKey, Vote,
};
use quipu_storage::{Disk, Kv, Lane, MemoryDisk, MemoryKv};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

const CONFIG: JournalConfig =
    JournalConfig { segment_bytes: 1024 * 1024, tail_cache_bytes: 64 * 1024, ..JournalConfig::DEFAULT };

const OWNER: Owner = Owner { cluster: ClusterId::new(7), node: NodeId::new(1), incarnation: Incarnation::new(99) };

struct Seeded(Mutex<StdRng>);

impl Random for Seeded {
    fn next(&self) -> u64 {
        self.0.lock().unwrap().next_u64()
    }
}

/// One call, as it was made.
#[derive(Clone, Debug)]
enum Call {
    Append(Vec<EntryId>, u8, usize),
    Vote(Vote),
    Truncate(Index),
    Purge(EntryId),
    Retire,
}

/// What a replica has to hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Expected {
    vote: Option<Vote>,
    purged: Option<EntryId>,
    last: Option<EntryId>,
    /// Index to term, first byte and length of the payload.
    entries: BTreeMap<u64, (Term, u8, usize)>,
}

type Model = BTreeMap<ReplicaKey, Expected>;

fn apply(model: &mut Model, key: ReplicaKey, call: &Call) {
    if matches!(call, Call::Retire) {
        model.remove(&key);
        return;
    }
    let replica = model.entry(key).or_default();
    match call {
        Call::Append(ids, fill, length) => {
            for id in ids {
                replica.entries.insert(id.index.get(), (id.term, *fill, *length));
                replica.last = Some(*id);
            }
        }
        Call::Vote(vote) => replica.vote = Some(*vote),
        Call::Truncate(from) => {
            replica.entries.retain(|index, _| *index < from.get());
            let last = replica.entries.last_key_value();
            let last = last.map(|(index, (term, ..))| EntryId { term: *term, index: Index::new(*index) });
            replica.last = last.or(replica.purged);
        }
        Call::Purge(through) => {
            replica.entries.retain(|index, _| *index > through.index.get());
            replica.purged = Some(*through);
            if replica.last.is_none_or(|last| last.index <= through.index) {
                replica.last = Some(*through);
            }
        }
        Call::Retire => unreachable!("handled above"),
    }
}

/// One life of the journal, with what was asked of it.
struct Life {
    disk: Arc<MemoryDisk>,
    kv: Arc<MemoryKv>,
    journal: Journal,
    /// What it held at the start.
    born: Model,
    /// What it holds with all calls.
    model: Model,
    calls: Vec<(ReplicaKey, Call)>,
    /// Which calls were acknowledged.
    acknowledged: mpsc::Receiver<usize>,
    acknowledge: mpsc::Sender<usize>,
    context: String,
}

fn open(disk: &Arc<MemoryDisk>, kv: &Arc<MemoryKv>, seed: u64) -> (Journal, RecoveryReport) {
    try_open(disk, kv, seed).unwrap_or_else(|error| panic!("seed {seed}: {error}: {error:?}"))
}

fn try_open(disk: &Arc<MemoryDisk>, kv: &Arc<MemoryKv>, seed: u64) -> Result<(Journal, RecoveryReport), OpenError> {
    let random = Arc::new(Seeded(Mutex::new(StdRng::seed_from_u64(seed))));
    let (disk, kv): (Arc<dyn Disk>, Arc<dyn Kv>) = (disk.clone(), kv.clone());
    Journal::open(disk, kv, random, CONFIG, OWNER)
}

impl Life {
    fn begin(disk: MemoryDisk, kv: MemoryKv, seed: u64, context: &str) -> (Self, RecoveryReport) {
        let (disk, kv) = (Arc::new(disk), Arc::new(kv));
        disk.hold();
        let (journal, report) = open(&disk, &kv, seed);
        let (acknowledge, acknowledged) = mpsc::channel();
        let (born, model, calls) = (Model::new(), Model::new(), Vec::new());
        let context = context.to_owned();
        (Self { disk, kv, journal, born, model, calls, acknowledged, acknowledge, context }, report)
    }

    fn call(&mut self, key: ReplicaKey, call: Call) {
        let (ordinal, acknowledge) = (self.calls.len(), self.acknowledge.clone());
        let done = Box::new(move |result: Result<(), JournalError>| {
            if result.is_ok() {
                acknowledge.send(ordinal).unwrap();
            }
        });
        match &call {
            Call::Append(ids, fill, length) => {
                let payload = Bytes::from(vec![*fill; *length]);
                let entries = ids.iter().map(|id| Entry { id: *id, payload: payload.clone() }).collect();
                self.journal.append(key, entries, done);
            }
            Call::Vote(vote) => self.journal.save_vote(key, *vote, done),
            Call::Truncate(from) => self.journal.truncate(key, *from, done),
            Call::Purge(through) => self.journal.purge(key, *through, done),
            Call::Retire => self.journal.retire(key, done),
        }
        apply(&mut self.model, key, &call);
        self.calls.push((key, call));
    }

    fn step(&self, chance: &mut StdRng) {
        match chance.random_range(0..8) {
            0..=3 => drop((self.disk.step(Lane::Commit), self.disk.step(Lane::Commit))),
            4 => drop(self.disk.step(Lane::Commit)),
            5 => drop(self.disk.step(Lane::Background)),
            6 => self.journal.mark_idle(),
            _ => {}
        }
    }

    /// Everything that the journal holds, as the model has it.
    fn held(&self) -> Model {
        let replica = |key: ReplicaKey| {
            let state = self.journal.replica(key).expect("a listed replica");
            assert!(self.journal.damage(key).is_none(), "{}: {key} is damaged by nothing", self.context);
            let first = state.purged.map_or(0, |purged| purged.index.get() + 1);
            let end = state.last.map_or(0, |last| last.index.get() + 1);
            let mut entries = BTreeMap::new();
            // The first entry of a log may be 0 or 1.
            let first = if state.purged.is_none() && self.id(key, 0).is_none() { 1 } else { first };
            for entry in self.read_all(key, first..end) {
                let (fill, length) = (entry.payload.first().copied().unwrap_or(0), entry.payload.len());
                assert!(entry.payload.iter().all(|byte| *byte == fill), "{}: payloads are mixed", self.context);
                assert_eq!(self.id(key, entry.id.index.get()), Some(entry.id), "{}", self.context);
                entries.insert(entry.id.index.get(), (entry.id.term, fill, length));
            }
            (key, Expected { vote: state.vote, purged: state.purged, last: state.last, entries })
        };
        self.journal.replicas().into_iter().map(replica).collect()
    }

    fn id(&self, key: ReplicaKey, index: u64) -> Option<EntryId> {
        self.journal.entry_id(key, Index::new(index)).unwrap()
    }

    fn read_all(&self, key: ReplicaKey, range: Range<u64>) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut next = range.start;
        while next < range.end {
            let (sender, read) = mpsc::channel();
            let done = Box::new(move |result| sender.send(result).unwrap());
            self.journal.read(key, Index::new(next)..Index::new(range.end), 200_000, done);
            self.disk.step(Lane::Read);
            let read = read.try_recv().expect("a read is complete after its step");
            let read = read.unwrap_or_else(|error| panic!("{}: {key} from {next}: {error}", self.context));
            assert!(!read.is_empty(), "{}: {key} ends at {next}, before {}", self.context, range.end);
            for entry in read {
                assert_eq!(entry.id.index.get(), next, "{}: {key} has a gap or a repeat", self.context);
                next += 1;
                entries.push(entry);
            }
        }
        entries
    }

    /// Finds which of the calls survived; at least all acknowledged ones did.
    fn check_against(&mut self, before: &Self) {
        let held = self.held();
        let acknowledged = before.acknowledged.try_iter().max().map_or(0, |last| last + 1);
        let mut model = before.born.clone();
        let mut survived = 0;
        while model != held || survived < acknowledged {
            let Some((key, call)) = before.calls.get(survived) else {
                let calls = &before.calls[acknowledged.saturating_sub(2)..];
                panic!(
                    "{}: held is no state after {acknowledged} calls or more\nheld: {held:#?}\nall: {model:#?}\n{calls:?}",
                    self.context
                );
            };
            apply(&mut model, *key, call);
            survived += 1;
        }
        self.born = held.clone();
        self.model = held;
    }
}

fn random_call(chance: &mut StdRng, life: &mut Life, next_replica: &mut u64) {
    let group = chance.random_range(1..5);
    let known = life.model.keys().copied().filter(|key| key.group.get() == group).max();
    let Some(key) = known.filter(|_| chance.random_range(0..300) > 0) else {
        if let Some(old) = known {
            life.call(old, Call::Retire);
        }
        *next_replica += 1;
        let key = ReplicaKey { group: LogId::new(group), replica: ReplicaId::new(*next_replica) };
        let vote = Vote { term: Term::new(1), voted_for: None, committed: false };
        return life.call(key, Call::Vote(vote));
    };
    let replica = life.model[&key].clone();
    let term = replica.last.map_or(1, |last| last.term.get()) + u64::from(chance.random_range(0..10) == 0);
    let first = replica.entries.first_key_value().map(|(index, _)| *index);
    match chance.random_range(0..20) {
        0..=1 => {
            let voted_for = chance.random::<bool>().then(|| ReplicaId::new(chance.random_range(1..9)));
            life.call(key, Call::Vote(Vote { term: Term::new(term), voted_for, committed: chance.random() }));
        }
        2 => {
            let Some(first) = first else { return };
            let from = chance.random_range(first..=replica.last.unwrap().index.get());
            life.call(key, Call::Truncate(Index::new(from)));
        }
        3 => {
            let Some(first) = first else { return };
            let last = replica.last.unwrap().index.get();
            let index = chance.random_range(first..=last);
            let through = EntryId { term: replica.entries[&index].0, index: Index::new(index) };
            life.call(key, Call::Purge(through));
        }
        4 if chance.random_range(0..10) == 0 => {
            // As an installed snapshot does.
            let index = replica.last.map_or(0, |last| last.index.get()) + chance.random_range(1..50);
            life.call(key, Call::Purge(EntryId { term: Term::new(term), index: Index::new(index) }));
        }
        5 => {
            let Some(last) = replica.last else { return };
            life.journal.save_committed(key, last);
        }
        _ => {
            let start = replica.last.map_or(group % 2, |last| last.index.get() + 1);
            let count = chance.random_range(1..6);
            let ids = (start..start + count).map(|index| EntryId { term: Term::new(term), index: Index::new(index) });
            let length = match chance.random_range(0..10) {
                0 => 0,
                1 => chance.random_range(20_000..180_000),
                _ => chance.random_range(1..3000),
            };
            // An empty payload has no first byte to tell.
            let fill = if length == 0 { 0 } else { chance.random() };
            life.call(key, Call::Append(ids.collect(), fill, length));
        }
    }
}

/// How lives end.
enum Death {
    /// The power goes while the disk makes a change.
    PowerCut,
    /// The process is killed; the machine lives on.
    Kill,
}

/// Lets everything that was asked for happen, and marks it.
fn settle(life: &Life) {
    for _ in 0..3 {
        while life.disk.step(Lane::Commit) || life.disk.step(Lane::Background) {}
        life.journal.mark_idle();
    }
}

/// Spoils one place of a file, and says what was done.
fn spoil(chance: &mut StdRng, disk: &MemoryDisk) -> Option<String> {
    let files = disk.list("journal").unwrap();
    let path = format!("journal/{}", files[chance.random_range(0..files.len())]);
    let content = disk.content(&path).unwrap();
    let used = content.iter().rposition(|byte| *byte != 0)? as u64;
    let offset = chance.random_range(0..=used);
    Some(match chance.random_range(0..5) {
        0 => {
            let sector = offset / 512 * 512;
            disk.corrupt(&path, sector, &[0; 512]);
            format!("zeroed 512 bytes at {sector} of {path}")
        }
        1 => {
            let sector = offset / 4096 * 4096;
            disk.corrupt(&path, sector, &[0; 4096]);
            format!("zeroed 4096 bytes at {sector} of {path}")
        }
        2 => {
            // A write that went astray, within the file.
            let (from, to) = (chance.random_range(0..=used) / 4096 * 4096, offset / 4096 * 4096);
            let stray = content[usize::try_from(from).unwrap()..][..4096].to_vec();
            disk.corrupt(&path, to, &stray);
            format!("put the block at {from} of {path} at {to}")
        }
        _ => {
            let bit = chance.random_range(0..8);
            disk.flip_bit(&path, offset, bit);
            format!("flipped bit {bit} of byte {offset} of {path}")
        }
    })
}

impl Life {
    /// Every replica holds all there was, or is known to be damaged, or says
    /// so when it is read.
    fn check_damaged(&self, expected: &Model, report: &RecoveryReport) {
        for (key, expected) in expected {
            if self.journal.damage(*key).is_some() {
                continue;
            }
            let context = format!("{}: {key}, {report:?}", self.context);
            let state = self.journal.replica(*key).unwrap_or_else(|| panic!("{context}: gone"));
            assert_eq!(
                (state.vote, state.purged, state.last),
                (expected.vote, expected.purged, expected.last),
                "{context}"
            );
            for (index, (term, fill, length)) in &expected.entries {
                let (sender, read) = mpsc::channel();
                let done = Box::new(move |result| sender.send(result).unwrap());
                self.journal.read(*key, Index::new(*index)..Index::new(index + 1), 1, done);
                self.disk.step(Lane::Read);
                match read.try_recv().expect("a read is complete after its step") {
                    Ok(read) => {
                        let id = EntryId { term: *term, index: Index::new(*index) };
                        let payload = Bytes::from(vec![*fill; *length]);
                        assert_eq!(read, [Entry { id, payload }], "{context}: another entry than was written");
                    }
                    Err(ReadError::Damaged { .. }) => {}
                    Err(error) => panic!("{context}: {error}"),
                }
            }
        }
        for key in self.journal.replicas() {
            // One that was retired may have lost just that, and is damaged.
            let known = expected.contains_key(&key) || self.journal.damage(key).is_some();
            assert!(known, "{}: {key} came from nowhere, {report:?}", self.context);
        }
    }
}

fn live_and_spoil(seed: u64) {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut next_replica = 0;
    let (mut life, _) = Life::begin(MemoryDisk::new(seed), MemoryKv::new(), chance.random(), "first life");
    for _ in 0..chance.random_range(1..300) {
        random_call(&mut chance, &mut life, &mut next_replica);
        life.step(&mut chance);
    }
    settle(&life);
    let expected = life.model.clone();
    for round in 0..8 {
        let lost_kv = chance.random();
        let disk = life.disk.restore(chance.random());
        let kv = if lost_kv { MemoryKv::new() } else { life.kv.lose_unflushed(chance.random()) };
        let Some(spoilt) = spoil(&mut chance, &disk) else { continue };
        let context = format!("seed {seed}, round {round}: {spoilt}, index lost: {lost_kv}");
        let (disk, kv) = (Arc::new(disk), Arc::new(kv));
        disk.hold();
        // Not to be opened at all is an answer, too.
        let Ok((journal, report)) = try_open(&disk, &kv, seed) else { continue };
        let (acknowledge, acknowledged) = mpsc::channel();
        let (born, model, calls) = (Model::new(), Model::new(), Vec::new());
        let spoilt = Life { disk, kv, journal, born, model, calls, acknowledged, acknowledge, context };
        spoilt.check_damaged(&expected, &report);
        // And once more, with what the first start made of it.
        settle(&spoilt);
        let (disk, kv) = (Arc::new(spoilt.disk.restore(seed)), Arc::new(spoilt.kv.lose_unflushed(seed)));
        disk.hold();
        let context = format!("{}, second start", spoilt.context);
        let Ok((journal, report)) = try_open(&disk, &kv, seed) else { continue };
        let again = Life { disk, kv, journal, context, ..spoilt };
        again.check_damaged(&expected, &report);
    }
}

/// A start during which the power goes, or soon after.
fn stillborn(chance: &mut StdRng, disk: MemoryDisk, kv: MemoryKv) -> (MemoryDisk, MemoryKv) {
    let (disk, kv) = (Arc::new(disk), Arc::new(kv));
    disk.hold();
    disk.cut_power_at(chance.random_range(1..16));
    let opened = try_open(&disk, &kv, chance.random());
    while disk.step(Lane::Background) || disk.step(Lane::Commit) {}
    drop(opened);
    (disk.restore(chance.random()), kv.lose_unflushed(chance.random()))
}

fn live(seed: u64) {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut next_replica = 0;
    let (mut disk, mut kv) = (MemoryDisk::new(seed), MemoryKv::new());
    let mut before: Option<Life> = None;
    let mut lives = Vec::new();
    for number in 0..chance.random_range(3..8) {
        while chance.random_range(0..3) == 0 {
            (disk, kv) = stillborn(&mut chance, disk, kv);
            lives.push(("stillborn", false));
        }
        let context = format!("seed {seed}, life {number} after {lives:?}");
        let (mut life, report) = Life::begin(disk, kv, chance.random(), &context);
        assert!(report.damage.is_empty(), "{context}: a crash was taken for corruption: {report:?}");
        if let Some(before) = &before {
            life.check_against(before);
        }
        let death = if chance.random_range(0..3) == 0 { Death::Kill } else { Death::PowerCut };
        if matches!(death, Death::PowerCut) && chance.random() {
            life.disk.cut_power_at(chance.random_range(1..120));
        }
        for _ in 0..chance.random_range(0..250) {
            random_call(&mut chance, &mut life, &mut next_replica);
            for _ in 0..chance.random_range(0..3) {
                life.step(&mut chance);
            }
        }
        let lost_kv = chance.random_range(0..6) == 0;
        lives.push((if matches!(death, Death::Kill) { "killed" } else { "cut" }, lost_kv));
        disk = match death {
            Death::PowerCut => life.disk.restore(chance.random()),
            Death::Kill => life.disk.kill(chance.random()),
        };
        kv = life.kv.lose_unflushed(chance.random());
        if lost_kv {
            kv = MemoryKv::new();
        }
        before = Some(life);
    }
}

/// Those of the variable `QUIPU_JOURNAL_SEEDS`, or else the first `count`.
fn seeds(count: u64) -> Range<u64> {
    match std::env::var("QUIPU_JOURNAL_SEEDS") {
        Ok(seeds) => {
            let (start, end) = seeds.split_once("..").expect("a range such as 0..1000");
            start.parse().expect("a number")..end.parse().expect("a number")
        }
        Err(_) => 0..count,
    }
}

#[test]
fn whatever_the_deaths_what_was_acknowledged_is_there_and_nothing_is_damaged() {
    seeds(40).for_each(live);
}

#[test]
fn whatever_is_spoilt_what_was_acknowledged_is_there_or_called_damaged() {
    seeds(20).for_each(live_and_spoil);
}
