//! The mean of values of different weight.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature, Volatility};
use datafusion::scalar::ScalarValue;

pub(super) fn mean(value: Expr, weight: Expr) -> Expr {
    let signature = Signature::exact(vec![DataType::Float64; 2], Volatility::Immutable);
    AggregateUDF::new_from_impl(WeightedMean { signature }).call(vec![value, weight])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct WeightedMean {
    signature: Signature,
}

impl AggregateUDFImpl for WeightedMean {
    fn name(&self) -> &'static str {
        "air_weighted_mean"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::<Sums>::default())
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let sum =
            |name: &str| Arc::new(Field::new(format!("{}[{name}]", args.name), DataType::Float64, false));
        Ok(vec![sum("values"), sum("weights")])
    }
}

/// The sums of weighted values and of weights so far.
#[derive(Debug, Default)]
struct Sums {
    values: f64,
    weights: f64,
}

/// The two columns row by row, where both have a number.
fn pairs(columns: &[ArrayRef]) -> Result<impl Iterator<Item = (f64, f64)> + '_> {
    let [a, b] = columns else { return internal_err!("a value and a weight") };
    let (Some(a), Some(b)) = (a.as_primitive_opt::<Float64Type>(), b.as_primitive_opt::<Float64Type>())
    else {
        return internal_err!("values and weights that are floats");
    };
    Ok(a.iter().zip(b).filter_map(|(a, b)| Some((a?, b?))))
}

impl Accumulator for Sums {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        for (value, weight) in pairs(columns)? {
            self.values += value * weight;
            self.weights += weight;
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for (values, weights) in pairs(states)? {
            self.values += values;
            self.weights += weights;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.values.into(), self.weights.into()])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64((self.weights != 0.0).then(|| self.values / self.weights)))
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }
}
