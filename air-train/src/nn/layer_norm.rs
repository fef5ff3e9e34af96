//! Layer normalisation ([Ba et al. 2016](https://arxiv.org/abs/1607.06450)), in place, with its backward pass.

/// What layer normalisation adds to the variance, as PyTorch does.
pub const EPS: f32 = 1e-5;

/// What the backward pass needs of the rows that went forward.
#[derive(Clone, Debug, Default)]
pub(super) struct Normed {
    /// The rows at mean 0 and deviation 1, `[count, units]`.
    rows: Vec<f32>,
    /// The inverse deviation of each.
    inverse: Vec<f32>,
    /// The gradients of gain and offset, one after the other, `[2, units]`.
    pub d_affine: Vec<f32>,
}

/// Brings each row of `y[count, units]` to mean 0 and deviation 1, then takes it times `gain` plus `offset`.
pub(super) fn forward(gain: &[f32], offset: &[f32], y: &mut [f32], mut keep: Option<&mut Normed>) {
    let units = gain.len();
    if let Some(Normed { rows, inverse, .. }) = &mut keep {
        rows.clear();
        inverse.clear();
    }
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            for row in y.chunks_exact_mut(units) {
                let mean = row.iter().sum::<f32>() / units as f32;
                let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / units as f32;
                let inverse = 1.0 / (variance + EPS).sqrt();
                row.iter_mut().for_each(|x| *x = (*x - mean) * inverse);
                if let Some(kept) = &mut keep {
                    kept.rows.extend_from_slice(row);
                    kept.inverse.push(inverse);
                }
                for ((x, gain), offset) in row.iter_mut().zip(gain).zip(offset) {
                    *x = x.mul_add(*gain, *offset);
                }
            }
        },
    );
}

impl Normed {
    /// From the gradient of what [`forward`] made of the rows to that of the rows, in place; sums those of gain and offset.
    pub(super) fn backward(&mut self, gain: &[f32], d: &mut [f32]) {
        let units = gain.len();
        let Self { rows, inverse, d_affine } = self;
        d_affine.clear();
        d_affine.resize(2 * units, 0.0);
        let (d_gain, d_offset) = d_affine.split_at_mut(units);
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                for ((d, x), inverse) in d.chunks_exact_mut(units).zip(rows.chunks_exact(units)).zip(inverse)
                {
                    let (mut mean, mut along) = (0.0, 0.0);
                    for j in 0..units {
                        d_gain[j] += d[j] * x[j];
                        d_offset[j] += d[j];
                        d[j] *= gain[j];
                        mean += d[j];
                        along += d[j] * x[j];
                    }
                    let (mean, along) = (mean / units as f32, along / units as f32);
                    for (d, x) in d.iter_mut().zip(x) {
                        *d = *inverse * (*d - mean - x * along);
                    }
                }
            },
        );
    }
}
