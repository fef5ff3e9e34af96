//! Ends a text where a stop string begins, though it comes in pieces: a pure type.

/// What may be passed on of a text, up to the first of some stop strings.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    strings: Vec<String>,
    /// Text that may be the beginning of a stop string.
    held: String,
    stopped: bool,
}

impl Stop {
    /// None of the strings is empty.
    pub(crate) fn new(strings: Vec<String>) -> Self {
        Stop { strings, held: String::new(), stopped: false }
    }

    /// Takes a piece; gives what surely comes before any stop string. After the first one, nothing.
    pub(crate) fn push(&mut self, piece: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(piece);
        // The one that is complete first ends the text; of those complete at one place the longest, which begins first.
        let ends = self.strings.iter().filter_map(|stop| {
            let begin = self.held.find(stop.as_str())?;
            Some((begin + stop.len(), begin))
        });
        if let Some((_, begin)) = ends.min() {
            self.stopped = true;
            self.held.truncate(begin);
            return std::mem::take(&mut self.held);
        }
        let keep = self.strings.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }

    /// The text has ended by itself: what was held back is part of it.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Whether a stop string was there.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }
}

/// Bytes of the longest end of `text` that `stop` begins with.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    let begins = |len: &usize| stop.is_char_boundary(*len) && text.ends_with(&stop[..*len]);
    (1..=longest).rev().find(begins).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pushed(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let mut stop = Stop::new(stops.iter().map(ToString::to_string).collect());
        let mut given: Vec<String> = pieces.iter().map(|piece| stop.push(piece)).collect();
        let stopped = stop.is_stopped();
        given.push(stop.finish());
        (given, stopped)
    }

    #[test]
    fn a_stop_string_across_pieces_ends_the_text() {
        assert_eq!(
            pushed(&["END"], &["ab", "E", "N", "D", "x"]),
            (["ab", "", "", "", "", ""].map(str::to_owned).into(), true)
        );
        assert_eq!(pushed(&["END"], &["abE", "Nx"]), (["ab", "ENx", ""].map(str::to_owned).into(), false));
        assert_eq!(pushed(&["END"], &["abEN"]), (["ab", "EN"].map(str::to_owned).into(), false));
        assert_eq!(pushed(&["é"], &["a", "é"]), (["a", "", ""].map(str::to_owned).into(), true));
        assert_eq!(pushed(&[], &["a", "b"]), (["a", "b", ""].map(str::to_owned).into(), false));
    }

    #[test]
    fn what_is_complete_first_counts() {
        assert_eq!(pushed(&["cd", "abcde"], &["xabcde"]).0[0], "xab");
        assert_eq!(pushed(&["bc", "abc"], &["xabc"]).0[0], "x");
    }

    /// The text up to where a stop string is complete first, by trying every place.
    fn naive(stops: &[String], text: &str) -> (String, bool) {
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            let there = stops.iter().filter(|stop| text[..end].ends_with(stop.as_str()));
            if let Some(longest) = there.map(String::len).max() {
                return (text[..end - longest].to_owned(), true);
            }
        }
        (text.to_owned(), false)
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_a_text_is_cut(
            stops in prop::collection::vec("[abé]{1,4}", 0..3), pieces in prop::collection::vec("[abé]{0,3}", 0..12),
        ) {
            let mut stop = Stop::new(stops.clone());
            let mut given = String::new();
            for piece in &pieces {
                given.push_str(&stop.push(piece));
            }
            let stopped = stop.is_stopped();
            given.push_str(&stop.finish());
            prop_assert_eq!((given, stopped), naive(&stops, &pieces.concat()));
        }
    }
}
