//! Counting values: all of them, only which there are, or the most frequent ones in bounded memory.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type};
use arrow::row::{RowConverter, RowParser, SortField};
use datafusion::common::{Result, exec_err, internal_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature, Volatility};
use datafusion::scalar::ScalarValue;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Counting {
    /// Which values there are.
    Values,
    /// How often each occurs.
    All,
    /// How often the most frequent ones occur.
    Top(usize),
}

impl Counting {
    pub(super) fn of(self, value: Expr) -> Expr {
        AggregateUDF::new_from_impl(Counter {
            counting: self,
            signature: Signature::any(1, Volatility::Immutable),
        })
        .call(vec![value])
    }

    /// For how many values there is room.
    fn room(self) -> Option<usize> {
        match self {
            Self::Top(k) => Some(k.saturating_mul(16).max(1024)),
            Self::Values | Self::All => None,
        }
    }

    fn result(self, value: &DataType) -> FieldRef {
        let element = match self {
            Self::Values => value.clone(),
            Self::All | Self::Top(_) => DataType::Struct(counted(value)),
        };
        Arc::new(Field::new("item", element, true))
    }
}

fn counted(value: &DataType) -> Fields {
    Fields::from(vec![Field::new("value", value.clone(), true), Field::new("count", DataType::Int64, false)])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Counter {
    counting: Counting,
    signature: Signature,
}

impl AggregateUDFImpl for Counter {
    fn name(&self) -> &'static str {
        match self.counting {
            Counting::Values => "air_unique",
            Counting::All => "air_value_counts",
            Counting::Top(_) => "air_approx_top_k",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [value] = types else { return exec_err!("{} takes one value", self.name()) };
        Ok(DataType::List(self.counting.result(value)))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let Some(field) = args.expr_fields.first() else { return internal_err!("one value") };
        Ok(Box::new(Counts::new(self.counting, field.data_type().clone())?))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let Some(field) = args.input_fields.first() else { return internal_err!("one value") };
        let list = |name: &str, element: DataType| {
            let item = Arc::new(Field::new("item", element, true));
            Arc::new(Field::new(format!("{}[{name}]", args.name), DataType::List(item), true))
        };
        Ok(vec![list("values", field.data_type().clone()), list("counts", DataType::Int64)])
    }
}

/// The values so far, in arrow's row format, whose bytes sort as the values do.
#[derive(Debug)]
struct Counts {
    counting: Counting,
    value: DataType,
    converter: RowConverter,
    parser: RowParser,
    seen: HashMap<Box<[u8]>, i64>,
    bytes: usize,
}

impl Counts {
    fn new(counting: Counting, value: DataType) -> Result<Self> {
        let converter = RowConverter::new(vec![SortField::new(value.clone())])?;
        let parser = converter.parser();
        Ok(Self { counting, value, converter, parser, seen: HashMap::new(), bytes: 0 })
    }

    fn add(&mut self, values: &ArrayRef, counts: Option<&Int64Array>) -> Result<()> {
        let rows = self.converter.convert_columns(std::slice::from_ref(values))?;
        for (index, row) in rows.iter().enumerate().filter(|(index, _)| values.is_valid(*index)) {
            let count = counts.map_or(1, |counts| counts.value(index));
            if let Some(sum) = self.seen.get_mut(row.as_ref()) {
                *sum += count;
                continue;
            }
            self.bytes += row.as_ref().len();
            self.seen.insert(row.as_ref().into(), count);
            if let Some(room) = self.counting.room()
                && self.seen.len() >= 2 * room
            {
                self.shrink(room);
            }
        }
        Ok(())
    }

    /// Takes from every count what the most frequent of those that have no room have, which leaves nothing of these.
    fn shrink(&mut self, room: usize) {
        let mut counts: Vec<i64> = self.seen.values().copied().collect();
        let (_, over, _) = counts.select_nth_unstable_by(room, |a, b| b.cmp(a));
        let over = *over;
        self.seen.retain(|_, count| {
            *count -= over;
            *count > 0
        });
        self.bytes = self.seen.keys().map(|key| key.len()).sum();
    }

    fn arrays<'a>(&self, entries: impl Iterator<Item = (&'a [u8], i64)>) -> Result<(ArrayRef, ArrayRef)> {
        let (keys, counts): (Vec<&[u8]>, Vec<i64>) = entries.unzip();
        let mut values = self.converter.convert_rows(keys.into_iter().map(|key| self.parser.parse(key)))?;
        let Some(values) = values.pop() else { return internal_err!("one column") };
        Ok((values, Arc::new(Int64Array::from(counts))))
    }
}

