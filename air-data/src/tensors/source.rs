//! [`TensorBatches`]: a dataset as a [`BatchSource`] of tensors, for a training loop that knows nothing of datasets.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use air_core::BoxError;
use air_core::data::{Batch, BatchSource};
use air_core::device::Device;
use air_core::seed::Seed;
use air_core::tensor::Tensor;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Float32Type, Int64Type, SchemaRef};

use super::column::read;
use super::placed::Placed;
use crate::dataset::{BatchOptions, Batches, Dataset, LocalShuffle};
use crate::error::{DataError, Result};
use crate::split::DataShard;

/// What the tensors of a batch are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Rows in a batch.
    pub rows: usize,
    /// The columns of the tensor `x`, in order; when empty, every column of numbers but the label. One column of tensors may stand alone.
    pub features: Vec<String>,
    /// The column of the tensor `y`, if there is one.
    pub label: Option<String>,
    /// The label's classes: `y` then holds each label's place in this list. Needed for labels that are text.
    pub classes: Vec<String>,
    /// Leave out the last batch when it has fewer rows.
    pub drop_last: bool,
    /// Shuffle with this seed, anew in each epoch, within windows of [`shuffle_rows`](Self::shuffle_rows).
    pub shuffle: Option<u64>,
    /// Rows that are held and mixed at once when shuffling.
    pub shuffle_rows: usize,
    /// Where the tensors lie. On a GPU each batch is sent, through page-locked memory, while the one before it is in use.
    pub device: Device,
}

impl TensorSpec {
    /// Batches of `rows` rows, all columns of numbers as features, in the dataset's order.
    pub fn new(rows: usize) -> Self {
        Self {
            rows,
            features: Vec::new(),
            label: None,
            classes: Vec::new(),
            drop_last: false,
            shuffle: None,
            shuffle_rows: 65_536,
            device: Device::Cpu,
        }
    }

    /// Sets [`features`](Self::features).
    pub fn features<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.features = columns.into_iter().map(Into::into).collect();
        self
    }

    /// Sets [`label`](Self::label).
    pub fn label(mut self, column: impl Into<String>) -> Self {
        self.label = Some(column.into());
        self
    }

    /// Sets [`classes`](Self::classes).
    pub fn classes<C: Into<String>>(mut self, classes: impl IntoIterator<Item = C>) -> Self {
        self.classes = classes.into_iter().map(Into::into).collect();
        self
    }

    /// Sets [`drop_last`](Self::drop_last).
    pub fn drop_last(mut self) -> Self {
        self.drop_last = true;
        self
    }

    /// Sets [`shuffle`](Self::shuffle).
    pub fn shuffle(mut self, seed: u64) -> Self {
        self.shuffle = Some(seed);
        self
    }

    /// Sets [`device`](Self::device).
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// The features' places in `schema`.
    fn columns(&self, schema: &SchemaRef) -> Result<Vec<usize>> {
        if self.features.is_empty() {
            let fields = schema.fields().iter().enumerate();
            let numbers = fields.filter(|(_, field)| {
                field.data_type().is_numeric() && Some(field.name()) != self.label.as_ref()
            });
            return Ok(numbers.map(|(index, _)| index).collect());
        }
        self.features.iter().map(|name| place(schema, name)).collect()
    }

    fn validate(&self) -> Result<()> {
        let check = |ok: bool, field, reason: &str| {
            if ok { Ok(()) } else { Err(DataError::Config { field, reason: reason.to_owned() }) }
        };
        check(self.rows > 0, "rows", "a batch has at least one row")?;
        check(self.shuffle_rows > 0, "shuffle_rows", "at least 1")?;
        check(self.classes.is_empty() || self.label.is_some(), "classes", "there is no label to have classes")
    }
}

fn place(schema: &SchemaRef, name: &str) -> Result<usize> {
    let found = schema.column_with_name(name).map(|(index, _)| index);
    found.ok_or_else(|| {
        DataError::unknown_column(name, schema.fields().iter().map(|f| f.name().clone()).collect())
    })
}

