//! [`Share`]: which rows of a dataset a part of it has.

use std::fmt;
use std::ops::Range;

/// Which rows of a dataset, in their order, a part of it has. Where that depends on how many there are, it is told once they are counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Share {
    /// The blocks dealt whole, in order, the first shares getting one more; the rows, where there are fewer blocks than shares.
    Blocks { index: usize, count: usize },
    /// As many rows as all other shares have; what does not divide is left out.
    Equal { index: usize, count: usize },
    /// The rows from one number to another, as far as there are so many.
    Between { from: u64, to: u64 },
    /// The rows from one part of the whole to another, each bound rounded to the nearest row.
    Fraction { from: f64, to: f64 },
}

impl Share {
    /// All rows, block by block.
    pub(crate) const ALL: Self = Self::Blocks { index: 0, count: 1 };

    /// Its rows of `total`.
    pub(crate) fn rows(self, total: u64) -> Range<u64> {
        match self {
            Self::Blocks { index, count } => {
                let (index, count) = (index as u64, count.max(1) as u64);
                let (each, extra) = (total / count, total % count);
                let start = index * each + index.min(extra);
                start..start + each + u64::from(index < extra)
            }
            Self::Equal { index, count } => {
                let (index, each) = (index as u64, total / count.max(1) as u64);
                index * each..(index + 1) * each
            }
            Self::Between { from, to } => from.min(total)..to.min(total).max(from.min(total)),
            Self::Fraction { from, to } => {
                let bound = |part: f64| (((part * total as f64).round()) as u64).min(total);
                bound(from)..bound(to).max(bound(from))
            }
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocks { index, count } => write!(f, "share {index} of {count}"),
            Self::Equal { index, count } => write!(f, "equal share {index} of {count}"),
            Self::Between { from, to: u64::MAX } => write!(f, "rows from {from}"),
            Self::Between { from, to } => write!(f, "rows {from}..{to}"),
            Self::Fraction { from, to } => write!(f, "rows from {from} to {to} of the whole"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_of_any_total_meet_without_a_gap() {
        for total in 0..200 {
            for cuts in
                [vec![0.0, 0.8, 1.0], vec![0.0, 0.1, 0.3, 0.35, 1.0], vec![0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0]]
            {
                let mut end = 0;
                for pair in cuts.windows(2) {
                    let rows = Share::Fraction { from: pair[0], to: pair[1] }.rows(total);
                    assert_eq!(rows.start, end);
                    let exact = (pair[1] - pair[0]) * total as f64;
                    assert!(((rows.end - rows.start) as f64 - exact).abs() <= 1.0, "{rows:?} of {total}");
                    end = rows.end;
                }
                assert_eq!(end, total);
            }
        }
        assert_eq!(Share::Fraction { from: 0.0, to: 0.8 }.rows(150), 0..120);
    }

    #[test]
    fn shares_beyond_the_end_are_empty() {
        assert_eq!(Share::Between { from: 5, to: 9 }.rows(7), 5..7);
        assert_eq!(Share::Between { from: 9, to: u64::MAX }.rows(7), 7..7);
        assert_eq!(Share::Equal { index: 2, count: 3 }.rows(11), 6..9);
        assert_eq!(Share::Blocks { index: 2, count: 3 }.rows(11), 8..11);
    }
}
