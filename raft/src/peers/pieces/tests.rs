use bytes::Bytes;
use quipu_protocol::peer::Piece;

use super::{Arrived, Flow, Incoming, IncomingError, Outgoing};
use crate::peers::bounds::{MAX_UNFINISHED_BYTES, PIECE_BYTES};

fn body(byte: u8, pieces: usize) -> Bytes {
    vec![byte; pieces * PIECE_BYTES].into()
}

fn drain(outgoing: &mut Outgoing) -> Vec<Piece> {
    std::iter::from_fn(|| outgoing.next(|_| true)).collect()
}

#[test]
fn small_request_passes_a_large_one() {
    let mut outgoing = Outgoing::default();
    outgoing.push(Flow(1), 1, body(1, 100));
    outgoing.push(Flow(2), 2, body(2, 1));
    let sent: Vec<(u64, bool)> = drain(&mut outgoing).iter().map(|piece| (piece.request, piece.last)).collect();
    assert_eq!(sent[1], (2, true), "the small one leaves after one piece of the large one");
    assert_eq!(sent.len(), 101);
    assert!(outgoing.is_empty());
}

#[test]
fn requests_of_one_flow_keep_their_order() {
    let mut outgoing = Outgoing::default();
    outgoing.push(Flow(1), 1, body(1, 3));
    outgoing.push(Flow(1), 2, body(2, 1));
    let sent: Vec<u64> = drain(&mut outgoing).iter().map(|piece| piece.request).collect();
    assert_eq!(sent, [1, 1, 1, 2]);
}

#[test]
fn interleaved_requests_arrive_whole() {
    let mut outgoing = Outgoing::default();
    let bodies = [body(1, 5), body(2, 3), Bytes::from_static(b"short"), Bytes::new()];
    for (request, body) in (0..).zip(&bodies) {
        outgoing.push(Flow(request), request, body.clone());
    }
    let mut incoming = Incoming::default();
    let mut arrived = Vec::new();
    for piece in drain(&mut outgoing) {
        if let Arrived::Whole { request, body } = incoming.take(piece).expect("within bounds") {
            arrived.push((request, body));
        }
    }
    arrived.sort_by_key(|(request, _)| *request);
    assert_eq!(arrived.into_iter().map(|(_, body)| body).collect::<Vec<_>>(), bodies);
    assert_eq!(incoming.bytes, 0);
}

#[test]
fn sender_never_brings_its_receiver_over_the_bound() {
    let mut outgoing = Outgoing::default();
    let large = MAX_UNFINISHED_BYTES / PIECE_BYTES / 4;
    for request in 0..10 {
        outgoing.push(Flow(request), request, body(0, large));
    }
    let mut incoming = Incoming::default();
    let whole = drain(&mut outgoing)
        .into_iter()
        .filter(|piece| {
            let arrived = incoming.take(piece.clone()).expect("within the bound");
            matches!(arrived, Arrived::Whole { .. })
        })
        .count();
    assert_eq!(whole, 10);
}

#[test]
fn receiver_refuses_more_than_the_bound() {
    let mut incoming = Incoming::default();
    let pieces = (MAX_UNFINISHED_BYTES / PIECE_BYTES) as u64;
    for request in 0..pieces {
        let piece = Piece { request, body: body(0, 1), ..Piece::default() };
        incoming.take(piece).expect("within the bound");
    }
    let one_more = Piece { request: pieces, body: body(0, 1), ..Piece::default() };
    assert_eq!(incoming.take(one_more), Err(IncomingError::Unfinished));
}

#[test]
fn abandoned_request_frees_what_had_arrived() {
    let mut outgoing = Outgoing::default();
    let mut incoming = Incoming::default();
    outgoing.push(Flow(1), 1, body(1, 4));
    let first = outgoing.next(|_| true).expect("a piece");
    incoming.take(first).expect("within bounds");
    let notice = outgoing.next(|_| false).expect("a notice");
    assert!(notice.abandoned);
    assert_eq!(incoming.take(notice), Ok(Arrived::Abandoned { request: 1 }));
    assert_eq!(incoming.bytes, 0);
    assert!(outgoing.is_empty());
}

#[test]
fn request_that_nobody_waits_for_is_never_started() {
    let mut outgoing = Outgoing::default();
    outgoing.push(Flow(1), 1, body(1, 4));
    outgoing.push(Flow(1), 2, body(2, 1));
    let piece = outgoing.next(|request| request != 1).expect("a piece");
    assert_eq!((piece.request, piece.last), (2, true));
    assert!(outgoing.next(|_| true).is_none());
}

#[test]
fn what_nobody_waits_for_is_let_go_of_unless_a_part_has_left() {
    let mut outgoing = Outgoing::default();
    outgoing.push(Flow(1), 1, body(1, 2));
    outgoing.push(Flow(1), 2, body(2, 1));
    outgoing.push(Flow(2), 3, body(3, 1));
    outgoing.push(Flow(3), 4, body(4, 1));
    let first = outgoing.next(|_| true).expect("a piece");
    assert_eq!((first.request, first.last), (1, false));
    outgoing.drop_unwanted(|request| request == 4);
    assert_eq!(outgoing.len(), 2);
    let sent: Vec<u64> = drain(&mut outgoing).iter().map(|piece| piece.request).collect();
    assert_eq!(sent, [4, 1], "the rest of what has left in part is still its own affair");
    assert!(outgoing.is_empty());
}
