//! How many different values there are, exactly while they are few, in bounded memory.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{HashSet, Result, exec_err, internal_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature, Volatility};
use datafusion::scalar::ScalarValue;

/// More different values than these are not few.
const FEW: usize = 4096;
/// Nor are those that take more than these bytes.
const FEW_BYTES: usize = 1 << 20;

/// The number of different values, nulls left out; null where they are not few.
pub(super) fn few_distinct(value: Expr) -> Expr {
    AggregateUDF::new_from_impl(Few { signature: Signature::any(1, Volatility::Immutable) }).call(vec![value])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Few {
    signature: Signature,
}

impl AggregateUDFImpl for Few {
    fn name(&self) -> &'static str {
        "air_few_distinct"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [_] = types else { return exec_err!("{} takes one value", self.name()) };
        Ok(DataType::UInt64)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let Some(field) = args.expr_fields.first() else { return internal_err!("one value") };
        Ok(Box::new(Seen::new(field.data_type())?))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let kind = DataType::List(Arc::new(element()));
        Ok(vec![Arc::new(Field::new(format!("{}[seen]", args.name), kind, true))])
    }
}

fn element() -> Field {
    Field::new("item", DataType::Binary, true)
}

/// The values so far, in arrow's row format, in which equal values have equal bytes.
#[derive(Debug)]
struct Seen {
    converter: RowConverter,
    /// None once they are not few.
    values: Option<HashSet<Box<[u8]>>>,
    bytes: usize,
}

impl Seen {
    fn new(value: &DataType) -> Result<Self> {
        let converter = RowConverter::new(vec![SortField::new(value.clone())])?;
        Ok(Self { converter, values: Some(HashSet::default()), bytes: 0 })
    }

    fn add(&mut self, value: &[u8]) {
        let Some(values) = &mut self.values else { return };
        if values.contains(value) {
            return;
        }
        self.bytes += value.len();
        if values.len() == FEW || self.bytes > FEW_BYTES {
            (self.values, self.bytes) = (None, 0);
        } else {
            values.insert(value.into());
        }
    }
}

impl Accumulator for Seen {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [values] = values else { return internal_err!("one value") };
        if self.values.is_none() {
            return Ok(());
        }
        let rows = self.converter.convert_columns(std::slice::from_ref(values))?;
        let mut before = None;
        for (_, row) in rows.iter().enumerate().filter(|(index, _)| values.is_valid(*index)) {
            // Equal values are often neighbours.
            if before != Some(row) {
                self.add(row.as_ref());
            }
            before = Some(row);
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [lists] = states else { return internal_err!("one list") };
        let lists = lists.as_list::<i32>();
        for index in 0..lists.len() {
            if lists.is_null(index) {
                (self.values, self.bytes) = (None, 0);
            } else {
                lists.value(index).as_binary::<i32>().iter().flatten().for_each(|value| self.add(value));
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let list = match &self.values {
            Some(values) => {
                let values = BinaryArray::from_iter_values(values);
                let offsets = OffsetBuffer::from_lengths([values.len()]);
                ListArray::new(Arc::new(element()), offsets, Arc::new(values), None)
            }
            None => ListArray::new_null(Arc::new(element()), 1),
        };
        Ok(vec![ScalarValue::List(Arc::new(list))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::UInt64(self.values.as_ref().map(|values| values.len() as u64)))
    }

    fn size(&self) -> usize {
        let entries = self.values.as_ref().map_or(0, HashSet::capacity);
        size_of::<Self>() + self.bytes + entries * size_of::<Box<[u8]>>() + self.converter.size()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::array::{Int64Array, StringArray};

    use super::*;

    fn of(parts: &[ArrayRef]) -> ScalarValue {
        let mut all = Seen::new(parts[0].data_type()).unwrap();
        for part in parts {
            let mut seen = Seen::new(part.data_type()).unwrap();
            seen.update_batch(std::slice::from_ref(part)).unwrap();
            let state: Vec<ArrayRef> =
                seen.state().unwrap().iter().map(|value| value.to_array().unwrap()).collect();
            all.merge_batch(&state).unwrap();
        }
        all.evaluate().unwrap()
    }

    #[test]
    fn few_values_are_counted_over_parts_and_many_are_not() {
        let numbers = |from: i64, to: i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(from..to)) };
        let few = FEW as i64;
        assert_eq!(of(&[numbers(0, few)]), ScalarValue::UInt64(Some(FEW as u64)));
        assert_eq!(of(&[numbers(0, few), numbers(10, few)]), ScalarValue::UInt64(Some(FEW as u64)));
        assert_eq!(of(&[numbers(0, few), numbers(few, few + 1)]), ScalarValue::UInt64(None));
        assert_eq!(of(&[numbers(0, few + 1), numbers(0, 1)]), ScalarValue::UInt64(None));
        let nulls: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(1), None, Some(1), Some(2)]));
        assert_eq!(of(&[nulls]), ScalarValue::UInt64(Some(2)));
    }

    #[test]
    fn long_values_take_no_more_than_their_bytes() {
        let long = |count: usize| -> ArrayRef {
            Arc::new(StringArray::from_iter_values((0..count).map(|n| format!("{n:0>60000}"))))
        };
        assert_eq!(of(&[long(15)]), ScalarValue::UInt64(Some(15)));
        assert_eq!(of(&[long(20)]), ScalarValue::UInt64(None));
        let mut seen = Seen::new(&DataType::Utf8).unwrap();
        seen.update_batch(&[long(20)]).unwrap();
        assert_eq!(seen.bytes, 0);
    }
}
