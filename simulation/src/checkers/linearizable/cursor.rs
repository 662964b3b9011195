//! A cursor as a model: a position and a generation, or nothing.
//!
//! Nobody is told that one expires, so that this is a call of its own, never answered:
//! the search puts it wherever it is needed, or nowhere.

use super::engine::Model;
use crate::history::{CursorAnswer, CursorCall};

/// Any one cursor, which is not there at first.
#[derive(Clone, Copy, Debug)]
pub struct CursorModel;

/// What there is of a cursor between two calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CursorState {
    /// Whether there is one.
    pub exists: bool,
    /// Where it is.
    pub position: Option<u64>,
    /// Its generation.
    pub generation: u64,
}

impl Model for CursorModel {
    type Call = CursorCall;
    type Answer = CursorAnswer;
    type State = CursorState;

    fn initial(&self) -> CursorState {
        CursorState::default()
    }

    fn step(&self, &state: &CursorState, call: &CursorCall, answer: Option<&CursorAnswer>) -> Option<CursorState> {
        let looks = |possible: bool| possible.then_some(state);
        match (*call, answer.copied()) {
            (
                CursorCall::Commit { generation, .. } | CursorCall::Claim { generation },
                Some(CursorAnswer::Fenced { generation: current }),
            ) => looks(generation < state.generation && current == state.generation),
            (
                CursorCall::Commit { generation, expected: Some(expected), .. },
                Some(CursorAnswer::Mismatch { position }),
            ) => looks(generation >= state.generation && expected != state.position && position == state.position),
            (CursorCall::Commit { position, generation, expected }, None | Some(CursorAnswer::Committed)) => {
                let is_taken =
                    generation >= state.generation && expected.is_none_or(|expected| expected == state.position);
                is_taken.then_some(CursorState { exists: true, position: Some(position), generation })
            }
            (CursorCall::Claim { generation }, answer) => {
                let claimed = CursorState { exists: true, generation, ..state };
                let is_told = answer.is_none_or(|answer| answer == told(claimed));
                (generation >= state.generation && is_told).then_some(claimed)
            }
            (CursorCall::Get, answer) => looks(answer.is_none_or(|answer| answer == told(state))),
            (CursorCall::Delete, None) | (CursorCall::Expire, _) => Some(CursorState::default()),
            (CursorCall::Delete, Some(CursorAnswer::Deleted { existed })) => {
                (existed == state.exists).then(CursorState::default)
            }
            _ => None,
        }
    }

    fn only_looks(&self, call: &CursorCall, answer: Option<&CursorAnswer>) -> bool {
        let refused = matches!(answer, Some(CursorAnswer::Fenced { .. } | CursorAnswer::Mismatch { .. }));
        refused || *call == CursorCall::Get
    }
}

fn told(CursorState { exists, position, generation }: CursorState) -> CursorAnswer {
    if exists { CursorAnswer::Is { position, generation } } else { CursorAnswer::Missing }
}
