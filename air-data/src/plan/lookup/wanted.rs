//! What keys a row must have to find a partner, told to whoever reads the rows.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, PrimitiveArray, downcast_integer_array};
use arrow::compute::{max, min};
use arrow::datatypes::{ArrowNumericType, SchemaRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{binary, in_list, lit};

/// So many keys are told one by one, and of more only the least and the greatest.
const FEW: usize = 128;

/// A filter of rows with the key `key` that lets none pass by that has a partner.
pub(super) fn wanted(
    held: &ArrayRef,
    key: &Arc<dyn PhysicalExpr>,
    schema: &SchemaRef,
) -> Result<Arc<dyn PhysicalExpr>> {
    match keys(held)? {
        Some(Wanted::These(keys)) => {
            in_list(key.clone(), keys.into_iter().map(lit).collect(), &false, schema)
        }
        Some(Wanted::Between(least, most)) => {
            let from = binary(key.clone(), Operator::GtEq, lit(least), schema)?;
            binary(from, Operator::And, binary(key.clone(), Operator::LtEq, lit(most), schema)?, schema)
        }
        None => Ok(lit(false)),
    }
}

enum Wanted {
    These(Vec<ScalarValue>),
    Between(ScalarValue, ScalarValue),
}

/// `None` where there is no key.
fn keys(held: &ArrayRef) -> Result<Option<Wanted>> {
    downcast_integer_array! {
        held => told(held),
        kind => datafusion::common::internal_err!("keys of the type {kind} are no numbers"),
    }
}

fn told<T: ArrowNumericType>(held: &PrimitiveArray<T>) -> Result<Option<Wanted>>
where
    T::Native: Eq + std::hash::Hash,
{
    let (Some(least), Some(most)) = (min(held), max(held)) else { return Ok(None) };
    let value = |key| ScalarValue::new_primitive::<T>(Some(key), held.data_type());
    let mut few = HashSet::new();
    for key in held.iter().flatten() {
        few.insert(key);
        if few.len() > FEW {
            return Ok(Some(Wanted::Between(value(least)?, value(most)?)));
        }
    }
    Ok(Some(Wanted::These(few.into_iter().map(value).collect::<Result<_>>()?)))
}
