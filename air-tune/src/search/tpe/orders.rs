//! [`Orders`]: along each axis, the order of all rows that are remembered, kept up as they come and go.
//!
//! The widths of a density's kernels follow from what lies next to each. Sorting for every proposal would be most of what a proposal costs.

use crate::TrialId;

/// A row along one axis: its value's bits, which are in the order of the values as these are not below zero, its trial, and its slot.
type Entry = (u64, TrialId, u32);

/// See the module. Every remembered row has a slot, a small number of its own.
#[derive(Debug, Default)]
pub(super) struct Orders {
    axes: Vec<Vec<Entry>>,
    free: Vec<u32>,
    slots: u32,
}

/// Which rows of a density are in which slots.
pub(super) struct Chosen<'a> {
    orders: &'a Orders,
    row_of: Vec<u32>,
}

const NONE: u32 = u32::MAX;

fn bits(value: f64) -> u64 {
    // Minus zero is no less than zero.
    (value + 0.0).to_bits()
}

impl Orders {
    pub fn new(axes: usize) -> Self {
        Self { axes: vec![Vec::new(); axes], ..Self::default() }
    }

    /// Takes a row up; returns its slot.
    pub fn insert(&mut self, trial: TrialId, row: &[f64]) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        });
        for (order, value) in self.axes.iter_mut().zip(row).filter(|(_, value)| !value.is_nan()) {
            let entry = (bits(*value), trial, slot);
            let at = order.partition_point(|other| *other < entry);
            order.insert(at, entry);
        }
        slot
    }

    /// Forgets rows by their slots.
    pub fn remove(&mut self, slots: &[u32]) {
        let mut gone = vec![false; self.slots as usize];
        for slot in slots {
            gone[*slot as usize] = true;
        }
        for order in &mut self.axes {
            order.retain(|(_, _, slot)| !gone[*slot as usize]);
        }
        self.free.extend_from_slice(slots);
    }

    /// The rows of a density, in the order they are given.
    pub fn choose(&self, slots: impl Iterator<Item = u32>) -> Chosen<'_> {
        let mut row_of = vec![NONE; self.slots as usize];
        for (row, slot) in slots.enumerate() {
            row_of[slot as usize] = row as u32;
        }
        Chosen { orders: self, row_of }
    }
}

impl Chosen<'_> {
    /// The chosen rows by their values along an axis, equal ones by their trials.
    pub fn along(&self, axis: usize) -> Vec<usize> {
        let rows = self.orders.axes[axis].iter().map(|(_, _, slot)| self.row_of[*slot as usize]);
        rows.filter(|row| *row != NONE).map(|row| row as usize).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against sorting, with rows that come and go.
        #[test]
        fn the_order_is_that_of_sorting(values in proptest::collection::vec(-1_i8..6, 0..60), gone in proptest::collection::vec(any::<bool>(), 60)) {
            let mut orders = Orders::new(1);
            let mut kept: Vec<(f64, TrialId, u32)> = Vec::new();
            for (trial, value) in values.iter().enumerate() {
                let value = if *value < 0 { f64::NAN } else { f64::from(*value) / 5.0 };
                let slot = orders.insert(trial as TrialId, &[value]);
                prop_assert!(kept.iter().all(|(_, _, other)| *other != slot), "a slot is given twice");
                kept.push((value, trial as TrialId, slot));
                if trial % 7 == 6 {
                    let leave: Vec<u32> = kept.iter().filter(|(_, t, _)| gone[*t as usize]).map(|(_, _, s)| *s).collect();
                    orders.remove(&leave);
                    kept.retain(|(_, t, _)| !gone[*t as usize]);
                }
            }
            let rows: Vec<(f64, TrialId, u32)> = kept.into_iter().filter(|(value, _, _)| !value.is_nan()).step_by(2).collect();
            let mut expected: Vec<usize> = (0..rows.len()).collect();
            expected.sort_by(|a, b| rows[*a].0.total_cmp(&rows[*b].0));
            prop_assert_eq!(orders.choose(rows.iter().map(|(_, _, slot)| *slot)).along(0), expected);
        }
    }
}
