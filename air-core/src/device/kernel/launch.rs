/// On how many threads a kernel runs: a grid of blocks, each of so many threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// Blocks along x, y and z. With none, nothing runs.
    pub grid: [u32; 3],
    /// Threads of a block along x, y and z; at most 1024 together.
    pub block: [u32; 3],
    /// Memory that the threads of a block share, beside what the kernel declares, in bytes.
    pub shared_bytes: u32,
}

const THREADS: u32 = 256;
const MOST_THREADS: u64 = 1024;
/// Of blocks along y and z, and of what [`Launch::cover`] makes along x.
const MOST_BLOCKS: u32 = 65_535;

impl Launch {
    /// A thread for each of `len` elements, up to some 16 million threads, which fill any device: a kernel strides over the rest.
    pub fn cover(len: usize) -> Launch {
        let blocks = len.div_ceil(THREADS as usize).min(MOST_BLOCKS as usize);
        Launch { grid: [blocks as u32, 1, 1], block: [THREADS, 1, 1], shared_bytes: 0 }
    }

    /// Whether nothing runs.
    pub(crate) fn is_empty(&self) -> bool {
        self.grid.contains(&0)
    }

    /// What is wrong with it on every device.
    pub(super) fn check(&self) -> Result<(), String> {
        let threads: u64 = self.block.iter().map(|&side| u64::from(side)).fold(1, u64::saturating_mul);
        if threads == 0 || threads > MOST_THREADS {
            let [x, y, z] = self.block;
            return Err(format!("a block of {x} x {y} x {z} threads; it may have 1 to {MOST_THREADS}"));
        }
        if self.block[2] > 64 {
            return Err(format!("{} threads of a block along z; there may be 64", self.block[2]));
        }
        if self.grid[0] > i32::MAX as u32 || self.grid[1] > MOST_BLOCKS || self.grid[2] > MOST_BLOCKS {
            let [x, y, z] = self.grid;
            return Err(format!("a grid of {x} x {y} x {z} blocks; there may be 2147483647 x 65535 x 65535"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_covers_what_it_can_and_the_rest_is_strided_over() {
        let blocks = |len| Launch::cover(len).grid[0];
        assert_eq!([0, 1, 256, 257].map(blocks), [0, 1, 1, 2]);
        assert_eq!(blocks(usize::MAX), MOST_BLOCKS);
        assert!(Launch::cover(0).is_empty() && !Launch::cover(1).is_empty());
        assert!(Launch::cover(usize::MAX).check().is_ok());
    }

    #[test]
    fn what_no_device_takes_is_refused() {
        let launch = |grid, block| Launch { grid, block, shared_bytes: 0 }.check();
        assert!(launch([1, 1, 1], [32, 32, 1]).is_ok());
        for (grid, block, says) in [
            ([1, 1, 1], [32, 32, 2], "32 x 32 x 2"),
            ([1, 1, 1], [0, 1, 1], "0 x 1 x 1"),
            ([1, 1, 1], [u32::MAX, u32::MAX, u32::MAX], "may have 1 to 1024"),
            ([1, 1, 1], [1, 1, 65], "along z"),
            ([1, 70_000, 1], [1, 1, 1], "1 x 70000 x 1"),
        ] {
            assert!(launch(grid, block).is_err_and(|error| error.contains(says)), "{grid:?} {block:?}");
        }
    }
}
