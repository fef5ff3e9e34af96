//! [`Ranges`]: a query in parts by ranges of an integer key.

use air_core::BoxError;

use crate::source::SourcePart;

/// Ranges of a key, of one length. The first is open below and has the rows without a key, the last is open above: together they have every row, whatever has
/// changed since the key was looked at.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ranges {
    pub(super) key: String,
    /// Where each range begins; the first where the key did.
    starts: Vec<i64>,
}

impl Ranges {
    /// About `parts` ranges of a key between two values, as far as it has any.
    pub(super) fn new(key: &str, bounds: Option<(i64, i64)>, parts: usize) -> Self {
        let (low, high) = bounds.map_or((0, 0), |(low, high)| (i128::from(low), i128::from(high)));
        let span = (high - low + 1).max(1);
        let parts = (parts.max(1) as i128).min(span);
        let starts = (0..parts).map(|part| (low + span * part / parts) as i64).collect();
        Self { key: key.to_owned(), starts }
    }

    /// What each part is called.
    pub(super) fn parts(&self) -> Vec<SourcePart> {
        let key = &self.key;
        let name = |part: usize| match self.starts.get(part + 1) {
            Some(until) => format!("{key} from {} to {}", self.starts[part], until - 1),
            None => format!("{key} from {}", self.starts[part]),
        };
        (0..self.starts.len()).map(|part| SourcePart::new(name(part))).collect()
    }

    /// The condition that a row is of a part, if there is one: `column` is the key in SQL, `literal` writes a number.
    pub(super) fn condition(
        &self,
        part: usize,
        column: &str,
        literal: impl Fn(i64) -> String,
    ) -> Result<Option<String>, BoxError> {
        let from = *self.starts.get(part).ok_or_else(|| format!("there are {} parts", self.starts.len()))?;
        let until = self.starts.get(part + 1).map(|until| format!("{column} < {}", literal(*until)));
        Ok(match (part, until) {
            (0, until) => until.map(|until| format!("{until} OR {column} IS NULL")),
            (_, Some(until)) => Some(format!("{column} >= {} AND {until}", literal(from))),
            (_, None) => Some(format!("{column} >= {}", literal(from))),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn conditions(ranges: &Ranges) -> Vec<Option<String>> {
        (0..ranges.starts.len())
            .map(|part| ranges.condition(part, "k", |value| value.to_string()).unwrap())
            .collect()
    }

    #[test]
    fn ranges_of_one_length_with_open_ends() {
        let ranges = Ranges::new("k", Some((0, 9)), 3);
        let told: Vec<String> = conditions(&ranges).into_iter().flatten().collect();
        assert_eq!(told, ["k < 3 OR k IS NULL", "k >= 3 AND k < 6", "k >= 6"]);
        let names: Vec<String> = ranges.parts().into_iter().map(|part| part.name).collect();
        assert_eq!(names, ["k from 0 to 2", "k from 3 to 5", "k from 6"]);
        let beyond = ranges.condition(3, "k", |value| value.to_string()).unwrap_err();
        assert_eq!(beyond.to_string(), "there are 3 parts");
        for bounds in [None, Some((5, 5))] {
            assert_eq!(conditions(&Ranges::new("k", bounds, 8)), [None], "one value is one part");
        }
    }

    proptest! {
        #[test]
        fn every_key_is_in_one_range(a: i64, b: i64, parts in 1_usize..50, keys: Vec<i64>) {
            let (low, high) = (a.min(b), a.max(b));
            let ranges = Ranges::new("k", Some((low, high)), parts);
            prop_assert!(ranges.starts.len() <= parts);
            prop_assert!(ranges.starts.is_sorted_by(|a, b| a < b));
            for key in keys.into_iter().chain([low, high, i64::MIN, i64::MAX]) {
                // The part whose condition holds, in the words of the condition.
                let holds = |part: usize| {
                    let from = part == 0 || key >= ranges.starts[part];
                    from && ranges.starts.get(part + 1).is_none_or(|until| key < *until)
                };
                prop_assert_eq!((0..ranges.starts.len()).filter(|part| holds(*part)).count(), 1);
            }
        }
    }
}
