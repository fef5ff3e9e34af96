//! A matrix of weights, in the width it is stored in.

use std::ops::Range;

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

/// A matrix of weights, row by row. Rows begin at whole words: two weights of 16 bits lie in each, the first in its lower half.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    pub width: Width,
    pub rows: usize,
    pub cols: usize,
    pub words: Vec<u32>,
}

impl Matrix {
    /// A matrix of zeros, to be filled.
    pub(crate) fn zeros(width: Width, rows: usize, cols: usize) -> Self {
        let stride = cols.div_ceil(width.per_word());
        Matrix { width, rows, cols, words: vec![0; rows * stride] }
    }

    /// Words of a row.
    pub(super) fn stride(&self) -> usize {
        self.cols.div_ceil(self.width.per_word())
    }

    pub(super) fn row(&self, row: usize) -> &[u32] {
        &self.words[row * self.stride()..][..self.stride()]
    }

    pub(super) fn rows(&self, rows: Range<usize>) -> &[u32] {
        &self.words[rows.start * self.stride()..rows.end * self.stride()]
    }

    /// Puts the rows of matrices of one width below one another, so that one pass over the input serves all.
    pub(crate) fn stack(parts: Vec<Matrix>) -> Matrix {
        let mut parts = parts.into_iter();
        let mut whole = parts.next().unwrap_or_else(|| Matrix::zeros(Width::F32, 0, 0));
        for part in parts {
            debug_assert_eq!((part.width, part.cols), (whole.width, whole.cols));
            whole.rows += part.rows;
            whole.words.extend_from_slice(&part.words);
        }
        whole
    }

    /// The same in 32 bits.
    pub(crate) fn widened(&self) -> Matrix {
        let mut to = Matrix::zeros(Width::F32, self.rows, self.cols);
        let mut row = vec![0.0; self.cols];
        for (number, words) in to.words.chunks_exact_mut(self.cols.max(1)).enumerate() {
            self.widen_row(number, &mut row);
            words.copy_from_slice(bytemuck::cast_slice(&row));
        }
        to
    }

    /// Bytes of the weights.
    pub(crate) fn bytes(&self) -> usize {
        self.words.len() * 4
    }

    /// Writes one row as numbers of 32 bits.
    pub(crate) fn widen_row(&self, row: usize, to: &mut [f32]) {
        let words = self.row(row);
        for (i, to) in to.iter_mut().enumerate() {
            *to = match self.width {
                Width::F32 => f32::from_bits(words[i]),
                Width::Bf16 => half::bf16::from_bits(half_of(words, i)).to_f32(),
                Width::F16 => half::f16::from_bits(half_of(words, i)).to_f32(),
            };
        }
    }
}

fn half_of(words: &[u32], i: usize) -> u16 {
    (words[i / 2] >> (16 * (i % 2))) as u16
}
