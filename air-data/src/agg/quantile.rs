//! Exact quantiles. The engine's own rounds the weight of the two values it lies between to six digits.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, Expr, GroupsAccumulator, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

/// The quantile at `at` of values of `f64`.
pub(super) fn quantile(value: Expr, at: f64) -> Expr {
    let signature = Signature::exact(vec![DataType::Float64], Volatility::Immutable);
    AggregateUDF::new_from_impl(Quantile { at: at.to_bits(), signature }).call(vec![value])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Quantile {
    /// The bits of a float, which can be compared.
    at: u64,
    signature: Signature,
}

impl Quantile {
    fn of(&self) -> Values {
        Values { at: f64::from_bits(self.at), groups: Vec::new(), room: 0 }
    }
}

impl AggregateUDFImpl for Quantile {
    fn name(&self) -> &'static str {
        "air_quantile"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Values { groups: vec![Vec::new()], ..self.of() }))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(self.of()))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[values]", args.name), DataType::List(item()), true))])
    }
}

fn item() -> FieldRef {
    Arc::new(Field::new("item", DataType::Float64, true))
}

/// The values of each group so far; of the only one, where there are no groups.
#[derive(Debug)]
struct Values {
    at: f64,
    groups: Vec<Vec<f64>>,
    /// The values that there is room for in all groups.
    room: usize,
}

/// The quantile of some values, between the two nearest by how near each is; none of none.
fn of(values: &mut [f64], at: f64) -> Option<f64> {
    let place = at * values.len().checked_sub(1)? as f64;
    let (below, part) = (place.floor() as usize, place.fract());
    let (_, low, above) = values.select_nth_unstable_by(below, f64::total_cmp);
    let low = *low;
    if part == 0.0 {
        return Some(low);
    }
    let high = above.iter().copied().min_by(f64::total_cmp)?;
    Some(low + (high - low) * part)
}

impl Values {
    fn add(&mut self, columns: &[ArrayRef], group_of: impl Fn(usize) -> Option<usize>) -> Result<()> {
        let Some(values) = columns.first().and_then(|values| values.as_primitive_opt::<Float64Type>()) else {
            return internal_err!("one column of floats");
        };
        for (row, value) in values.iter().enumerate() {
            if let (Some(value), Some(group)) = (value, group_of(row)) {
                let values = &mut self.groups[group];
                let room = values.capacity();
                values.push(value);
                self.room += values.capacity() - room;
            }
        }
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], group_of: impl Fn(usize) -> usize) -> Result<()> {
        let Some(lists) = states.first().and_then(|lists| lists.as_list_opt::<i32>()) else {
            return internal_err!("one column of lists");
        };
        for row in (0..lists.len()).filter(|row| lists.is_valid(*row)) {
            let (more, values) = (lists.value(row), &mut self.groups[group_of(row)]);
            let room = values.capacity();
            values.extend_from_slice(more.as_primitive::<Float64Type>().values());
            self.room += values.capacity() - room;
        }
        Ok(())
    }

    fn take(&mut self, groups: EmitTo) -> Vec<Vec<f64>> {
        let taken = groups.take_needed(&mut self.groups);
        self.room -= taken.iter().map(Vec::capacity).sum::<usize>();
        taken
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.groups.capacity() * size_of::<Vec<f64>>() + self.room * size_of::<f64>()
    }
}

/// The values of groups, to be merged elsewhere.
fn lists(groups: &[Vec<f64>]) -> Result<ListArray> {
    let offsets = OffsetBuffer::from_lengths(groups.iter().map(Vec::len));
    let values: ArrayRef = Arc::new(Float64Array::from(groups.concat()));
    Ok(ListArray::try_new(item(), offsets, values, None)?)
}

impl Accumulator for Values {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        self.add(columns, |_| Some(0))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.merge(states, |_| 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::List(Arc::new(lists(&self.groups)?))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(of(&mut self.groups[0], self.at)))
    }

    fn size(&self) -> usize {
        self.bytes()
    }
}

impl GroupsAccumulator for Values {
    fn update_batch(
        &mut self,
        columns: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        count: usize,
    ) -> Result<()> {
        self.groups.resize(count, Vec::new());
        let chosen = |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        self.add(columns, |row| chosen(row).then_some(groups[row]))
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], count: usize) -> Result<()> {
        self.groups.resize(count, Vec::new());
        self.merge(states, |row| groups[row])
    }

    fn evaluate(&mut self, groups: EmitTo) -> Result<ArrayRef> {
        let at = self.at;
        let quantiles = self.take(groups).into_iter().map(|mut values| of(&mut values, at));
        Ok(Arc::new(quantiles.collect::<Float64Array>()))
    }

    fn state(&mut self, groups: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(lists(&self.take(groups))?)])
    }

    /// Each row as a group of its own.
    fn convert_to_state(&self, columns: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = columns.first().map_or(0, Array::len);
        let groups: Vec<usize> = (0..rows).collect();
        let mut each = Self { groups: Vec::new(), room: 0, at: self.at };
        GroupsAccumulator::update_batch(&mut each, columns, &groups, filter, rows)?;
        GroupsAccumulator::state(&mut each, EmitTo::All)
    }

    fn size(&self) -> usize {
        self.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn quantiles_of_few_values() {
        assert_eq!(of(&mut [], 0.5), None);
        assert_eq!(of(&mut [3.0], 0.9), Some(3.0));
        assert_eq!(of(&mut [4.0, 1.0, 2.0], 0.5), Some(2.0));
        assert_eq!(of(&mut [4.0, 1.0, 2.0], 1.0), Some(4.0));
        assert_eq!(of(&mut [10.0, 0.0, 0.0], 0.75), Some(5.0));
        // Of equals it is one of them, to the bit.
        assert_eq!(of(&mut [0.1, 0.1, 0.1, 0.1], 0.3), Some(0.1));
    }
}
