//! Convolutions as products of matrices: what a kernel sees at one place lies in one row (im2col), and the way back adds the
//! rows up where they overlap.
//!
//! Inside the network an image lies with its planes last, so that what a kernel sees of one of its rows is one piece of memory; the
//! inputs of the network have theirs first, as everyone else's images do.

use std::ops::Range;

/// Values of patches that are gathered at a time: a product then finds them in the cache, and a batch needs no more memory.
const AT_ONCE: usize = 1 << 15;

/// Where the kernel of a convolution looks: at squares of an image, `stride` apart, none of which reaches over the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Planes of the image (its channels).
    pub planes: usize,
    /// Rows of the image.
    pub rows: usize,
    /// Columns of the image.
    pub columns: usize,
    /// Rows and columns of the kernel.
    pub kernel: usize,
    /// Rows and columns from one place to the next.
    pub stride: usize,
}

impl Window {
    /// Places of the kernel from top to bottom: rows of the image that comes out.
    pub fn rows_out(&self) -> usize {
        (self.rows - self.kernel) / self.stride + 1
    }

    /// Places of the kernel from left to right: columns of the image that comes out.
    pub fn columns_out(&self) -> usize {
        (self.columns - self.kernel) / self.stride + 1
    }

    /// Places of the kernel.
    pub fn places(&self) -> usize {
        self.rows_out() * self.columns_out()
    }

    /// Values of the image.
    pub fn image(&self) -> usize {
        self.planes * self.rows * self.columns
    }

    /// Values the kernel sees at one place.
    pub fn patch(&self) -> usize {
        self.planes * self.kernel * self.kernel
    }

    /// How many images are gathered at a time.
    pub(super) fn images_at_once(&self) -> usize {
        (AT_ONCE / (self.places() * self.patch())).max(1)
    }

    /// `images[n, rows, columns, planes]` → `patches[n, places, patch]`, a patch being `[kernel, kernel, planes]`.
    pub(super) fn gather(&self, images: &[f32], patches: &mut Vec<f32>) {
        patches.resize(images.len() / self.image() * self.places() * self.patch(), 0.0);
        let mut pieces = patches.chunks_exact_mut(self.kernel * self.planes);
        for image in images.chunks_exact(self.image()) {
            // Inner iteration is a loop in a loop in a loop; outer iteration would ask at each step where it is.
            self.seen().for_each(|from| {
                if let Some(to) = pieces.next() {
                    to.copy_from_slice(&image[from]);
                }
            });
        }
    }

    /// Adds every value of `patches[n, places, patch]` to where [`gather`](Self::gather) takes it from.
    pub(super) fn scatter(&self, patches: &[f32], images: &mut [f32]) {
        let mut pieces = patches.chunks_exact(self.kernel * self.planes);
        for image in images.chunks_exact_mut(self.image()) {
            self.seen().for_each(|to| {
                for (sum, d) in image[to].iter_mut().zip(pieces.next().unwrap_or_default()) {
                    *sum += d;
                }
            });
        }
    }

    /// What the kernel sees of an image, in the order of patches: rows of the kernel, each of `kernel · planes` values.
    fn seen(&self) -> impl Iterator<Item = Range<usize>> {
        let Self { planes, columns, kernel, stride, .. } = *self;
        let across =
            move |row: usize| (0..self.columns_out()).map(move |column| (row * stride, column * stride));
        (0..self.rows_out()).flat_map(across).flat_map(move |(row, column)| {
            (row..row + kernel).map(move |row| {
                let first = (row * columns + column) * planes;
                first..first + kernel * planes
            })
        })
    }

    /// `from[n, planes, rows, columns]` → `to[n, rows, columns, planes]`.
    pub(super) fn planes_last(&self, from: &[f32], to: &mut Vec<f32>) {
        to.resize(from.len(), 0.0);
        let size = self.rows * self.columns;
        for (from, to) in from.chunks_exact(self.image()).zip(to.chunks_exact_mut(self.image())) {
            for (plane, values) in from.chunks_exact(size).enumerate() {
                to.iter_mut().skip(plane).step_by(self.planes).zip(values).for_each(|(to, from)| *to = *from);
            }
        }
    }

    /// `from[n, rows, columns, planes]` → `to[n, planes, rows, columns]`.
    pub(super) fn planes_first(&self, from: &[f32], to: &mut Vec<f32>) {
        to.resize(from.len(), 0.0);
        let size = self.rows * self.columns;
        for (from, to) in from.chunks_exact(self.image()).zip(to.chunks_exact_mut(self.image())) {
            for (plane, values) in to.chunks_exact_mut(size).enumerate() {
                values
                    .iter_mut()
                    .zip(from.iter().skip(plane).step_by(self.planes))
                    .for_each(|(to, from)| *to = *from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Window;

    const WINDOW: Window = Window { planes: 2, rows: 5, columns: 4, kernel: 2, stride: 2 };

    #[test]
    fn a_patch_is_what_the_kernel_sees() {
        assert_eq!((WINDOW.rows_out(), WINDOW.columns_out(), WINDOW.image(), WINDOW.patch()), (2, 2, 40, 8));
        let images: Vec<f32> = (0..80).map(|i| i as f32).collect();
        let mut patches = Vec::new();
        WINDOW.gather(&images, &mut patches);
        // The second image, one place down, one to the right: rows 2 and 3, columns 2 and 3, both planes.
        let first = 40.0 + (2.0 * 4.0 + 2.0) * 2.0;
        let want: Vec<f32> = [0.0, 1.0, 2.0, 3.0, 8.0, 9.0, 10.0, 11.0].iter().map(|x| first + x).collect();
        assert_eq!(patches[7 * 8..], want);
    }

    #[test]
    fn scattering_is_gathering_turned_around() {
        // ⟨gather(x), y⟩ = ⟨x, scatter(y)⟩ for all x and y, in whole numbers: overlapping kernels too.
        for window in [WINDOW, Window { stride: 1, ..WINDOW }, Window { kernel: 3, stride: 1, ..WINDOW }] {
            let x: Vec<f32> = (0..2 * window.image()).map(|i| (i * 7 % 11) as f32).collect();
            let mut patches = Vec::new();
            window.gather(&x, &mut patches);
            let y: Vec<f32> = (0..patches.len()).map(|i| (i * 5 % 13) as f32).collect();
            let mut back = vec![0.0; x.len()];
            window.scatter(&y, &mut back);
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            assert_eq!(dot(&patches, &y), dot(&x, &back));
        }
    }

    #[test]
    fn planes_go_last_and_come_back() {
        let x: Vec<f32> = (0..80).map(|i| i as f32).collect();
        let (mut last, mut first) = (Vec::new(), Vec::new());
        WINDOW.planes_last(&x, &mut last);
        assert_eq!(last[..4], [0.0, 20.0, 1.0, 21.0]);
        WINDOW.planes_first(&last, &mut first);
        assert_eq!(first, x);
    }
}
