//! [`Turns`]: parts that are written at once into one place, in their order.

use std::collections::BTreeMap;

/// Who may write into the one place that all parts go to. The part whose turn it is takes the place and writes as its rows come; the others keep their rows
/// aside, and each is put in once all before it are. Nobody waits for anybody.
#[derive(Debug)]
pub(super) struct Turns<P, K> {
    /// The part whose turn it is.
    next: usize,
    /// The place, while nobody has it.
    place: Option<P>,
    /// What parts kept that ended before their turn.
    kept: BTreeMap<usize, K>,
}

impl<P, K> Turns<P, K> {
    pub(super) fn new(place: P) -> Self {
        Self { next: 0, place: Some(place), kept: BTreeMap::new() }
    }

    /// The place, if it is this part's turn and it has not got it yet.
    pub(super) fn take(&mut self, part: usize) -> Option<P> {
        if part == self.next { self.place.take() } else { None }
    }

    /// A part without the place has ended, and kept these rows: if it is its turn now, they go into the place, which is then [passed on](Self::pass).
    pub(super) fn end(&mut self, part: usize, kept: K) -> Option<(P, K)> {
        if let Some(place) = self.take(part) {
            return Some((place, kept));
        }
        self.kept.insert(part, kept);
        None
    }

    /// All rows of the part whose turn it was are in the place. Those that come next, if they are kept, go into it, and it is passed on again.
    pub(super) fn pass(&mut self, place: P) -> Option<(P, K)> {
        self.next += 1;
        if let Some(kept) = self.kept.remove(&self.next) {
            return Some((place, kept));
        }
        self.place = Some(place);
        None
    }

    /// The place for what comes after all parts, and what is kept of those behind one that never came.
    pub(super) fn close(&mut self) -> Option<(P, Vec<K>)> {
        let place = self.place.take()?;
        Some((place, std::mem::take(&mut self.kept).into_values().collect()))
    }

    /// The place is given back by a part that failed.
    pub(super) fn give_back(&mut self, place: P) {
        self.place = Some(place);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A part's number and a row's in it.
    type Rows = Vec<(usize, usize)>;

    /// The rows in a place, and those of each part: all at once, each step that of the part that is drawn.
    fn written(parts: &[usize], draws: Vec<prop::sample::Index>) -> Rows {
        struct Part {
            number: usize,
            row: usize,
            rows: usize,
            place: Option<Rows>,
            kept: Rows,
        }
        let mut turns: Turns<Rows, Rows> = Turns::new(Rows::new());
        let new = |(number, rows): (usize, &usize)| Part {
            number,
            row: 0,
            rows: *rows,
            place: None,
            kept: Vec::new(),
        };
        let mut open: Vec<Part> = parts.iter().enumerate().map(new).collect();
        let mut draws = draws.into_iter().cycle();
        while !open.is_empty() {
            let index = draws.next().map_or(0, |draw| draw.index(open.len()));
            let part = &mut open[index];
            if let Some(mut place) = turns.take(part.number) {
                place.append(&mut part.kept);
                part.place = Some(place);
            }
            if part.row < part.rows {
                let row = (part.number, part.row);
                part.place.as_mut().unwrap_or(&mut part.kept).push(row);
                part.row += 1;
                continue;
            }
            let part = open.remove(index);
            let mut passed = match part.place {
                Some(place) => turns.pass(place),
                None => turns.end(part.number, part.kept),
            };
            while let Some((mut place, kept)) = passed {
                place.extend(kept);
                passed = turns.pass(place);
            }
        }
        turns.close().map(|(place, kept)| [place, kept.concat()].concat()).unwrap_or_default()
    }

    proptest! {
        #[test]
        fn rows_are_in_the_order_of_the_parts_however_these_take_turns(
            parts in proptest::collection::vec(0_usize..5, 0..6),
            draws in proptest::collection::vec(any::<prop::sample::Index>(), 1..64),
        ) {
            let wanted: Rows =
                parts.iter().enumerate().flat_map(|(part, rows)| (0..*rows).map(move |row| (part, row))).collect();
            prop_assert_eq!(written(&parts, draws), wanted);
        }
    }

    #[test]
    fn parts_behind_one_that_never_came_are_in_order() {
        let mut turns: Turns<&str, usize> = Turns::new("place");
        assert_eq!(turns.end(3, 33), None);
        assert_eq!(turns.end(1, 11), None);
        assert_eq!(turns.close(), Some(("place", vec![11, 33])));
        assert_eq!(turns.close(), None);
    }
}
