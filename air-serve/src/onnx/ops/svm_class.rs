//! `SVMClassifier`: one machine for each pair of classes, whose votes decide (LibSVM's C-SVC and nu-SVC), or one linear one for each class (LibLinear).
//!
//! Where two classes or a post-transform leave more than one reading open, it is ONNX Runtime's.

use super::post::{PostTransform, logistic};
use super::svm::{Kernel, Rows, Vectors, table, wide};
use super::{MAX_ELEMENTS, Operator, need};
use crate::onnx::error::Reason;
use crate::onnx::node::Node;
use crate::onnx::value::{Labels, Value};

/// `SVMClassifier`: labels and scores.
pub(crate) struct Classifier {
    labels: Labels,
    machine: Machine,
    post: PostTransform,
}

enum Machine {
    Pairs(Pairs),
    Linear {
        /// Of each class.
        coefficients: Vectors,
        rho: f64,
        all_positive: bool,
    },
}

/// A machine for each pair of classes.
struct Pairs {
    kernel: Kernel,
    /// Those of the first class, then those of the second, and so on.
    vectors: Vectors,
    /// Where the vectors of each class begin, and where the last end.
    starts: Vec<usize>,
    /// `[classes - 1, vectors]`: a vector's weight against each other class, in their order.
    coefficients: Vec<f64>,
    /// Of each pair: (0, 1), (0, 2), …, (1, 2), ….
    rho: Vec<f64>,
    /// Of each pair, where there are probabilities: their slope and offset (Platt 1999).
    platt: Option<Vec<(f32, f32)>>,
}

impl Classifier {
    pub(super) fn build(node: &Node<'_>) -> Result<Self, Reason> {
        let labels =
            node.labels("classlabels_ints", "classlabels_strings")?.ok_or("it has no class labels")?;
        let counts = node.ints("vectors_per_class");
        let machine = if counts.iter().all(|&count| count == 0) {
            let rho = f64::from(*node.floats("rho").first().ok_or("it has no rho")?);
            let all_positive = node.floats("coefficients").iter().all(|&weight| weight >= 0.0);
            let coefficients = Vectors::build(node, "coefficients", labels.len())?;
            Machine::Linear { coefficients, rho, all_positive }
        } else {
            Machine::Pairs(Pairs::build(node, counts, labels.len())?)
        };
        let post = PostTransform::build(node)?;
        let one_score =
            matches!(&machine, Machine::Pairs(pairs) if pairs.rho.len() == 1 && pairs.platt.is_none());
        if one_score && post == PostTransform::Probit {
            return Err("the post_transform PROBIT is not defined for one score of two classes".to_owned());
        }
        Ok(Classifier { labels, machine, post })
    }
}

impl Operator for Classifier {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let x = need(inputs, 0)?;
        let (vectors, columns) = match &self.machine {
            Machine::Pairs(pairs) => (&pairs.vectors, pairs.columns()),
            Machine::Linear { coefficients, .. } => (coefficients, self.labels.len()),
        };
        let rows = vectors.rows(x)?;
        if rows.len().saturating_mul(columns) > MAX_ELEMENTS {
            return Err(format!("{} rows of {columns} scores are too many", rows.len()));
        }
        let (classes, scores) = match &self.machine {
            Machine::Pairs(pairs) => pairs.run(&rows, self.post),
            Machine::Linear { coefficients, rho, all_positive } => {
                linear(&rows, coefficients, *rho, *all_positive, self.post)
            }
        };
        Ok(vec![self.labels.pick(&classes), table(scores, columns)?])
    }

    fn labels(&self) -> Option<&Labels> {
        Some(&self.labels)
    }
}

/// The class of each row, and its scores.
type Decided = (Vec<usize>, Vec<f32>);