impl Dataset {
    /// The dataset as batches of tensors: `x` of shape `[rows, features]` in `f32` (of a column of tensors, `[rows, ...]`), and, where the spec names a label, `y` of
    /// shape `[rows]`: `f32` for a label of floating-point numbers, else `u32`, the class. Each epoch runs the dataset anew; put a
    /// [`Dataset::materialize`] below it where that costs more than the memory.
    ///
    /// # Errors
    /// [`DataError::Config`] for a spec out of range, [`DataError::UnknownColumn`] for a column that does not exist, [`DataError::Device`] for
    /// a device that is not there; the first mistake made in describing the dataset.
    pub fn batch_source(&self, spec: TensorSpec) -> Result<TensorBatches> {
        let schema = self.schema()?;
        spec.validate()?;
        // Nothing else is read.
        let features = spec.columns(&schema)?;
        let label = spec.label.as_ref().map(|name| place(&schema, name)).transpose()?;
        let needed: BTreeSet<usize> = features.iter().copied().chain(label).collect();
        let needed = self.narrowed(needed.into_iter().map(|index| schema.field(index).name().as_str()));
        let spec = spec.features(features.into_iter().map(|index| schema.field(index).name()));
        let schema = needed.schema()?;
        TensorBatches::over(Origin::Dataset(needed), &schema, spec)
    }
}

impl DataShard {
    /// The shard as batches of tensors, as [`Dataset::batch_source`] has it; each epoch is the rank's next.
    ///
    /// # Errors
    /// As [`Dataset::batch_source`].
    pub fn batch_source(self, spec: TensorSpec) -> Result<TensorBatches> {
        let schema = self.schema()?;
        TensorBatches::over(Origin::Shard(self), &schema, spec)
    }
}

/// Where the rows come from.
#[derive(Debug)]
enum Origin {
    Dataset(Dataset),
    Shard(DataShard),
}

/// A dataset's batches as tensors, epoch after epoch.
#[derive(Debug)]
pub struct TensorBatches {
    origin: Origin,
    spec: TensorSpec,
    maker: Maker,
    epoch: u64,
    running: Option<Batches>,
    placed: Option<Placed>,
}

impl TensorBatches {
    fn over(origin: Origin, schema: &SchemaRef, spec: TensorSpec) -> Result<Self> {
        spec.validate()?;
        let features = spec.columns(schema)?;
        let label = spec.label.as_ref().map(|name| place(schema, name)).transpose()?;
        let classes =
            spec.classes.iter().enumerate().map(|(index, class)| (class.clone(), index as u32)).collect();
        let maker = Maker { features, label, classes };
        let placed = (spec.device != Device::Cpu).then(|| Placed::on(spec.device)).transpose()?;
        Ok(Self { origin, spec, maker, epoch: 0, running: None, placed })
    }

    fn start(&mut self) -> Result<Batches> {
        let shuffle = self.spec.shuffle.map(|seed| LocalShuffle {
            seed: Seed::new(seed).child("epoch", self.epoch),
            window_rows: self.spec.shuffle_rows,
        });
        let options =
            BatchOptions { drop_last: self.spec.drop_last, shuffle, ..BatchOptions::new(self.spec.rows) };
        match &mut self.origin {
            Origin::Dataset(dataset) => dataset.batches_with(options),
            Origin::Shard(shard) => shard.batches(options),
        }
    }
}

impl BatchSource for TensorBatches {
    fn next_batch(&mut self) -> std::result::Result<Option<Batch>, BoxError> {
        if self.running.is_none() {
            self.running = Some(self.start()?);
        }
        let Some(running) = &mut self.running else { return Ok(None) };
        let mut next = || match running.next().transpose()? {
            Some(batch) => self.maker.make(&batch).map(Some),
            None => Ok(None),
        };
        match &mut self.placed {
            Some(placed) => placed.next_batch(next),
            None => next(),
        }
    }

