//! The name that was meant.

use strsim::levenshtein;

/// The name of `known` with the fewest edits from `name`, if a third of the letters or fewer differ.
pub(crate) fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    known
        .iter()
        .map(|candidate| (levenshtein(&wanted, &candidate.to_lowercase()), candidate.as_str()))
        .filter(|(distance, candidate)| {
            let letters = candidate.chars().count();
            *distance < letters && *distance * 3 <= letters.max(3)
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_suggested_and_a_far_one_is_not() {
        let known = vec!["sepal.length".to_owned(), "variety".to_owned()];
        assert_eq!(nearest("sepal_length", &known), Some("sepal.length"));
        assert_eq!(nearest("Variety", &known), Some("variety"));
        assert_eq!(nearest("color", &known), None);
    }
}
