//! Actions in rows, as runners, rollouts and replay buffers keep them.

use serde::{Deserialize, Serialize};

use crate::env::space::Space;
use crate::env::vec_env::Actions;
use crate::env::{Action, OwnedAction};

/// Rows of actions of one space, in one of two flat buffers; the other stays empty.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ActionRows {
    /// Choices, `[rows, row_len]`; none for a box.
    pub choices: Vec<u32>,
    /// Reals, `[rows, row_len]`; only for a box.
    pub reals: Vec<f32>,
    kind: Kind,
    row_len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Discrete,
    MultiDiscrete,
    Continuous,
}

impl ActionRows {
    /// `rows` rows of zeros.
    pub fn new(space: &Space, rows: usize) -> Self {
        let kind = match space {
            Space::Discrete { .. } => Kind::Discrete,
            Space::MultiDiscrete { .. } => Kind::MultiDiscrete,
            Space::Box { .. } => Kind::Continuous,
        };
        let row_len = space.row_len();
        let (choices, reals) =
            if kind == Kind::Continuous { (0, rows * row_len) } else { (rows * row_len, 0) };
        Self { choices: vec![0; choices], reals: vec![0.0; reals], kind, row_len }
    }

    /// Items of one action.
    pub fn row_len(&self) -> usize {
        self.row_len
    }

    /// The choices of one row; none for a box.
    #[inline]
    pub fn choices_of(&self, row: usize) -> &[u32] {
        &self.choices[row * self.row_len..(row + 1) * self.row_len]
    }

    /// The reals of one row, of a box.
    #[inline]
    pub fn reals_of(&self, row: usize) -> &[f32] {
        &self.reals[row * self.row_len..(row + 1) * self.row_len]
    }

    /// All rows, to step environments with.
    pub fn actions(&self) -> Actions<'_> {
        match self.kind {
            Kind::Discrete => Actions::Discrete(&self.choices),
            Kind::MultiDiscrete => Actions::MultiDiscrete(&self.choices),
            Kind::Continuous => Actions::Continuous(&self.reals),
        }
    }

    /// One row.
    pub fn get(&self, row: usize) -> Action<'_> {
        match self.kind {
            Kind::Discrete => Action::Discrete(self.choices[row]),
            Kind::MultiDiscrete => Action::MultiDiscrete(self.choices_of(row)),
            Kind::Continuous => Action::Continuous(self.reals_of(row)),
        }
    }

    /// One row, apart.
    pub fn to_owned(&self, row: usize) -> OwnedAction {
        match self.kind {
            Kind::Discrete => OwnedAction::Discrete(self.choices[row]),
            Kind::MultiDiscrete => OwnedAction::MultiDiscrete(self.choices_of(row).to_vec()),
            Kind::Continuous => OwnedAction::Continuous(self.reals_of(row).to_vec()),
        }
    }

    /// Copies row `from` of `other`, of the same space, to row `to`.
    #[inline]
    pub fn copy_row(&mut self, to: usize, other: &Self, from: usize) {
        let k = self.row_len;
        match self.kind {
            Kind::Discrete => self.choices[to] = other.choices[from],
            Kind::MultiDiscrete => {
                self.choices[to * k..(to + 1) * k].copy_from_slice(other.choices_of(from));
            }
            Kind::Continuous => self.reals[to * k..(to + 1) * k].copy_from_slice(other.reals_of(from)),
        }
    }

    /// No rows of the same space; allocates nothing.
    pub(crate) fn empty(&self) -> Self {
        Self { choices: Vec::new(), reals: Vec::new(), ..*self }
    }

    /// Moves every row one up; the first is lost.
    pub(crate) fn shift(&mut self) {
        if !self.choices.is_empty() {
            self.choices.copy_within(self.row_len.., 0);
        }
        if !self.reals.is_empty() {
            self.reals.copy_within(self.row_len.., 0);
        }
    }

    /// Appends the rows of `part`.
    pub(crate) fn append(&mut self, part: &Self) {
        self.choices.extend_from_slice(&part.choices);
        self.reals.extend_from_slice(&part.reals);
    }

    /// Copies all rows of `part` in, from row `first` on.
    pub(crate) fn join(&mut self, first: usize, part: &Self) {
        let first = first * self.row_len;
        let (choices, reals) = (part.choices.len(), part.reals.len());
        if choices > 0 {
            self.choices[first..first + choices].copy_from_slice(&part.choices);
        }
        if reals > 0 {
            self.reals[first..first + reals].copy_from_slice(&part.reals);
        }
    }
}
