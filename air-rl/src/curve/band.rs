//! Several runs as a mean with its confidence.

/// A curve: at each place the mean over seeds, and between which values it lies with 95 % confidence.
#[derive(Clone, Debug, PartialEq)]
pub struct Band {
    /// How many runs it is of.
    pub seeds: usize,
    /// Places, rising.
    pub x: Vec<f64>,
    /// Mean over the runs.
    pub mean: Vec<f64>,
    /// Lower end of the mean's interval; the mean itself for one run.
    pub low: Vec<f64>,
    /// Upper end.
    pub high: Vec<f64>,
}

/// 97.5 % quantiles of Student's t for 1, 2, … degrees of freedom.
const T: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];

/// The band of runs, each points (x, y) with rising x, at `points` places from where all have begun to where the last ends. Between two points of a run it is on the
/// straight line; after its end a run keeps its last value, for it stopped at its goal or would go on like that.
pub fn band(runs: &[Vec<(f64, f64)>], points: usize) -> Band {
    let begin = runs.iter().filter_map(|run| run.first()).map(|&(x, _)| x).fold(0.0, f64::max);
    let end = runs.iter().filter_map(|run| run.last()).map(|&(x, _)| x).fold(begin, f64::max);
    let steps = points.max(2) - 1;
    let mut band = Band { seeds: runs.len(), x: vec![], mean: vec![], low: vec![], high: vec![] };
    for i in 0..=steps {
        let x = begin + (end - begin) * i as f64 / steps as f64;
        let values: Vec<f64> = runs.iter().filter_map(|run| value(run, x)).collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        let t = T.get(values.len().saturating_sub(2)).copied().unwrap_or(1.96);
        let half = t * (variance / n).sqrt();
        band.x.push(x);
        band.mean.push(mean);
        band.low.push(mean - half);
        band.high.push(mean + half);
    }
    band
}

fn value(run: &[(f64, f64)], x: f64) -> Option<f64> {
    let after = run.partition_point(|&(at, _)| at <= x);
    let Some(&(x0, y0)) = run.get(after.wrapping_sub(1)) else { return run.first().map(|&(_, y)| y) };
    let Some(&(x1, y1)) = run.get(after) else { return Some(y0) };
    Some(y0 + (y1 - y0) * (x - x0) / (x1 - x0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_lies_between_the_runs_and_ends_keep_their_value() {
        let runs = [vec![(0.0, 0.0), (10.0, 10.0)], vec![(0.0, 2.0), (5.0, 12.0)]];
        let band = band(&runs, 3);
        assert_eq!(
            (band.seeds, &band.x[..], &band.mean[..]),
            (2, &[0.0, 5.0, 10.0][..], &[1.0, 8.5, 11.0][..])
        );
        // Two values 2 apart: deviation √2, error of the mean 1, times the quantile of one degree of freedom.
        assert!((band.high[0] - (1.0 + 12.706)).abs() < 1e-9 && (band.low[0] - (1.0 - 12.706)).abs() < 1e-9);
    }

    #[test]
    fn one_run_has_no_band_and_a_point_is_a_curve() {
        let band = band(&[vec![(3.0, 7.0)]], 5);
        assert_eq!(
            (&band.x[..], &band.low[..], &band.high[..]),
            (&[3.0; 5][..], &[7.0; 5][..], &[7.0; 5][..])
        );
    }
}