fn linear(rows: &Rows, coefficients: &Vectors, rho: f64, all_positive: bool, post: PostTransform) -> Decided {
    let (mut classes, mut out) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows.iter() {
        let scores: Vec<f64> =
            coefficients.iter().map(|weights| Kernel::Linear.of(row, weights) + rho).collect();
        let best = first_highest(&scores);
        // Of two classes the second is chosen by a border, not by the other's score.
        let is_over = if all_positive { scores[best] >= 0.5 } else { scores[best] > 0.0 };
        classes.push(if scores.len() == 2 && is_over { 1 } else { best });
        out.extend(transformed(post, scores));
    }
    (classes, out)
}

fn first_highest<T: PartialOrd>(scores: &[T]) -> usize {
    let better = |best: usize, class: usize| if scores[class] > scores[best] { class } else { best };
    (1..scores.len()).fold(0, better)
}

fn transformed(post: PostTransform, mut scores: Vec<f64>) -> impl Iterator<Item = f32> {
    post.apply(&mut scores);
    scores.into_iter().map(|score| score as f32)
}

/// The scores of two classes from the one that there is.
fn of_two(post: PostTransform, score: f64) -> [f64; 2] {
    match post {
        PostTransform::None => [-score, score],
        PostTransform::Logistic => [logistic(-score), logistic(score)],
        _ => [1.0 - score, score],
    }
}

impl Pairs {
    fn build(node: &Node<'_>, counts: &[i64], classes: usize) -> Result<Self, Reason> {
        if counts.len() != classes {
            return Err(format!("vectors_per_class has {} entries for {classes} classes", counts.len()));
        }
        if classes < 2 {
            return Err("support vectors need two classes at least".to_owned());
        }
        let mut starts = vec![0usize];
        for &count in counts {
            let end =
                usize::try_from(count).ok().and_then(|count| starts[starts.len() - 1].checked_add(count));
            starts.push(end.ok_or_else(|| format!("vectors_per_class has {count}"))?);
        }
        let count = starts[classes];
        let pairs = classes * (classes - 1) / 2;
        let length = |name: &str, got: usize, expected: Option<usize>| match expected {
            Some(expected) if got == expected => Ok(()),
            Some(expected) => Err(format!("{name} has {got} numbers, expected {expected}")),
            None => Err(format!("there are {count} support vectors, which are too many")),
        };
        let (coefficients, rho) = (node.floats("coefficients"), node.floats("rho"));
        length("coefficients", coefficients.len(), count.checked_mul(classes - 1))?;
        length("rho", rho.len(), Some(pairs))?;
        let (slopes, offsets) = (node.floats("prob_a"), node.floats("prob_b"));
        length("prob_b", offsets.len(), Some(slopes.len()))?;
        let platt = match slopes.len() {
            0 => None,
            got => {
                length("prob_a", got, Some(pairs))?;
                Some(slopes.iter().copied().zip(offsets.iter().copied()).collect())
            }
        };
        Ok(Pairs {
            kernel: Kernel::build(node)?,
            vectors: Vectors::build(node, "support_vectors", count)?,
            starts,
            coefficients: wide(coefficients),
            rho: wide(rho),
            platt,
        })
    }

    fn classes(&self) -> usize {
        self.starts.len() - 1
    }

    fn run(&self, rows: &Rows, post: PostTransform) -> Decided {
        let mut classes = Vec::with_capacity(rows.len());
        let mut out = Vec::new();
        for row in rows.iter() {
            let (class, scores) = self.decide(row);
            classes.push(class);
            match (&self.platt, &scores[..]) {
                (Some(platt), _) => out.extend(transformed(post, wide(&self.probabilities(platt, &scores)))),
                (None, &[score]) => out.extend(of_two(post, score).map(|score| score as f32)),
                _ => out.extend(transformed(post, scores)),
            }
        }
        (classes, out)
    }

    /// Scores to a row.
    fn columns(&self) -> usize {
        match (&self.platt, self.rho.len()) {
            (Some(_), _) => self.classes(),
            (None, 1) => 2,
            (None, pairs) => pairs,
        }
    }

