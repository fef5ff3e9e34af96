//! Tensors in columns. `tests/tensors/make.py` made pyarrow's files.

use std::sync::Arc;

use air_core::data::BatchSource;
use air_core::tensor::{DType, Tensor};
use air_data::{DataError, Dataset, FileFormat, TensorColumns, TensorSpec, WriteOptions, col, lit};
use arrow::array::{
    ArrayRef, AsArray, FixedSizeListArray, Float32Array, Int16Array, Int64Array, ListArray, RecordBatch,
};
use arrow::datatypes::{DataType, Field, Float32Type, Int32Type};
use ndarray::{Axis, Ix3};

use super::{session, told};

/// 2 x 3 pictures: the numbers from 0, row by row.
fn pictures(rows: u64) -> Dataset {
    session().range(rows).unwrap().map_batches(|batch| {
        let ids = batch.column(0).as_primitive::<arrow::datatypes::Int64Type>().values();
        let points: Vec<f32> = ids.iter().flat_map(|id| (0..6).map(move |at| (id * 6 + at) as f32)).collect();
        let points = Tensor::from_vec(points, &[ids.len(), 2, 3])?;
        Ok(batch.with_tensor("image", &points)?)
    })
}

/// A tensor of `[row, 2]` in each row: the numbers from 0.
fn with_ragged(ds: &Dataset) -> Dataset {
    ds.map_batches(|batch| {
        let ids = batch.column(0).as_primitive::<arrow::datatypes::Int64Type>().values();
        let tensors: Result<Vec<Tensor>, _> = ids
            .iter()
            .map(|id| Tensor::from_vec((0..2 * id).map(|x| x as i32).collect(), &[*id as usize, 2]))
            .collect();
        Ok(batch.with_ragged::<i32>("ragged", 2, &tensors?)?)
    })
}

fn metadata(ds: &Dataset, column: &str) -> (String, String) {
    let schema = ds.schema().unwrap();
    let metadata = schema.field_with_name(column).unwrap().metadata();
    (metadata["ARROW:extension:name"].clone(), metadata["ARROW:extension:metadata"].clone())
}

#[test]
fn a_tensor_is_a_column_over_the_same_memory() {
    let tensor = Tensor::from_vec((0..24_u8).collect(), &[4, 2, 3]).unwrap();
    let address = tensor.as_slice::<u8>().unwrap().as_ptr().addr();
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..4));
    let batch = RecordBatch::try_from_iter([("id", ids)]).unwrap().with_tensor("x", &tensor).unwrap();
    let lists = batch.column(1).as_fixed_size_list();
    let values = lists.values().as_primitive::<arrow::datatypes::UInt8Type>();
    assert_eq!((lists.value_length(), values.values().as_ptr().addr()), (6, address));
    let back = batch.tensor("x").unwrap();
    assert_eq!((back.shape(), back.dtype()), (&[4, 2, 3][..], DType::U8));
    assert_eq!(back.as_slice::<u8>().unwrap().as_ptr().addr(), address);
    // A slice of rows looks at the middle of it.
    let middle = batch.slice(1, 2).tensor("x").unwrap();
    assert_eq!(middle.as_slice::<u8>().unwrap().as_ptr().addr(), address + 6);
    assert_eq!(middle.view_as::<u8, Ix3>().unwrap()[[1, 1, 2]], 17);
    // In the place of a column, plain: one axis.
    let plain = batch.with_tensor("id", &Tensor::from_vec(vec![1.5_f64; 4], &[4]).unwrap()).unwrap();
    assert_eq!(plain.schema().field(0).data_type(), &DataType::Float64);
    assert_eq!(plain.tensor("id").unwrap().shape(), [4]);
    // What does not lie in order is copied, and in order then.
    let turned = batch.with_tensor("x", &tensor.permute(&[0, 2, 1]).unwrap()).unwrap().tensor("x").unwrap();
    assert_eq!(turned.shape(), [4, 3, 2]);
    assert_eq!(turned.select(0, 0).unwrap().to_vec::<u8>().unwrap(), [0, 3, 1, 4, 2, 5]);
    let flags = Tensor::from_vec(vec![true, false, true, true, false, false, true, false], &[4, 2]).unwrap();
    let flags_back = batch.with_tensor("b", &flags).unwrap().tensor("b").unwrap();
    assert_eq!(flags_back.to_vec::<bool>().unwrap(), flags.to_vec::<bool>().unwrap());
}

