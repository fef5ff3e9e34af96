//! Which of several trials are better where several numbers count.

use super::Mode;

/// Whether `a` is no worse than `b` in everything and better in something. Not-a-number is worse than every number.
pub(crate) fn dominates(a: &[f64], b: &[f64], modes: &[Mode]) -> bool {
    let mut better = false;
    for ((a, b), mode) in a.iter().zip(b).zip(modes) {
        if mode.better(*b, *a) {
            return false;
        }
        better |= mode.better(*a, *b);
    }
    better
}

/// The front each point lies on, 0 for those that none dominates (Deb et al., 2002, section III A).
pub(crate) fn fronts(points: &[&[f64]], modes: &[Mode]) -> Vec<usize> {
    let mut dominators: Vec<usize> = vec![0; points.len()];
    let mut dominated: Vec<Vec<usize>> = vec![Vec::new(); points.len()];
    for i in 0..points.len() {
        for j in 0..points.len() {
            if dominates(points[i], points[j], modes) {
                dominated[i].push(j);
                dominators[j] += 1;
            }
        }
    }
    let mut fronts = vec![0; points.len()];
    let mut current: Vec<usize> = (0..points.len()).filter(|at| dominators[*at] == 0).collect();
    let mut front = 0;
    while !current.is_empty() {
        let mut next = Vec::new();
        for at in current {
            fronts[at] = front;
            for &worse in &dominated[at] {
                dominators[worse] -= 1;
                if dominators[worse] == 0 {
                    next.push(worse);
                }
            }
        }
        current = next;
        front += 1;
    }
    fronts
}

/// How far apart the neighbours of each point are, over all numbers; infinite at the ends (the same, section III B).
pub(crate) fn crowding(points: &[&[f64]]) -> Vec<f64> {
    let mut distance = vec![0.0; points.len()];
    let count = points.first().map_or(0, |point| point.len());
    for number in 0..count {
        let mut order: Vec<usize> = (0..points.len()).collect();
        order.sort_by(|a, b| points[*a][number].total_cmp(&points[*b][number]));
        let (first, last) = (order[0], order[order.len() - 1]);
        let range = points[last][number] - points[first][number];
        distance[first] = f64::INFINITY;
        distance[last] = f64::INFINITY;
        if range > 0.0 && range.is_finite() {
            for window in order.windows(3) {
                distance[window[1]] += (points[window[2]][number] - points[window[0]][number]) / range;
            }
        }
    }
    distance
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_point_dominates_what_it_is_nowhere_worse_than() {
        let modes = [Mode::Min, Mode::Max];
        assert!(dominates(&[1.0, 2.0], &[1.0, 1.0], &modes));
        assert!(!dominates(&[1.0, 2.0], &[1.0, 2.0], &modes), "not itself");
        assert!(!dominates(&[0.0, 0.0], &[1.0, 1.0], &modes));
        assert!(dominates(&[1.0, f64::NEG_INFINITY], &[1.0, f64::NAN], &modes));
        let crowd = crowding(&[&[0.0, 4.0], &[1.0, 3.0], &[4.0, 0.0]]);
        assert_eq!(crowd, [f64::INFINITY, 2.0, f64::INFINITY]);
        assert!(crowding(&[]).is_empty());
    }

    proptest! {
        /// Against the definition: a point's front is one past the last of those that dominate it.
        #[test]
        fn fronts_are_layers(points in proptest::collection::vec(proptest::collection::vec(-3_i8..3, 2..=2), 0..30)) {
            let points: Vec<Vec<f64>> = points.into_iter().map(|p| p.into_iter().map(f64::from).collect()).collect();
            let points: Vec<&[f64]> = points.iter().map(|p| &p[..]).collect();
            let modes = [Mode::Min, Mode::Max];
            let fronts = fronts(&points, &modes);
            for (at, point) in points.iter().enumerate() {
                let above = points.iter().zip(&fronts).filter(|(other, _)| dominates(other, point, &modes));
                prop_assert_eq!(fronts[at], above.map(|(_, front)| front + 1).max().unwrap_or(0));
            }
        }
    }
}