    /// The class that most pairs are won by, the first of several, and each pair's score: above 0 the first of it wins.
    fn decide(&self, row: &[f64]) -> (usize, Vec<f64>) {
        let alike: Vec<f64> = self.vectors.iter().map(|vector| self.kernel.of(row, vector)).collect();
        let count = alike.len();
        let mut votes = vec![0usize; self.classes()];
        let mut scores = Vec::with_capacity(self.rho.len());
        for first in 0..self.classes() {
            for second in first + 1..self.classes() {
                let side = |class: usize, against: usize| {
                    let range = self.starts[class]..self.starts[class + 1];
                    let weights = &self.coefficients[against * count..(against + 1) * count];
                    let pairs = weights[range.clone()].iter().zip(&alike[range]);
                    pairs.map(|(weight, alike)| weight * alike).sum::<f64>()
                };
                // A class has no row against itself.
                let sum = side(first, second - 1) + side(second, first) + self.rho[scores.len()];
                votes[if sum > 0.0 { first } else { second }] += 1;
                scores.push(sum);
            }
        }
        (first_highest(&votes), scores)
    }

    /// Probabilities from the scores of the pairs.
    fn probabilities(&self, platt: &[(f32, f32)], scores: &[f64]) -> Vec<f32> {
        let classes = self.classes();
        let mut wins = vec![0.0; classes * classes];
        let mut pairs = scores.iter().zip(platt);
        for first in 0..classes {
            for (second, (score, (slope, offset))) in (first + 1..classes).zip(&mut pairs) {
                let won = 1.0 - logistic(score * f64::from(*slope) + f64::from(*offset));
                // In `f32`, as the iteration of `couple` ends when little changes there.
                let won = (won as f32).clamp(1e-7, 1.0 - 1e-7);
                wins[first * classes + second] = won;
                wins[second * classes + first] = 1.0 - won;
            }
        }
        couple(&wins, classes)
    }
}

/// The probabilities of classes, from those that one wins against another: `wins[i, j]` is that of `i` against `j`. The second method of Wu, Lin and Weng
/// (Probability estimates for multi-class classification by pairwise coupling, JMLR 2004), with LibSVM's bounds.
fn couple(wins: &[f32], classes: usize) -> Vec<f32> {
    const MOST_ROUNDS: usize = 100;
    let win = |i: usize, j: usize| wins[i * classes + j];
    let mut q = vec![0.0f32; classes * classes];
    for i in 0..classes {
        for j in (0..classes).filter(|&j| j != i) {
            q[i * classes + i] += win(j, i) * win(j, i);
            q[i * classes + j] = -win(j, i) * win(i, j);
        }
    }
    let mut p = vec![1.0 / classes as f32; classes];
    let enough = 0.005 / classes as f32;
    for _ in 0..MOST_ROUNDS {
        let mut qp: Vec<f32> =
            (0..classes).map(|i| (0..classes).map(|j| q[i * classes + j] * p[j]).sum()).collect();
        let mut pqp: f32 = p.iter().zip(&qp).map(|(p, qp)| p * qp).sum();
        if qp.iter().all(|qp| (qp - pqp).abs() < enough) {
            break;
        }
        for i in 0..classes {
            let own = q[i * classes + i];
            let step = (pqp - qp[i]) / own;
            p[i] += step;
            pqp = (pqp + step * (step * own + 2.0 * qp[i])) / (1.0 + step) / (1.0 + step);
            for j in 0..classes {
                qp[j] = (qp[j] + step * q[i * classes + j]) / (1.0 + step);
                p[j] /= 1.0 + step;
            }
        }
    }
    p
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coupling_gives_back_the_probabilities_that_the_pairs_are_of() {
        let p = [0.5f32, 0.3, 0.15, 0.05];
        let wins: Vec<f32> = p.iter().flat_map(|a| p.iter().map(move |b| a / (a + b))).collect();
        let coupled = couple(&wins, 4);
        assert!((coupled.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{coupled:?}");
        // The iteration ends when the gradient is small, not the error.
        for (got, want) in coupled.iter().zip(p) {
            assert!((got - want).abs() < 0.01, "{coupled:?}");
        }
    }
}
