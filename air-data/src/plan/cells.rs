//! [`Cells`]: a random order of rows, of which each part can be made by itself.
//!
//! A row's cell is the first byte of a number that its index and the seed tell ([`Mixer`]). Cells come one after the other, and the rows of each in a
//! random order (Fisher and Yates). So every order of all rows is as likely as any other (Rao 1961, Sandelius 1962), and it is the same one however
//! many cells are put together at a time.

use super::numbered::Mixer;

/// How many cells there are.
pub(super) const CELLS: usize = 256;

/// An order of rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cells {
    mixer: Mixer,
}

impl Cells {
    pub(super) fn new(mixer: Mixer) -> Self {
        Self { mixer }
    }

    /// The cell of the row with this index.
    pub(super) fn of(self, index: u64) -> u8 {
        (self.mixer.mix(index) >> (u64::BITS - 8)) as u8
    }

    /// The places of the rows of one cell among them, in the order of their indices.
    pub(super) fn places(self, cell: u8, rows: u32) -> Vec<u32> {
        let mut places: Vec<u32> = (0..rows).collect();
        self.permute(cell, &mut places);
        places
    }

    /// The places of the rows of some cells among them, of which `cells` are the cells in the order of the rows' indices.
    pub(super) fn places_of(self, cells: impl Iterator<Item = u8> + Clone) -> Vec<u32> {
        let mut counts = [0_u32; CELLS];
        for cell in cells.clone() {
            counts[usize::from(cell)] += 1;
        }
        let mut places = Vec::new();
        let mut starts = [0_u32; CELLS];
        for cell in 0..CELLS {
            let start = places.len() as u32;
            starts[cell] = start;
            places.extend(start..start + counts[cell]);
            self.permute(cell as u8, &mut places[start as usize..]);
        }
        let place = |cell: u8| {
            let next = &mut starts[usize::from(cell)];
            *next += 1;
            places[*next as usize - 1]
        };
        cells.map(place).collect()
    }

    fn permute(self, cell: u8, places: &mut [u32]) {
        // The numbers of the last rows that could be, which there are not: rows' cells and orders have nothing in common.
        let numbers = Mixer::new(self.mixer.mix(u64::MAX - u64::from(cell)));
        for last in (1..places.len()).rev() {
            let number = u128::from(numbers.mix(last as u64));
            places.swap(last, ((number * (last as u128 + 1)) >> u64::BITS) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn cells_together_are_the_cells_one_after_the_other() {
        let cells = Cells::new(Mixer::new(5));
        let of: Vec<u8> = (0..5000).map(|index| cells.of(index)).collect();
        let together = cells.places_of(of.iter().copied());
        let mut alone = vec![0; of.len()];
        let mut start = 0;
        for cell in 0..=u8::MAX {
            let rows: Vec<usize> = (0..of.len()).filter(|row| of[*row] == cell).collect();
            for (row, place) in rows.iter().zip(cells.places(cell, rows.len() as u32)) {
                alone[*row] = start + place;
            }
            start += rows.len() as u32;
        }
        assert_eq!(together, alone);
        let mut sorted = together;
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..5000));
        assert!(cells.places(0, 0).is_empty() && cells.places_of(std::iter::empty()).is_empty());
    }

    #[test]
    fn every_order_is_as_likely_as_any_other() {
        // The 24 orders of four rows over 24 000 seeds, of one cell and of any.
        let mut counts: [HashMap<Vec<u32>, u32>; 2] = Default::default();
        for seed in 0..24_000 {
            let cells = Cells::new(Mixer::new(seed));
            *counts[0].entry(cells.places(7, 4)).or_default() += 1;
            *counts[1].entry(cells.places_of((0..4).map(|index| cells.of(index)))).or_default() += 1;
        }
        for counts in counts {
            assert_eq!(counts.len(), 24);
            // Pearson's chi squared with 23 degrees of freedom: above 57 once in 10 000 times.
            let off = |count: &u32| (f64::from(*count) - 1000.0).powi(2) / 1000.0;
            let chi: f64 = counts.values().map(off).sum();
            assert!(chi < 57.0, "{chi}");
        }
    }
}