#[test]
fn functions_over_views_in_the_engine() {
    let ds = pictures(20_000);
    assert_eq!(metadata(&ds, "image"), ("arrow.fixed_shape_tensor".into(), "{\"shape\":[2,3]}".into()));
    let means = ds.filter_expr(col("id").gt_eq(lit(10))).map_batches(|batch| {
        let image = batch.tensor("image")?;
        let rows = image.view::<f32>()?.mean_axis(Axis(2));
        let means =
            rows.and_then(|rows| rows.mean_axis(Axis(1))).unwrap_or_else(|| ndarray::Array::zeros(vec![0]));
        Ok(batch.with_tensor("mean", &Tensor::from_ndarray(means)?)?)
    });
    let got = means.select(["mean"]).take_all::<f32>().unwrap();
    assert_eq!(got.len(), 19_990);
    assert!(got.iter().enumerate().all(|(row, mean)| *mean == (row as f32 + 10.0) * 6.0 + 2.5));
}

#[test]
fn files_keep_what_columns_are() {
    let dir = tempfile::tempdir().unwrap();
    let ds = with_ragged(&pictures(5).repartition(2));
    for (format, name) in [(FileFormat::Parquet, "parquet"), (FileFormat::Ipc, "arrow")] {
        let path = dir.path().join(name);
        ds.write(path.to_str().unwrap(), format.clone(), WriteOptions::default()).unwrap();
        let back = session().read(path.to_str().unwrap(), format).unwrap();
        assert_eq!(metadata(&back, "image"), metadata(&ds, "image"), "{name}");
        assert_eq!(metadata(&back, "ragged").0, "arrow.variable_shape_tensor", "{name}");
        let batch = back.sort(["id"]).to_batch().unwrap();
        let image = batch.tensor("image").unwrap();
        assert_eq!(image.shape(), [5, 2, 3]);
        assert!(image.to_vec::<f32>().unwrap().into_iter().eq((0..30).map(|x| x as f32)));
        let ragged = batch.ragged("ragged").unwrap();
        for (row, tensor) in ragged.iter().enumerate() {
            assert_eq!(tensor.shape(), [row, 2]);
            assert!(tensor.to_vec::<i32>().unwrap().into_iter().eq(0..2 * row as i32));
        }
        assert_eq!((ragged.len(), ragged.axes(), ragged.get(5).is_none()), (5, 2, true));
    }
}

#[test]
fn files_that_do_not_agree_are_of_plain_lists() {
    let dir = tempfile::tempdir().unwrap();
    let flat = pictures(3).map_batches(|batch| {
        let image = batch.tensor("image")?.reshape(&[batch.num_rows(), 6])?;
        Ok(batch.with_tensor("image", &image)?)
    });
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    pictures(3).write_parquet(path("a.parquet")).unwrap();
    flat.write_parquet(path("b.parquet")).unwrap();
    pictures(3).write_parquet(path("c.parquet")).unwrap();
    let all = session().read_parquet(path("")).unwrap();
    assert!(all.schema().unwrap().field_with_name("image").unwrap().metadata().is_empty());
    assert_eq!(all.to_batch().unwrap().tensor("image").unwrap().shape(), [9, 6]);
}

#[test]
fn pyarrows_files_are_read() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tensors");
    for name in ["pyarrow.parquet", "pyarrow.arrow"] {
        let path = format!("{dir}/{name}");
        let format = FileFormat::of_path(&path).unwrap();
        let batch = session().read(path, format).unwrap().to_batch().unwrap();
        let image = batch.tensor("image").unwrap();
        assert_eq!(image.shape(), [5, 2, 3], "{name}");
        assert!(image.to_vec::<f32>().unwrap().into_iter().eq((0..30).map(|x| x as f32)));
        // Meant the other way round than it lies.
        let turned = batch.tensor("turned").unwrap();
        assert_eq!((turned.shape(), turned.strides()), (&[5, 2, 3][..], &[6, 1, 2][..]));
        assert_eq!(turned.select(0, 1).unwrap().to_vec::<i64>().unwrap(), [6, 8, 10, 7, 9, 11]);
    }
}

#[test]
fn a_column_of_tensors_is_what_a_trainer_gets() {
    let mut source = pictures(10).batch_source(TensorSpec::new(4).features(["image"])).unwrap();
    let mut sizes = Vec::new();
    while let Some(batch) = source.next_batch().unwrap() {
        let x = batch.column("x").unwrap();
        let first = x.to_vec::<f32>().unwrap()[0];
        sizes.push((x.shape().to_vec(), first));
    }
    assert_eq!(sizes, [(vec![4, 2, 3], 0.0), (vec![4, 2, 3], 24.0), (vec![2, 2, 3], 48.0)]);
}

