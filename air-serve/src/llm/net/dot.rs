//! Rows of inputs times a matrix of weights: the one product that everything here is made of.
//!
//! `y[m, n] = Σ x[m, k]·w[n, k]`. Weights are read once for a tile of rows, so that a step of many sequences costs little more memory traffic
//! than a step of one. The sum of an element runs over `k` from the first to the last: not on how many rows there are does its order depend, nor on which
//! thread has it, nor on how wide the machine's vectors are. So what a sequence gets does not depend on its company.

use air_core::team::Team;

use super::bf16::{Native, rounded};
use super::matrix::{Matrix, PANEL, Width};
use super::tile::{self, MOST, Sums, Tile};

/// Multiply-adds below which a product stays on one thread.
const WORTH_SHARING: usize = 1 << 17;

/// How a product is computed.
#[derive(Clone, Copy, Debug)]
enum Kernel {
    /// In 32 bits, to which weights are widened.
    Wide(Width),
    /// In BF16, to which inputs are rounded.
    Native(Native),
}

impl Kernel {
    fn of(matrix: &Matrix) -> Self {
        let native = if matrix.rounds && matrix.width == Width::Bf16 { Native::here() } else { None };
        native.map_or(Kernel::Wide(matrix.width), Kernel::Native)
    }

    /// Most rows of inputs in a tile.
    fn most(self) -> usize {
        match self {
            Kernel::Wide(width) => tile::most(width),
            Kernel::Native(_) => MOST,
        }
    }

    /// Words of a row of inputs.
    fn words(self, stride: usize) -> usize {
        match self {
            Kernel::Wide(width) => stride * width.per_word(),
            Kernel::Native(_) => stride,
        }
    }
}

/// Rows cut into as few tiles as there can be, of heights that differ by one at most.
#[derive(Clone, Copy)]
struct Heights {
    tiles: usize,
    least: usize,
    /// The first tiles, with a row more.
    higher: usize,
}

impl Heights {
    fn new(rows: usize, most: usize) -> Self {
        let tiles = rows.div_ceil(most);
        Heights { tiles, least: rows / tiles, higher: rows % tiles }
    }

    fn iter(self) -> impl Iterator<Item = usize> {
        (0..self.tiles).map(move |tile| self.least + usize::from(tile < self.higher))
    }
}

/// Inputs in the order in which the kernel reads them: of each row of a tile the first word, then of each the second, and so on.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    words: Vec<u32>,
}

impl Inputs {
    fn fill(&mut self, team: &Team, x: &[f32], cols: usize, len: usize, heights: Heights, kernel: Kernel) {
        self.words.resize(x.len() / cols * len, 0);
        let pieces = if x.len() < WORTH_PACKING { 1 } else { team.count() };
        let (mut x, mut words, mut tiles) = (x, &mut self.words[..], Vec::with_capacity(heights.tiles));
        for height in heights.iter() {
            let (rows, others) = x.split_at(height * cols);
            let (to, rest) = words.split_at_mut(height * len);
            (x, words) = (others, rest);
            tiles.push((height, rows, to));
        }
        team.each(tiles.chunks_mut(heights.tiles.div_ceil(pieces)), |tiles| {
            let mut row = vec![0; len];
            for (height, rows, to) in tiles {
                for (place, values) in rows.chunks_exact(cols).enumerate() {
                    match kernel {
                        Kernel::Wide(_) => words_of(values, &mut row),
                        Kernel::Native(_) => pairs_of(values, &mut row),
                    }
                    to[place..].iter_mut().step_by(*height).zip(&row).for_each(|(to, word)| *to = *word);
                }
            }
        });
    }
}

/// Numbers below which their order is changed on one thread.
const WORTH_PACKING: usize = 1 << 15;

/// The bits of numbers; beyond the last there are zeros.
fn words_of(values: &[f32], to: &mut [u32]) {
    for (to, value) in to.iter_mut().zip(values) {
        *to = value.to_bits();
    }
}

