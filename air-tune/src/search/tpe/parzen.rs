//! [`Parzen`]: a density over the points of one group, with a kernel on each observation and a wide one for what nobody has tried.
//!
//! The density is a weighted sum of products over the axes (Bergstra et al. 2011; the product, rather than one density per axis, is Falkner
//! et al. 2018, section 3, and keeps what parameters have to do with one another). A number's kernel is a Gaussian cut off at the bounds, integrated over the
//! cell where the number is an integer or has a step; a listed value's kernel gives the value itself most of the weight.

use std::f64::consts::{PI, SQRT_2};
use std::sync::LazyLock;

use rand::{Rng, RngExt};

use crate::search::axes::{Axes, Axis};

/// Up to so many cells their probabilities are worked out; more of them are narrow enough for the density at their middle.
const COUNTED: u64 = 16;
/// A kernel is no narrower than this share of what each observation would have if they were spread evenly: few that lie close together say little of what is beside
/// them. Measured on problems of two to twenty parameters: 0.7 and 1.0 do as well, 1.5 closes in too slowly, and a hundredth of the range stands still where it is.
const NARROWEST: f64 = 0.8;

/// See the module.
pub(super) struct Parzen {
    /// Of each kernel, the wide one last.
    weights: Vec<f64>,
    /// The logarithm of each kernel's weight, and of what makes it a density along the axes of numbers.
    logs: Vec<f64>,
    dims: Vec<Dim>,
}

/// The kernels along one axis, the wide one last.
enum Dim {
    /// Gaussians around `middles`.
    Smooth { middles: Vec<f64>, widths: Vec<f64> },
    /// The same over few cells: `logs[kernel * cells + cell]` are the logarithms of their probabilities.
    Cells { middles: Vec<f64>, widths: Vec<f64>, cells: usize, logs: Vec<f64> },
    /// The observed values of a list, of which there are `values`: a kernel's logarithms for its own value and for each other one.
    Listed { kernels: Vec<usize>, values: usize, own: f64, other: f64 },
}

impl Parzen {
    /// The density of `rows`, each with its weight, on the axes of a group; `prior` is the weight of the wide kernel.
    pub fn new(axes: &Axes, group: &[usize], rows: &[(&[f64], f64)], prior: f64) -> Self {
        let raw: Vec<f64> = rows.iter().map(|(_, weight)| *weight).chain([prior]).collect();
        let sum: f64 = raw.iter().sum();
        let weights: Vec<f64> = raw.iter().map(|weight| weight / sum).collect();
        let column = |at: usize| rows.iter().map(move |(row, _)| row[at]);
        let mut logs: Vec<f64> = weights.iter().map(|weight| weight.ln()).collect();
        let mut dim =
            |&at: &usize| Dim::new(axes.axis(at), column(at).collect(), prior, group.len(), &mut logs);
        let dims = group.iter().map(&mut dim).collect();
        Self { weights, logs, dims }
    }

    /// A point of the group, at random.
    pub fn sample(&self, rng: &mut impl Rng) -> Vec<f64> {
        let kernel = pick(&self.weights, rng);
        self.dims
            .iter()
            .map(|dim| match dim {
                Dim::Smooth { middles, widths, .. } | Dim::Cells { middles, widths, .. } => {
                    truncated(middles[kernel], widths[kernel], rng)
                }
                Dim::Listed { kernels, values, own, .. } => {
                    let mut value = rng.random_range(0..*values);
                    if let Some(&observed) = kernels.get(kernel)
                        // A draw from all values hits its own now and then.
                        && *values > 1
                        && rng.random::<f64>() < (own.exp() * *values as f64 - 1.0) / (*values as f64 - 1.0)
                    {
                        value = observed;
                    }
                    value as f64
                }
            })
            .collect()
    }

