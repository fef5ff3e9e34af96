//! Columns that lie in the paths of files, not in the files: `year=2024/month=3/part.parquet`.

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::scalar::ScalarValue;
use percent_encoding::percent_decode_str;
use std::sync::Arc;

/// How a null is spelt as a directory.
pub(crate) const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The columns of directories: their fields, and each file's values.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Keys {
    pub(super) fields: Vec<FieldRef>,
    pub(super) values: Vec<Vec<ScalarValue>>,
}

/// The columns that the directories of files make; those called as `taken` says are left out.
pub(super) fn keys<'a>(
    files: impl Iterator<Item = &'a [String]> + Clone,
    taken: impl Fn(&str) -> bool,
) -> Keys {
    let pairs = |directories: &'a [String]| directories.iter().filter_map(|directory| pair(directory));
    let mut names: Vec<String> = Vec::new();
    for (name, _) in files.clone().flat_map(pairs) {
        if !names.contains(&name) && !taken(&name) {
            names.push(name);
        }
    }
    let mut found = Keys { fields: Vec::new(), values: files.clone().map(|_| Vec::new()).collect() };
    for name in names {
        let values: Vec<Option<String>> = files
            .clone()
            .map(|directories| {
                let value =
                    pairs(directories).filter(|(key, _)| *key == name).map(|(_, value)| value).next_back();
                value.filter(|value| value != NULL)
            })
            .collect();
        let whole: Option<Vec<Option<i64>>> = values
            .iter()
            .map(|value| value.as_ref().map(|text| text.parse().ok()).map_or(Some(None), |n| n.map(Some)))
            .collect();
        let (kind, values): (DataType, Vec<ScalarValue>) = match whole {
            Some(whole) => (DataType::Int64, whole.into_iter().map(ScalarValue::Int64).collect()),
            None => (DataType::Utf8, values.into_iter().map(ScalarValue::Utf8).collect()),
        };
        found.fields.push(Arc::new(Field::new(name, kind, true)));
        found.values.iter_mut().zip(values).for_each(|(file, value)| file.push(value));
    }
    found
}

/// The key and the value of a directory that has them.
fn pair(directory: &str) -> Option<(String, String)> {
    let (key, value) = directory.split_once('=')?;
    let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    (!key.is_empty()).then(|| (plain(key), plain(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_numbers_and_the_rest_is_text() {
        let files = [
            vec!["year=2024".to_owned(), "name=a b".to_owned()],
            vec!["year=2025".to_owned(), format!("name={NULL}")],
            vec!["year=-1".to_owned(), "plain".to_owned(), "name=x%2Fy".to_owned()],
        ];
        let found = keys(files.iter().map(Vec::as_slice), |_| false);
        let fields: Vec<(&str, &DataType)> =
            found.fields.iter().map(|field| (field.name().as_str(), field.data_type())).collect();
        assert_eq!(fields, [("year", &DataType::Int64), ("name", &DataType::Utf8)]);
        let text = |text: &str| ScalarValue::Utf8(Some(text.to_owned()));
        assert_eq!(found.values[0], [ScalarValue::Int64(Some(2024)), text("a b")]);
        assert_eq!(found.values[1][1], ScalarValue::Utf8(None));
        assert_eq!(found.values[2], [ScalarValue::Int64(Some(-1)), text("x/y")]);
        let found = keys(files.iter().map(Vec::as_slice), |name| name == "year");
        assert_eq!(found.fields.len(), 1);
        let mixed = [vec!["k=1".to_owned()], vec!["k=one".to_owned()]];
        let found = keys(mixed.iter().map(Vec::as_slice), |_| false);
        assert_eq!(found.values, [[text("1")], [text("one")]]);
    }
}