/// One list of all elements.
fn list(element: FieldRef, elements: ArrayRef) -> ScalarValue {
    let offsets = OffsetBuffer::from_lengths([elements.len()]);
    ScalarValue::List(Arc::new(ListArray::new(element, offsets, elements, None)))
}

impl Accumulator for Counts {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [values] = values else { return internal_err!("one value") };
        self.add(values, None)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [values, counts] = states else { return internal_err!("values and counts") };
        let (values, counts) = (values.as_list::<i32>(), counts.as_list::<i32>());
        for index in (0..values.len()).filter(|index| values.is_valid(*index)) {
            self.add(&values.value(index), Some(counts.value(index).as_primitive::<Int64Type>()))?;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let (values, counts) = self.arrays(self.seen.iter().map(|(key, count)| (&key[..], *count)))?;
        let item = |element| Arc::new(Field::new("item", element, true));
        Ok(vec![list(item(self.value.clone()), values), list(item(DataType::Int64), counts)])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut entries: Vec<(&[u8], i64)> =
            self.seen.iter().map(|(key, count)| (&key[..], *count)).collect();
        match self.counting {
            Counting::Values => entries.sort_unstable(),
            Counting::All | Counting::Top(_) => {
                entries.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
            }
        }
        if let Counting::Top(k) = self.counting {
            entries.truncate(k);
        }
        let (values, counts) = self.arrays(entries.into_iter())?;
        let elements: ArrayRef = match self.counting {
            Counting::Values => values,
            Counting::All | Counting::Top(_) => {
                Arc::new(StructArray::new(counted(&self.value), vec![values, counts], None))
            }
        };
        Ok(list(self.counting.result(&self.value), elements))
    }

    fn size(&self) -> usize {
        let entry = size_of::<(Box<[u8]>, i64)>() + 8;
        size_of::<Self>() + self.bytes + self.seen.capacity() * entry + self.converter.size()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn top(counts: &mut Counts) -> Vec<(i64, i64)> {
        let ScalarValue::List(list) = counts.evaluate().unwrap() else { panic!("no list") };
        let entries = list.value(0);
        let entries = entries.as_struct();
        let values = entries.column(0).as_primitive::<Int64Type>().values().to_vec();
        let counts = entries.column(1).as_primitive::<Int64Type>().values().to_vec();
        values.into_iter().zip(counts).collect()
    }

    #[test]
    fn frequent_values_are_found_in_little_memory() {
        // 0 has a third of the rows, 1 a ninth, and so on; every other row is a value of its own.
        let value = |row: i64| match (1..20).find(|power| row % 3_i64.pow(*power) != 0) {
            Some(1) if row % 3 == 1 => 0,
            Some(2) if row % 9 == 3 => 1,
            _ => 1_000_000 + row,
        };
        let mut parts: Vec<Counts> =
            (0..4).map(|_| Counts::new(Counting::Top(2), DataType::Int64).unwrap()).collect();
        let rows = 90_000;
        for (index, part) in parts.iter_mut().enumerate() {
            let values: ArrayRef =
                Arc::new(Int64Array::from_iter_values((0..rows).skip(index).step_by(4).map(value)));
            part.update_batch(&[values]).unwrap();
            assert!(part.seen.len() < 2048, "{}", part.seen.len());
        }
        let mut all = Counts::new(Counting::Top(2), DataType::Int64).unwrap();
        for part in &mut parts {
            let state: Vec<ArrayRef> =
                part.state().unwrap().iter().map(|value| value.to_array().unwrap()).collect();
            all.merge_batch(&state).unwrap();
        }
        let found = top(&mut all);
        assert_eq!([found[0].0, found[1].0], [0, 1]);
        let (first, second) = (rows / 3, rows / 9);
        let less = rows / 1025 + 1;
        assert!((first - less..=first).contains(&found[0].1), "{found:?}");
        assert!((second - less..=second).contains(&found[1].1), "{found:?}");
    }

    #[test]
    fn equals_come_in_order() {
        let mut counts = Counts::new(Counting::All, DataType::Int64).unwrap();
        let values: ArrayRef =
            Arc::new(Int64Array::from(vec![Some(3), None, Some(-1), Some(7), Some(3), Some(-1)]));
        counts.update_batch(&[values]).unwrap();
        assert_eq!(top(&mut counts), [(-1, 2), (3, 2), (7, 1)]);
    }
}