    /// The logarithm of the density at a point of the group.
    ///
    /// Many cells count with the density at their middle: their width is the same for all densities that are compared.
    pub fn log_density(&self, axes: &Axes, group: &[usize], point: &[f64], room: &mut Vec<f64>) -> f64 {
        room.clear();
        room.extend_from_slice(&self.logs);
        for ((dim, &at), &x) in self.dims.iter().zip(group).zip(point) {
            match dim {
                Dim::Smooth { middles, widths } => {
                    // All but the wide one are equally wide.
                    let narrow = -0.5 / (widths[0] * widths[0]);
                    for (sum, middle) in room.iter_mut().zip(&middles[..middles.len() - 1]) {
                        *sum += narrow * (x - middle) * (x - middle);
                    }
                    if let (Some(sum), Some(middle), Some(width)) =
                        (room.last_mut(), middles.last(), widths.last())
                    {
                        *sum -= 0.5 * ((x - middle) / width).powi(2);
                    }
                }
                Dim::Cells { cells, logs, .. } => {
                    let cell = axes.axis(at).cell_of(x) as usize;
                    for (sum, row) in room.iter_mut().zip(logs.chunks_exact(*cells)) {
                        *sum += row[cell];
                    }
                }
                Dim::Listed { kernels, values, own, other } => {
                    let value = x as usize;
                    for (sum, kernel) in room.iter_mut().zip(kernels) {
                        *sum += if *kernel == value { own } else { other };
                    }
                    if let Some(wide) = room.last_mut() {
                        *wide -= (*values as f64).ln();
                    }
                }
            }
        }
        let most = room.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // What is below the largest by more than this is lost in rounding, and most kernels are.
        let near = room.iter().map(|log| log - most).filter(|below| *below > -40.0);
        most + near.map(f64::exp).sum::<f64>().ln()
    }
}

impl Dim {
    /// The kernels of what was observed along an axis, one of `axes` of the density, to whose logarithms it adds what makes Gaussians densities.
    fn new(axis: &Axis, mut middles: Vec<f64>, prior: f64, axes: usize, logs: &mut [f64]) -> Self {
        if let Some(values) = axis.listed() {
            // Every value of the list gets a share of what the wide kernel weighs.
            let share = prior / (middles.len() as f64 + 1.0);
            let sum = 1.0 + share * values as f64;
            let kernels = middles.into_iter().map(|value| value as usize).collect();
            return Dim::Listed {
                kernels,
                values,
                own: ((1.0 + share) / sum).ln(),
                other: (share / sum).ln(),
            };
        }
        let mut widths = vec![width(&middles, axes); middles.len()];
        middles.push(0.5);
        widths.push(1.0);
        let kernels = middles.iter().copied().zip(widths.iter().copied());
        if let Some(cells) = axis.cells().filter(|cells| *cells <= COUNTED) {
            let bounds: Vec<(f64, f64)> = (0..cells).map(|cell| axis.cell(cell)).collect();
            let row = |(middle, width)| {
                let mass = mass(middle, width);
                let log = move |(low, high): &(f64, f64)| {
                    (within(middle, width, *low, *high) / mass).max(1e-300).ln()
                };
                bounds.iter().map(log)
            };
            let logs = kernels.flat_map(row).collect();
            return Dim::Cells { middles, widths, cells: cells as usize, logs };
        }
        for (log, (middle, width)) in logs.iter_mut().zip(kernels) {
            *log -= (mass(middle, width) * width * (2.0 * PI).sqrt()).ln();
        }
        Dim::Smooth { middles, widths }
    }
}

/// How wide the kernels of a density over `axes` axes are along one, by the normal reference rule (Scott: "Multivariate Density Estimation", 1992): in proportion to
/// how far the observations scatter, and the narrower the more there are.
fn width(middles: &[f64], axes: usize) -> f64 {
    let count = middles.len().max(1) as f64;
    let mean = middles.iter().sum::<f64>() / count;
    let deviation = (middles.iter().map(|middle| (middle - mean).powi(2)).sum::<f64>() / count).sqrt();
    let reference = (4.0_f64 / 3.0).powf(0.2) * deviation * count.powf(-1.0 / (axes as f64 + 4.0));
    reference.clamp(NARROWEST / (count + 2.0), 1.0)
}

fn pick(weights: &[f64], rng: &mut impl Rng) -> usize {
    let mut left: f64 = rng.random();
    let picked = weights.iter().position(|weight| {
        left -= weight;
        left < 0.0
    });
    picked.unwrap_or(weights.len() - 1)
}

/// A Gaussian's probability of the unit interval, in which its middle lies.
fn mass(middle: f64, width: f64) -> f64 {
    1.0 - tail(middle / width) - tail((1.0 - middle) / width)
}

/// The probability beyond so many deviations, between the entries of a table: every kernel of every axis needs two for each point that is proposed.
fn tail(deviations: f64) -> f64 {
    /// Entries for a deviation: what lies on a line between two of them is right to 5e-7.
    const FINE: f64 = 256.0;
    /// There is nothing beyond that a number could show.
    const FAR: f64 = 9.0;
    static TAILS: LazyLock<Vec<f64>> = LazyLock::new(|| {
        let entries = (FAR * FINE) as u32 + 1;
        (0..entries).map(|at| 0.5 * libm::erfc(f64::from(at) / FINE / SQRT_2)).collect()
    });
    if deviations >= FAR {
        return 0.0;
    }
    let place = deviations * FINE;
    let at = place as usize;
    let (below, above) = (TAILS[at], TAILS[at + 1]);
    below + (place - at as f64) * (above - below)
}

