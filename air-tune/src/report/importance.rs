//! How much each parameter has to do with the metric.
//!
//! Permutation importance (Breiman, "Random Forests", 2001, section 10): a random forest learns the metric from the parameters; how much worse it tells a trial that it has not seen once
//! one parameter's values are shuffled is what that parameter is worth.

use rand::seq::SliceRandom;

use super::forest::Trials;

/// The importance of each column of `rows` for `values`; they add up to one, or are all zero where nothing can be told. A column's values may be not-a-number.
pub(super) fn importance(rows: &[Vec<f64>], values: &[f64]) -> Vec<f64> {
    let mut gains = vec![0.0; rows.first().map_or(0, Vec::len)];
    let Some(trials) = Trials::new(rows, values) else { return gains };
    let (rows, values) = (&trials.rows, &trials.values);
    let tried = gains.len().div_ceil(3);
    trials.each_tree(tried, |root, unseen, rng| {
        let error = |told: &dyn Fn(usize) -> f64| -> f64 {
            unseen.iter().enumerate().map(|(at, row)| (told(at) - values[*row]).powi(2)).sum()
        };
        let plain = error(&|at| root.tell(&rows[unseen[at]]));
        for (axis, gain) in gains.iter_mut().enumerate() {
            let mut order = unseen.to_vec();
            order.shuffle(rng);
            let shuffled = error(&|at| {
                let mut row = rows[unseen[at]].clone();
                row[axis] = rows[order[at]][axis];
                root.tell(&row)
            });
            *gain += shuffled - plain;
        }
    });
    for gain in &mut gains {
        *gain = gain.max(0.0);
    }
    let total: f64 = gains.iter().sum();
    if total > 0.0 && total.is_finite() {
        for gain in &mut gains {
            *gain /= total;
        }
    } else {
        gains.fill(0.0);
    }
    gains
}

#[cfg(test)]
mod tests {
    use air_core::seed::Seed;
    use rand::RngExt;

    use super::*;

    #[test]
    fn what_matters_more_is_told_from_what_matters_less() {
        let mut rng = Seed::new(4).rng();
        let rows: Vec<Vec<f64>> = (0..300)
            .map(|at| {
                let other: f64 = if at % 3 == 0 { f64::NAN } else { rng.random() };
                vec![rng.random(), rng.random(), rng.random(), other]
            })
            .collect();
        let values: Vec<f64> = rows.iter().map(|x| 10.0 * x[1] + 3.0 * (x[0] - 0.5).abs()).collect();
        let found = importance(&rows, &values);
        assert!(found[1] > 0.8 && found[0] > 0.01, "{found:?}");
        assert!(found[2] < 0.01 && found[3] < 0.01, "{found:?}");
        assert!((found.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert_eq!(found, importance(&rows, &values));
    }

    #[test]
    fn of_few_trials_or_equal_values_nothing_is_told() {
        assert_eq!(importance(&[vec![1.0], vec![2.0]], &[0.0, 1.0]), [0.0]);
        let rows: Vec<Vec<f64>> = (0..50).map(|at| vec![f64::from(at)]).collect();
        assert_eq!(importance(&rows, &[7.0; 50]), [0.0]);
        assert!(importance(&[], &[]).is_empty());
    }
}