#[test]
fn lists_are_ragged_and_lists_of_lists_are_tensors() {
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([
        Some(vec![Some(1), Some(2)]),
        Some(vec![]),
        Some(vec![Some(3)]),
    ]);
    let batch = RecordBatch::try_from_iter([("l", Arc::new(lists) as ArrayRef)]).unwrap();
    let address =
        batch.column(0).as_list::<i32>().values().as_primitive::<Int32Type>().values().as_ptr().addr();
    let ragged = batch.slice(1, 2).ragged("l").unwrap();
    let rows: Vec<Vec<i32>> = ragged.iter().map(|tensor| tensor.to_vec().unwrap()).collect();
    assert_eq!((rows, ragged.axes()), (vec![vec![], vec![3]], 1));
    let last = ragged.get(1).unwrap();
    assert_eq!(last.as_slice::<i32>().unwrap().as_ptr().addr(), address + 8, "not copied");

    let values: ArrayRef = Arc::new(Float32Array::from_iter_values((0..12).map(|x| x as f32)));
    let lists = |length, values: ArrayRef| -> ArrayRef {
        let item = Arc::new(Field::new("item", values.data_type().clone(), true));
        Arc::new(FixedSizeListArray::new(item, length, values, None))
    };
    let nested = RecordBatch::try_from_iter([("x", lists(2, lists(3, values)))]).unwrap();
    assert_eq!(nested.slice(1, 1).tensor("x").unwrap().shape(), [1, 2, 3]);
    assert_eq!(
        nested.slice(1, 1).tensor("x").unwrap().to_vec::<f32>().unwrap(),
        [6.0, 7.0, 8.0, 9.0, 10.0, 11.0]
    );
}

#[test]
fn columns_that_are_no_tensors_are_told() {
    let none: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    let short: ArrayRef = Arc::new(Int16Array::from(vec![1, 2]));
    let lists =
        ListArray::from_iter_primitive::<Float32Type, _, _>([Some(vec![Some(1.0), None]), Some(vec![])]);
    let batch = RecordBatch::try_from_iter([
        ("none", none),
        ("short", short),
        ("lists", Arc::new(lists) as ArrayRef),
    ])
    .unwrap();
    let why = |error: DataError| told(&error);
    assert_eq!(
        why(batch.tensor("none").unwrap_err()),
        "cannot use column 'none' as tensors: it has nulls, which a tensor cannot hold: fill or filter them first"
    );
    assert_eq!(
        why(batch.tensor("short").unwrap_err()),
        "cannot use column 'short' as tensors: values of type Int16 are no elements of a tensor; cast them to one of 8, 32 or 64 bits"
    );
    assert!(why(batch.tensor("nope").unwrap_err()).starts_with("no column 'nope'"));
    assert!(why(batch.ragged("lists").unwrap_err()).contains("it has nulls"));
    assert!(why(batch.ragged("short").unwrap_err()).contains("is no column of tensors"));
    let three = Tensor::from_vec(vec![0_i32; 6], &[3, 2]).unwrap();
    assert_eq!(
        why(batch.with_tensor("x", &three).unwrap_err()),
        "cannot use column 'x' as tensors: 3 rows for a batch of 2"
    );
    let error = why(batch.with_ragged::<i32>("x", 1, &[three.clone(), three.clone()]).unwrap_err());
    assert!(error.ends_with("row 0 has a tensor of 2 axes, not 1"), "{error}");
    let error = why(batch.with_ragged::<f32>("x", 2, &[three.clone(), three]).unwrap_err());
    assert!(error.contains("row 0: "), "{error}");
    let bf16 = Tensor::zeros_of(DType::BF16, &[2]).unwrap();
    assert!(why(batch.with_tensor("x", &bf16).unwrap_err()).contains("Arrow has no type for bf16"));
}

#[test]
fn datasets_of_tensors() {
    let session = session();
    let x = Tensor::from_vec((0..12_u8).collect(), &[3, 2, 2]).unwrap();
    let y = Tensor::from_vec(vec![0.5_f32, 1.5, 2.5], &[3]).unwrap();
    let ds = session.from_tensors([("x", x.clone()), ("y", y)]).unwrap();
    assert_eq!(ds.select(["y"]).take_all::<f32>().unwrap(), [0.5, 1.5, 2.5]);
    let batch = ds.to_batch().unwrap();
    assert_eq!(batch.tensor("x").unwrap().to_vec::<u8>().unwrap(), x.to_vec::<u8>().unwrap());
    let numbered = session.range_tensor(20_000, &[2, 3]).unwrap();
    let batch = numbered.repartition(1).to_batch().unwrap();
    let data = batch.tensor("data").unwrap();
    assert_eq!(data.shape(), [20_000, 2, 3]);
    assert!(data.to_vec::<i64>().unwrap().into_iter().eq((0..20_000).flat_map(|row| [row; 6])));
    let short = Tensor::from_vec(vec![0.5_f32; 2], &[2]).unwrap();
    let error = told(&session.from_tensors([("x", x.clone()), ("y", short)]).unwrap_err());
    assert_eq!(error, "cannot use column 'y' as tensors: 2 rows for a batch of 3");
    let error = told(&session.from_tensors([("x", x.clone()), ("x", x)]).unwrap_err());
    assert_eq!(error, "column 'x' appears more than once in from_tensors");
    assert!(session.from_tensors::<&str>([]).is_err());
    assert!(matches!(session.range_tensor(3, &[1 << 40]), Err(DataError::TensorColumn { .. })));
}