/// A Gaussian's probability of `low..high`.
fn within(middle: f64, width: f64, low: f64, high: f64) -> f64 {
    let below = |x: f64| libm::erf((x - middle) / (width * SQRT_2));
    0.5 * (below(high) - below(low))
}

/// A Gaussian cut off at the bounds of the unit interval, in which its middle lies and which it is not wider than: at least a third of what is drawn stays.
fn truncated(middle: f64, width: f64, rng: &mut impl Rng) -> f64 {
    loop {
        // Box and Muller 1958; of the pair either serves.
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
        let (sin, cos) = (2.0 * PI * rng.random::<f64>()).sin_cos();
        for normal in [sin, cos] {
            let x = middle + width * radius * normal;
            if (0.0..=1.0).contains(&x) {
                return x;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use air_core::seed::Seed;

    use super::*;
    use crate::space::{Space, choice, int_uniform, uniform};

    /// The density of everything, by the midpoint rule on numbers and by the sum over values, is one; and what is drawn follows it.
    #[test]
    fn it_is_a_density_and_is_drawn_from() {
        let space = Space::new()
            .with("x", uniform(0.0, 1.0))
            .with("n", int_uniform(1..=5))
            .with("k", choice(["a", "b", "c"]));
        let axes = Axes::new(&space).unwrap();
        let group = &axes.groups()[0];
        let rows = [[0.1, 0.1, 0.0], [0.15, 0.9, 2.0], [0.9, 0.5, 2.0]];
        let rows: Vec<(&[f64], f64)> = rows.iter().map(|row| (&row[..], 1.0)).collect();
        let density = Parzen::new(&axes, group, &rows, 1.0);
        let (mut room, steps) = (Vec::new(), 200);
        let mut expected = vec![0.0; 10 * 5 * 3];
        for x in 0..steps {
            for n in 0..5 {
                for k in 0..3 {
                    let point =
                        [(f64::from(x) + 0.5) / f64::from(steps), (f64::from(n) + 0.5) / 5.0, f64::from(k)];
                    let bin = ((x * 10 / steps * 5 + n) * 3 + k) as usize;
                    expected[bin] +=
                        density.log_density(&axes, group, &point, &mut room).exp() / f64::from(steps);
                }
            }
        }
        let sum: f64 = expected.iter().sum();
        assert!((sum - 1.0).abs() < 1e-4, "{sum}");

        let mut rng = Seed::new(3).rng();
        let draws = 100_000;
        let mut seen = vec![0.0; expected.len()];
        for _ in 0..draws {
            let point = density.sample(&mut rng);
            let (x, n) = ((point[0] * 10.0) as usize, axes.axis(1).cell_of(point[1]) as usize);
            seen[(x.min(9) * 5 + n) * 3 + point[2] as usize] += 1.0 / f64::from(draws);
        }
        // Half the sum of the differences is about sqrt(bins / draws) / 2 by chance: 0.02.
        let apart: f64 = seen.iter().zip(&expected).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0;
        assert!(apart < 0.03, "{apart}");
    }

    #[test]
    fn nothing_observed_is_uniform_where_values_are_listed() {
        let space = Space::new().with("k", choice(["a", "b", "c"]));
        let axes = Axes::new(&space).unwrap();
        let density = Parzen::new(&axes, &axes.groups()[0], &[], 1.0);
        let log = density.log_density(&axes, &[0], &[1.0], &mut Vec::new());
        assert!((log - (1.0_f64 / 3.0).ln()).abs() < 1e-12);
    }

    #[test]
    fn tails_are_those_of_the_normal_distribution() {
        for at in 0..20_000 {
            let deviations = f64::from(at) / 2_000.0;
            let exact = 0.5 * libm::erfc(deviations / SQRT_2);
            assert!((tail(deviations) - exact).abs() < 5e-7, "{deviations}");
        }
    }

    #[test]
    fn kernels_are_as_wide_as_observations_scatter() {
        // A deviation of 0.2 along one of two axes: 1.0592 * 0.2 * 100^(-1/6).
        let apart: Vec<f64> = (0..100).map(|at| if at % 2 == 0 { 0.3 } else { 0.7 }).collect();
        assert!((width(&apart, 2) - 0.098_33).abs() < 1e-5, "{}", width(&apart, 2));
        // Those that do not scatter: 0.8 of a twelfth.
        assert!((width(&[0.4; 10], 2) - 0.8 / 12.0).abs() < 1e-12);
        // The fewest scatter most.
        assert!((width(&[0.4], 2) - 0.8 / 3.0).abs() < 1e-12);
    }
}
