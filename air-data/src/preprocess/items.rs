//! Rust values transformed: what a server does with a request.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Fitted;
use crate::error::{DataError, Place, Result};
use crate::rows::{ITEM, Reader, Shape, Writer, infer};

impl Fitted {
    /// Rows as Rust values, transformed, as Rust values: what a server does with a request, without an engine. A struct has a field for each column; a column of vectors
    /// is a `Vec` of numbers. The columns are told by the type `In`, or by the rows where it does not tell them, as a map does not.
    ///
    /// ```
    /// # fn main() -> Result<(), air_data::DataError> {
    /// use air_data::preprocess::{Chain, Concatenator, Preprocessor, StandardScaler};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Petal {
    ///     #[serde(rename = "petal.length")]
    ///     length: f64,
    ///     #[serde(rename = "petal.width")]
    ///     width: f64,
    /// }
    ///
    /// # let iris = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/data/iris.csv");
    /// let petal = ["petal.length", "petal.width"];
    /// let fitted = Chain::new()
    ///     .then(StandardScaler::new(petal))
    ///     .then(Concatenator::new(petal))
    ///     .fit(&air_data::read_csv(iris)?.select(petal))?;
    /// let features: Vec<Vec<f32>> = fitted.transform_items(&[Petal { length: 1.4, width: 0.2 }])?;
    /// assert_eq!(features[0].len(), 2);
    /// assert!((features[0][0] + 1.340).abs() < 1e-3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`transform_batch`](Self::transform_batch); [`DataError::Row`] for values that are no rows, and for a result that is no `Out`.
    pub fn transform_items<In, Out>(&self, items: &[In]) -> Result<Vec<Out>>
    where
        In: Serialize + DeserializeOwned,
        Out: DeserializeOwned,
    {
        const OP: &str = "transform_items";
        let place = || Place { rows: 0..items.len() as u64, ..Place::default() };
        let mut shape = Shape::of::<In>();
        if shape == Shape::Dynamic {
            shape = infer(items)?;
        }
        let writer = Writer::new(&shape, ITEM).ok_or_else(|| DataError::SchemaUnknown {
            op: OP.to_owned(),
            reason: "the items do not tell them; use transform_batch".to_owned(),
        })?;
        let batch = writer.write(items).map_err(|source| DataError::Row {
            op: OP.to_owned(),
            type_name: std::any::type_name::<In>(),
            place: place(),
            source,
        })?;
        Reader::<Out>::new().read(&self.transform_batch(&batch)?).map_err(|bad| DataError::Row {
            op: OP.to_owned(),
            type_name: std::any::type_name::<Out>(),
            place: bad
                .row
                .map_or_else(place, |row| Place { rows: row as u64..row as u64 + 1, ..Place::default() }),
            source: bad.source,
        })
    }
}
