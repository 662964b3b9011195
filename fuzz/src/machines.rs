//! The state machines: images and commands, as a peer or a disk gives them.
//!
//! Input: a byte (bit 0: a log's or the catalog's; bit 1: an image comes first; bit 2:
//! a registrar's, whatever bit 0 says), then pieces, each with its length in two bytes. A machine that was
//! installed from another's image goes on like it: same answers, same image.

use bytes::Bytes;
use prost::Message;
use quipu_protocol::batch::{BatchBuilder, Compression, Producer, Record};
use quipu_protocol::stored::catalog_command::Command;
use quipu_protocol::{
    ClusterId, Index, LogName, NodeId, ProducerEpoch, ProducerId, Sequence, Term, Timestamp, peer, stored, v1,
};
use quipu_raft::catalog::{self, Catalog};
use quipu_raft::registrar::{self, Registrar};
use quipu_raft::{LogMachine, Machine};
use quipu_storage::journal::EntryId;

use crate::choice;
use crate::image::Input;

/// Installs and applies.
pub fn run(input: &[u8]) {
    let (how, pieces) = choice(input);
    let with_image = how & 2 != 0;
    match how & 5 {
        4 | 5 => drive::<Registrar>(pieces, with_image),
        0 => drive::<LogMachine>(pieces, with_image),
        _ => drive::<Catalog>(pieces, with_image),
    }
}

fn drive<M: Machine + Default>(pieces: &[u8], with_image: bool) {
    let mut rest = Input(pieces);
    let mut next = || {
        let length = rest.short();
        (!rest.0.is_empty()).then(|| Bytes::copy_from_slice(rest.bytes(length)))
    };
    let mut machine = M::default();
    if with_image && let Some(image) = next() {
        if machine.install(&image).is_err() {
            return;
        }
        let image = machine.image();
        machine.install(&image).expect("its own image can be installed");
        assert_eq!(machine.image(), image, "an image is the whole state");
    }
    for index in 1.. {
        let Some(command) = next() else { break };
        let mut copy = M::default();
        copy.install(&machine.image()).expect("its own image can be installed");
        let id = EntryId { term: Term::new(1), index: Index::new(index) };
        let (one, other) = (machine.apply(id, &command), copy.apply(id, &command));
        assert_eq!(format!("{one:?}"), format!("{other:?}"), "a copy answers alike");
        if one.is_err() {
            break;
        }
        assert_eq!(machine.image(), copy.image(), "a copy goes on alike");
    }
}