/// Numbers rounded to BF16, two in a word.
fn pairs_of(values: &[f32], to: &mut [u32]) {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            let (pairs, last) = values.as_chunks::<2>();
            for (to, [low, high]) in to.iter_mut().zip(pairs) {
                *to = rounded(*low) >> 16 | rounded(*high);
            }
            if let ([low], Some(to)) = (last, to.last_mut()) {
                *to = rounded(*low) >> 16;
            }
        },
    );
}

/// `y = x·wᵀ`: `x` is `[m, w.cols]`, `y` is `[m, w.rows]`, row by row.
pub(super) fn product(team: &Team, x: &[f32], w: &Matrix, y: &mut [f32], inputs: &mut Inputs) {
    if w.rows == 0 || x.is_empty() {
        return;
    }
    debug_assert_eq!(x.len() / w.cols * w.rows, y.len());
    let (kernel, stride) = (Kernel::of(w), w.stride());
    let (heights, len) = (Heights::new(x.len() / w.cols, kernel.most()), kernel.words(stride));
    inputs.fill(team, x, w.cols, len, heights, kernel);
    let x = &inputs.words[..];
    let pieces = if y.len() * w.cols < WORTH_SHARING { 1 } else { team.count() };
    let panels = w.rows.div_ceil(PANEL);
    let share = panels.div_ceil(pieces).next_multiple_of(2);
    // Each thread has some columns of every row of the output.
    let mut parts: Vec<Vec<&mut [f32]>> = Vec::new();
    parts.resize_with(panels.div_ceil(share), || Vec::with_capacity(y.len() / w.rows));
    for row in y.chunks_exact_mut(w.rows) {
        for (part, columns) in parts.iter_mut().zip(row.chunks_mut(share * PANEL)) {
            part.push(columns);
        }
    }
    team.each(parts.into_iter().enumerate(), |(piece, mut y)| {
        let lines = w.panels(piece * share..panels.min((piece + 1) * share));
        let mut sums: Sums = [[0.0; 2 * PANEL]; MOST];
        for (column, lines) in lines.chunks(2 * stride).enumerate() {
            let (mut x, mut y) = (x, &mut y[..]);
            for height in heights.iter() {
                let (mine, others) = x.split_at(height * len);
                let (to, rest) = y.split_at_mut(height);
                (x, y) = (others, rest);
                match kernel {
                    Kernel::Native(native) => native.tile(lines, stride, mine, height, &mut sums),
                    Kernel::Wide(width) => {
                        let x = bytemuck::cast_slice(mine);
                        Tile { lines, stride, x, height, sums: &mut sums }.run(width);
                    }
                }
                for (to, sums) in to.iter_mut().zip(&sums) {
                    let to = &mut to[column * 2 * PANEL..];
                    match to.first_chunk_mut() {
                        Some(to) => *to = *sums,
                        None => to.copy_from_slice(&sums[..to.len()]),
                    }
                }
            }
        }
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Numbers in -0.75..0.82 that every width holds exactly.
    fn fill(len: usize, salt: u32) -> Vec<f32> {
        let number =
            |i: u32| (i.wrapping_mul(2_654_435_761).wrapping_add(salt.wrapping_mul(40_503)) >> 17) % 200;
        (0..len as u32).map(|i| number(i) as f32 / 128.0 - 0.75).collect()
    }

    fn matrix(width: Width, rows: usize, cols: usize, values: &[f32]) -> Matrix {
        let bytes: Vec<u8> = match width {
            Width::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Width::Bf16 => values.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect(),
            Width::F16 => values.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect(),
        };
        let mut matrix = Matrix::zeros(width, rows, cols);
        matrix.fill(0, &bytes);
        matrix
    }

    fn times(threads: usize, x: &[f32], w: &Matrix) -> Vec<f32> {
        let mut y = vec![f32::NAN; x.len() / w.cols * w.rows];
        product(&Team::new(threads).unwrap(), x, w, &mut y, &mut Inputs::default());
        y
    }

    const WIDTHS: [(Width, bool); 4] =
        [(Width::F32, false), (Width::Bf16, false), (Width::F16, false), (Width::Bf16, true)];

    /// Against the definition, in f64, over shapes that meet every height of a tile and every tail, in every width; with inputs that are
    /// rounded, where they are. The bound is that of a sum of so many products in 32 bits (Higham, 2002, 3.1).
    #[test]
    fn equals_the_definition() {
        let shapes = (1..=15).map(|m| (m, 3 * m + 1, 20 + 7 * m));
        for (m, n, k) in shapes.chain([(30, 17, 64), (2, 64, 1), (1, 33, 515)]) {
            let (x, values) = (fill(m * k, 1).iter().map(|x| x * 1.001).collect::<Vec<_>>(), fill(n * k, 2));
            for (width, rounds) in WIDTHS {
                let w = matrix(width, n, k, &values).rounding(rounds);
                let is_rounded = matches!(Kernel::of(&w), Kernel::Native(_));
                let y = times(2, &x, &w);
                for i in 0..m {
                    for j in 0..n {
                        let products = (0..k).map(|p| {
                            let x = x[i * k + p];
                            let x = if is_rounded { f32::from_bits(rounded(x)) } else { x };
                            f64::from(x) * f64::from(values[j * k + p])
                        });
                        let (dot, size) =
                            products.fold((0.0, 0.0), |(dot, size), x| (dot + x, size + x.abs()));
                        let bound = size * (k + 1) as f64 * f64::from(f32::EPSILON);
                        let got = f64::from(y[i * n + j]);
                        assert!((got - dot).abs() <= bound, "{width:?} {m}x{n}x{k} [{i},{j}]: {got} {dot}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_company_nor_on_the_number_of_threads() {
        let (n, k) = (301, 515);
        for (width, rounds) in WIDTHS {
            let w = matrix(width, n, k, &fill(n * k, 3)).rounding(rounds);
            let x = fill(23 * k, 4);
            let together = times(3, &x, &w);
            for (x, y) in x.chunks_exact(k).zip(together.chunks_exact(n)) {
                assert_eq!(times(1, x, &w), y);
            }
        }
    }

    /// In 32 bits the order of a sum is that of its terms, whatever the machine.
    #[test]
    fn sums_run_from_the_first_to_the_last() {
        let (x, values) = (fill(77, 5), fill(77, 6));
        for width in [Width::F32, Width::Bf16, Width::F16] {
            let sum = x.iter().zip(&values).fold(0.0_f32, |sum, (x, w)| w.mul_add(*x, sum));
            assert_eq!(times(1, &x, &matrix(width, 1, 77, &values)), [sum], "{width:?}");
        }
    }

    #[test]
    fn rows_are_cut_into_tiles_of_about_one_height() {
        let heights = |rows, most| Heights::new(rows, most).iter().collect::<Vec<_>>();
        assert_eq!(heights(1, 12), [1]);
        assert_eq!(heights(12, 12), [12]);
        assert_eq!(heights(16, 12), [8, 8]);
        assert_eq!(heights(17, 6), [6, 6, 5]);
        for rows in 1..200 {
            let heights = heights(rows, 12);
            assert_eq!(heights.iter().sum::<usize>(), rows);
            assert!(heights.iter().all(|height| (1..=12).contains(height)));
        }
    }

    #[test]
    fn every_finite_half_is_widened_exactly() {
        for (width, rounds) in [(Width::Bf16, false), (Width::F16, false), (Width::Bf16, true)] {
            let finite = |bits: u16| match width {
                Width::F16 => half::f16::from_bits(bits).is_finite(),
                // Where the processor multiplies them itself, those below the normal ones are zeros.
                _ if rounds => half::bf16::from_bits(bits).is_normal(),
                _ => half::bf16::from_bits(bits).is_finite(),
            };
            let all: Vec<u16> = (0..=u16::MAX).filter(|bits| finite(*bits)).collect();
            let bytes: Vec<u8> = all.iter().flat_map(|bits| bits.to_le_bytes()).collect();
            let mut w = Matrix::zeros(width, all.len(), 1);
            w.fill(0, &bytes);
            let w = w.rounding(rounds);
            let mut expected = [0.0];
            for (row, got) in times(1, &[1.0], &w).iter().enumerate() {
                w.widen_row(row, &mut expected);
                assert_eq!(*got, expected[0], "{width:?} {:#06x}", all[row]);
            }
        }
    }
}