    fn restart(&mut self, epoch: u64) -> std::result::Result<(), BoxError> {
        self.epoch = epoch;
        self.running = None;
        if let Some(placed) = &mut self.placed {
            placed.restart();
        }
        Ok(())
    }
}

/// Turns Arrow batches into tensors.
#[derive(Debug)]
struct Maker {
    features: Vec<usize>,
    label: Option<usize>,
    classes: HashMap<String, u32>,
}

impl Maker {
    fn make(&self, batch: &RecordBatch) -> std::result::Result<Batch, BoxError> {
        let mut columns = vec![("x".to_owned(), self.x(batch)?)];
        if let Some(label) = self.label {
            columns.push(("y".to_owned(), self.y(batch, label)?));
        }
        Ok(Batch::new(columns)?)
    }

    fn x(&self, batch: &RecordBatch) -> std::result::Result<Tensor, BoxError> {
        if let [index] = self.features[..]
            && let DataType::FixedSizeList(..) = batch.column(index).data_type()
        {
            let field = batch.schema_ref().field(index);
            let tensor = read(field, batch.column(index), Some(&DataType::Float32));
            return tensor.map_err(|reason| format!("column '{}': {reason}", field.name()).into());
        }
        let (rows, width) = (batch.num_rows(), self.features.len());
        let mut values = vec![0.0_f32; rows * width];
        for (place, index) in self.features.iter().enumerate() {
            let column = self.column(batch, *index, &DataType::Float32)?;
            for (row, value) in column.as_primitive::<Float32Type>().values().iter().enumerate() {
                values[row * width + place] = *value;
            }
        }
        Ok(Tensor::from_vec(values, &[rows, width])?)
    }

    fn y(&self, batch: &RecordBatch, index: usize) -> std::result::Result<Tensor, BoxError> {
        let rows = batch.num_rows();
        let name = batch.schema_ref().field(index).name().clone();
        if !self.classes.is_empty() {
            let labels = self.column(batch, index, &DataType::Utf8)?;
            let classes: std::result::Result<Vec<u32>, BoxError> = labels
                .as_string::<i32>()
                .iter()
                .map(|label| {
                    let label = label.unwrap_or_default();
                    let class = self.classes.get(label).copied();
                    class.ok_or_else(|| {
                        format!("label '{label}' of column '{name}' is none of the classes given").into()
                    })
                })
                .collect();
            return Ok(Tensor::from_vec(classes?, &[rows])?);
        }
        if batch.column(index).data_type().is_floating() {
            let labels = self.column(batch, index, &DataType::Float32)?;
            return Ok(Tensor::from_vec(labels.as_primitive::<Float32Type>().values().to_vec(), &[rows])?);
        }
        let labels = self.column(batch, index, &DataType::Int64)?;
        let classes: std::result::Result<Vec<u32>, BoxError> = labels
            .as_primitive::<Int64Type>()
            .values()
            .iter()
            .map(|label| {
                u32::try_from(*label).map_err(|_| {
                    format!("label {label} of column '{name}' is no class: classes count from 0").into()
                })
            })
            .collect();
        Ok(Tensor::from_vec(classes?, &[rows])?)
    }

    /// A column as `to`, which must have no nulls.
    fn column(
        &self,
        batch: &RecordBatch,
        index: usize,
        to: &DataType,
    ) -> std::result::Result<Arc<dyn Array>, BoxError> {
        let column = batch.column(index);
        let field = batch.schema_ref().field(index);
        if column.null_count() > 0 {
            return Err(format!(
                "column '{}' has nulls, which a tensor cannot hold: fill or filter them first",
                field.name()
            )
            .into());
        }
        let from = column.data_type();
        if matches!(to, DataType::Float32 | DataType::Int64)
            && !from.is_numeric()
            && from != &DataType::Boolean
        {
            let hint = if self.label == Some(index) { "; give its classes" } else { "" };
            return Err(format!("column '{}' has type {from}, which is no number{hint}", field.name()).into());
        }
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        Ok(cast_with_options(column, to, &strict)?)
    }
}