/// A log's appends, the catalog's commands, and the images after them.
pub fn seeds() -> Vec<Vec<u8>> {
    const NOW: i64 = 1_700_000_000_000;
    let batch = |producer: Option<Producer>| {
        let mut builder = BatchBuilder::new(Compression::None);
        for n in 0..3 {
            builder.push(&Record::new(Timestamp::new(NOW + n), Bytes::from_static(b"value"))).expect("room");
        }
        builder.finish(producer).expect("records")
    };
    let producer = |sequence| Producer {
        id: ProducerId::new(NOW << 20),
        epoch: ProducerEpoch::new(0),
        sequence: Sequence::new(sequence),
    };
    let append = |stamp, batches: Vec<Bytes>| {
        let command = Some(stored::log_command::Command::Append(stored::AppendBatches {
            batches,
            ..stored::AppendBatches::default()
        }));
        Bytes::from(stored::LogCommand { stamp, command, ..stored::LogCommand::default() }.encode_to_vec())
    };
    let commit = |position| stored::CommitCursor { position, of: 9, request_id: position, ..Default::default() };
    let cursors = {
        use stored::cursor_command::Action;
        use stored::waiting_command::Command;
        let one = |command| stored::WaitingCommand { command: Some(command) };
        let command = |cursor: &str, action| {
            one(Command::Cursor(stored::CursorCommand { cursor: cursor.to_owned(), action: Some(action) }))
        };
        let lease = |grant| stored::HoldLease { holder: "r".to_owned(), ms: 9, grant, ..Default::default() };
        let carried = stored::CarriedCommit { cursor: "c".to_owned(), commit: Some(commit(3)) };
        let command = stored::AppendBatches {
            batches: vec![batch(None)],
            terms: vec![stored::Terms { cursors: vec![carried], ..stored::Terms::default() }],
            commands: vec![
                one(Command::Lease(lease(0))),
                command("a", Action::Commit(commit(1))),
                command("b", Action::Claim(stored::ClaimCursor { generation: 2 })),
                command("a", Action::Delete(stored::DeleteCursor {})),
                one(Command::Lease(lease(1))),
            ],
            cursor_expiry_ms: 1,
        };
        let command = Some(stored::log_command::Command::Append(command));
        Bytes::from(stored::LogCommand { stamp: NOW, command, ..stored::LogCommand::default() }.encode_to_vec())
    };
    let appends = [
        cursors,
        append(NOW, vec![batch(None), batch(Some(producer(0)))]),
        append(NOW + 1, vec![batch(Some(producer(3))), batch(Some(producer(0))), batch(Some(producer(9)))]),
        append(NOW - 5, vec![Bytes::from_static(b"no batch")]),
    ];

    let introduction = |node: u64, incarnation| peer::Introduction {
        node,
        incarnation,
        address: format!("n{node}:1"),
        boot_count: 2,
        boot: 5,
        ..peer::Introduction::default()
    };
    let founder = |id| stored::Node {
        id,
        address: format!("n{id}:1"),
        incarnation: 100 + id,
        catalog_replica: id,
        catalog_voter: true,
        ..stored::Node::default()
    };
    let name: LogName = "orders".parse().expect("a name");
    let config = v1::LogConfig { max_batch_bytes: 1 << 20, ..v1::LogConfig::default() };
    let commands = [
        catalog::found(ClusterId::new(0xC1), vec![founder(1), founder(2), founder(3)]),
        catalog::register(&introduction(4, 44)),
        catalog::create_log(&name, config, [NodeId::new(2), NodeId::new(4)]),
        catalog::register(&introduction(2, 222)),
        catalog::allocate_producers(10),
    ]
    .map(|command: Command| catalog::encode(Timestamp::new(NOW), command));

    let voters = catalog::found(ClusterId::new(0xC1), (1..=7).map(founder).collect());
    let many = [catalog::encode(Timestamp::new(NOW), voters), commands[1].clone()];
    // Where counting on ends, and where it would overflow.
    let log = |end| stored::LogState { end, ..stored::LogState::default() }.encode_to_vec();
    let numbers = |next| {
        let image = stored::Catalog { cluster_id: 0xC1, next_log: next, next_replica: next, ..Default::default() };
        image.encode_to_vec()
    };

    let mut seeds = vec![
        input(1, &many),
        input(2, &[&[Bytes::from(log(i64::MAX.cast_unsigned() - 4))], &appends[..]].concat()),
        input(2, &[&[Bytes::from(log(u64::MAX - 4))], &appends[..]].concat()),
        input(3, &[&[Bytes::from(numbers(1 << 32))], &commands[..]].concat()),
        input(3, &[&[Bytes::from(numbers(u64::MAX))], &commands[..]].concat()),
    ];
    for (how, commands) in [(0, &appends[..]), (1, &commands[..])] {
        seeds.push(input(how, commands));
        let image = if how == 0 { image_after::<LogMachine>(commands) } else { image_after::<Catalog>(commands) };
        seeds.push(input(how | 2, &[&[image], commands].concat()));
    }
    let registrars = registrar_commands(NOW);
    seeds.push(input(4, &registrars));
    seeds.push(input(6, &[&[image_after::<Registrar>(&registrars)], &registrars[..]].concat()));
    seeds
}

/// Two members of a reader group: one comes, another one, one goes.
fn registrar_commands(now: i64) -> Vec<Bytes> {
    use stored::registrar_command::Command;
    let matched = Some(stored::MatchedLogs { version: 1, logs: vec![1, 2, 5], left_out: 0 });
    let join = |request: u8| {
        Command::Join(stored::JoinReaders {
            group: "billing".to_owned(),
            pattern: "orders/*".to_owned(),
            client: "worker".to_owned(),
            session_ms: 6_000,
            request_id: vec![request; 16].into(),
            matched: matched.clone(),
            may_wait: false,
        })
    };
    let group = || "billing".to_owned();
    let shares = || vec![stored::HeldShare { log: 5, generation: 1 }];
    let commands = [
        join(1),
        join(2),
        Command::ReturnShares(stored::ReturnShares { group: group(), member: 1, shares: shares() }),
        Command::TakeShares(stored::TakeShares { group: group(), shares: shares() }),
        Command::MatchLogs(stored::MatchLogs {
            group: group(),
            matched: matched.clone(),
            pattern: "orders/*".to_owned(),
        }),
        Command::DropMembers(stored::DropMembers { group: group(), members: vec![1] }),
    ];
    commands.into_iter().map(|command| registrar::encode(Timestamp::new(now), command)).collect()
}

fn image_after<M: Machine + Default>(commands: &[Bytes]) -> Bytes {
    let mut machine = M::default();
    for (command, index) in commands.iter().zip(1..) {
        machine.apply(EntryId { term: Term::new(1), index: Index::new(index) }, command).expect("our own command");
    }
    machine.image()
}

fn input(how: u8, pieces: &[Bytes]) -> Vec<u8> {
    let mut input = vec![how];
    for piece in pieces {
        input.extend_from_slice(&u16::try_from(piece.len()).expect("seeds are small").to_le_bytes());
        input.extend_from_slice(piece);
    }
    input
}
