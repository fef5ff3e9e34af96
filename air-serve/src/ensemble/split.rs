//! Turns by weight. Pure.
//!
//! Smooth weighted round robin: at every turn each gains its weight, and who has most goes and pays the sum. So after any number of turns
//! each has had its share of them, to one.

pub(super) struct Turns {
    weights: Vec<f64>,
    gained: Vec<f64>,
}

impl Turns {
    pub(super) fn new(weights: Vec<f64>) -> Self {
        Turns { gained: vec![0.0; weights.len()], weights }
    }

    /// Whose turn it is.
    pub(super) fn next(&mut self) -> usize {
        let mut first = 0;
        for at in 0..self.weights.len() {
            self.gained[at] += self.weights[at];
            if self.gained[at] > self.gained[first] {
                first = at;
            }
        }
        if let Some(gained) = self.gained.get_mut(first) {
            *gained -= self.weights.iter().sum::<f64>();
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_share_and_turns_are_spread() {
        let mut turns = Turns::new(vec![3.0, 1.0, 1.0]);
        let taken: Vec<_> = (0..10).map(|_| turns.next()).collect();
        assert_eq!(taken, [0, 1, 0, 2, 0, 0, 1, 0, 2, 0]);
        let mut turns = Turns::new(vec![0.9, 0.1]);
        let taken = (0..1000).filter(|_| turns.next() == 1).count();
        assert!((99..=101).contains(&taken), "{taken}");
        assert_eq!(Turns::new(Vec::new()).next(), 0);
    }
}
