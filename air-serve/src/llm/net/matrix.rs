//! A matrix of weights, in the width it is stored in and the order in which it is read.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

/// How wide a weight is. Sums are of 32 bits whatever this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    F32,
    Bf16,
    F16,
}

impl Width {
    pub(crate) fn bytes(self) -> usize {
        if self == Width::F32 { 4 } else { 2 }
    }

    /// Weights in a word.
    pub(super) fn per_word(self) -> usize {
        4 / self.bytes()
    }
}

/// Rows of a panel.
pub(crate) const PANEL: usize = 16;

/// One word of each row of a panel, where no vector of it lies across two lines of the cache.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Line(pub [u32; PANEL]);

/// A matrix of weights in panels of 16 rows, of each panel word by word: so weights that are used together lie together, and a sum needs no other lane's.
/// Two weights of 16 bits lie in a word, the first in its lower half. What the last panel and the last word have too much is zero.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    pub width: Width,
    pub rows: usize,
    pub cols: usize,
    /// Whether inputs may be rounded to the width of the weights.
    pub(super) rounds: bool,
    lines: Vec<Line>,
}

impl Matrix {
    /// A matrix of zeros, to be filled.
    pub(crate) fn zeros(width: Width, rows: usize, cols: usize) -> Self {
        let lines = rows.div_ceil(PANEL) * cols.div_ceil(width.per_word());
        Matrix { width, rows, cols, rounds: false, lines: vec![Line::zeroed(); lines] }
    }

    /// Says that inputs may be rounded to the width of the weights, where the processor multiplies such numbers.
    pub(crate) fn rounding(self, rounds: bool) -> Self {
        Matrix { rounds, ..self }
    }

    /// Fills rows from this one on with numbers as files have them.
    pub(crate) fn fill(&mut self, first: usize, bytes: &[u8]) {
        let stride = self.stride();
        for (i, row) in bytes.chunks_exact(self.cols * self.width.bytes()).enumerate() {
            let (panel, lane) = ((first + i) / PANEL, (first + i) % PANEL);
            for (line, bytes) in self.lines[panel * stride..][..stride].iter_mut().zip(row.chunks(4)) {
                let mut word = [0; 4];
                word[..bytes.len()].copy_from_slice(bytes);
                line.0[lane] = u32::from_le_bytes(word);
            }
        }
    }

    /// Words of a row, which are the lines of a panel.
    pub(super) fn stride(&self) -> usize {
        self.cols.div_ceil(self.width.per_word())
    }

    pub(super) fn panels(&self, panels: Range<usize>) -> &[Line] {
        &self.lines[panels.start * self.stride()..panels.end * self.stride()]
    }

    /// Bytes of the weights.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.lines)
    }

    /// Writes one row as numbers of 32 bits.
    pub(crate) fn widen_row(&self, row: usize, to: &mut [f32]) {
        let lines = self.panels(row / PANEL..row / PANEL + 1);
        for (to, line) in to.chunks_mut(self.width.per_word()).zip(lines) {
            let word = line.0[row % PANEL];
            for (half, to) in to.iter_mut().enumerate() {
                let bits = (word >> (16 * half)) as u16;
                *to = match self.width {
                    Width::F32 => f32::from_bits(word),
                    Width::Bf16 => half::bf16::from_bits(bits).to_f32(),
                    Width::F16 => half::f16::from_bits(bits).to_f32(),
                };
            }
        }
    }
}

/// Numbers as files have them, in 32 bits.
pub(crate) fn widen(width: Width, bytes: &[u8]) -> Vec<f32> {
    let pair = |bytes: &[u8]| u16::from_le_bytes([bytes[0], bytes[1]]);
    match width {
        Width::F32 => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        Width::Bf16 => bytes.chunks_exact(2).map(|x| half::bf16::from_bits(pair(x)).to_f32()).collect(),
        Width::F16 => bytes.chunks_exact(2).map(|x| half::f16::from_bits(pair(x)).to_f32()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were_filled() {
        for width in [Width::F32, Width::Bf16, Width::F16] {
            let (rows, cols) = (37, 5);
            let number = |row: usize, col: usize| (row * cols + col) as f32;
            let bytes: Vec<u8> = (0..rows * cols)
                .flat_map(|i| match width {
                    Width::F32 => (i as f32).to_le_bytes().to_vec(),
                    Width::Bf16 => half::bf16::from_f32(i as f32).to_le_bytes().to_vec(),
                    Width::F16 => half::f16::from_f32(i as f32).to_le_bytes().to_vec(),
                })
                .collect();
            assert_eq!(widen(width, &bytes).len(), rows * cols);
            let mut matrix = Matrix::zeros(width, rows, cols);
            // In two parts, the second of which begins within a panel.
            let (head, tail) = bytes.split_at(11 * cols * width.bytes());
            matrix.fill(0, head);
            matrix.fill(11, tail);
            let mut got = vec![0.0; cols];
            for row in 0..rows {
                matrix.widen_row(row, &mut got);
                let expected = (0..cols).map(|col| match width {
                    Width::Bf16 => half::bf16::from_f32(number(row, col)).to_f32(),
                    _ => number(row, col),
                });
                assert_eq!(got, expected.collect::<Vec<_>>(), "{width:?}, row {row}");
            }
            assert_eq!(matrix.bytes(), 3 * 64 * cols.div_ceil(width.per_word()));
        }
    }
}
