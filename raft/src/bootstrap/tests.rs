use std::collections::BTreeMap;

use quipu_protocol::peer::{Founder, Introduction};
use quipu_protocol::{ClusterId, NodeId, v1};

use super::{Decision, cluster_id, decide, founders_of};

fn new_node(node: u64, incarnation: u64) -> Introduction {
    let configured = (1..=3).map(|node| v1::Peer { node, address: format!("n{node}:1") }).collect();
    Introduction { node, incarnation, address: format!("n{node}:1"), configured, ..Introduction::default() }
}

fn founder(node: u64, incarnation: u64) -> Founder {
    Founder { node, incarnation, address: format!("n{node}:1") }
}

fn member(node: u64, incarnation: u64, founders: &[Founder]) -> Introduction {
    Introduction { cluster_id: 77, founders: founders.to_vec(), ..new_node(node, incarnation) }
}

fn answers(answers: &[(u64, Option<Introduction>)]) -> BTreeMap<NodeId, Option<Introduction>> {
    answers.iter().map(|(node, answer)| (NodeId::new(*node), answer.clone())).collect()
}

fn waits(decision: &Decision) -> bool {
    matches!(decision, Decision::Wait { .. })
}

#[test]
fn founders_decide_alike() {
    let nodes: Vec<Introduction> = (1..=3).map(|node| new_node(node, 10 * node)).collect();
    let decisions: Vec<Decision> = nodes
        .iter()
        .map(|me| {
            let others = nodes.iter().filter(|it| it.node != me.node);
            let others: Vec<_> = others.map(|it| (it.node, Some(it.clone()))).collect();
            decide(me, &answers(&others))
        })
        .collect();
    assert!(matches!(&decisions[0], Decision::Found { founders, .. } if founders.len() == 3));
    assert!(decisions.iter().all(|it| *it == decisions[0]), "{decisions:?}");
}

#[test]
fn cluster_is_not_founded_while_a_peer_is_silent() {
    let decision = decide(&new_node(1, 10), &answers(&[(2, Some(new_node(2, 20))), (3, None)]));
    assert!(waits(&decision), "{decision:?}");
}

#[test]
fn cluster_is_not_founded_when_the_lists_differ() {
    let mut other = new_node(2, 20);
    other.configured.pop();
    let decision = decide(&new_node(1, 10), &answers(&[(2, Some(other)), (3, Some(new_node(3, 30)))]));
    assert!(waits(&decision), "{decision:?}");
}

#[test]
fn node_that_lost_its_disk_joins_even_when_others_are_new_or_silent() {
    let founders = [founder(1, 10), founder(2, 20), founder(3, 30)];
    let wiped = new_node(1, 11);
    for second in [None, Some(new_node(2, 21))] {
        let decision = decide(&wiped, &answers(&[(2, second), (3, Some(member(3, 30, &founders)))]));
        assert_eq!(decision, Decision::Join { via: NodeId::new(3) });
    }
}

#[test]
fn late_founder_takes_its_place() {
    let founders = [founder(1, 10), founder(2, 20), founder(3, 30)];
    let decision = decide(&new_node(2, 20), &answers(&[(1, Some(member(1, 10, &founders))), (3, None)]));
    assert_eq!(decision, Decision::Found { cluster: ClusterId::new(77), founders: founders_of(&founders) });
}

#[test]
fn peers_of_two_clusters_are_not_joined() {
    let other = Introduction { cluster_id: 78, ..member(2, 20, &[]) };
    let decision = decide(&new_node(1, 10), &answers(&[(2, Some(other)), (3, Some(member(3, 30, &[])))]));
    assert!(waits(&decision), "{decision:?}");
}

#[test]
fn wrong_address_is_noticed() {
    let decision = decide(&new_node(1, 10), &answers(&[(2, Some(new_node(3, 30))), (3, Some(new_node(3, 30)))]));
    assert!(waits(&decision), "{decision:?}");
}

#[test]
fn another_disk_makes_another_cluster() {
    let before = founders_of(&[founder(1, 10), founder(2, 20)]);
    let after = founders_of(&[founder(1, 10), founder(2, 21)]);
    assert_ne!(cluster_id(&before), cluster_id(&after));
}
