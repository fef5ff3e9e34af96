//! Datasets as batches of tensors.

use air_core::data::BatchSource;
use air_core::device::Device;
use air_data::{DataError, TensorSpec, col, lit};

use super::{iris, session, told};

const CLASSES: [&str; 3] = ["Setosa", "Versicolor", "Virginica"];

#[test]
fn iris_as_tensors() {
    let ds = iris(&session());
    let mut source = ds.batch_source(TensorSpec::new(64).label("variety").classes(CLASSES)).unwrap();
    for epoch in 0..2 {
        source.restart(epoch).unwrap();
        let mut sizes = Vec::new();
        while let Some(batch) = source.next_batch().unwrap() {
            if sizes.is_empty() {
                let x = batch.column("x").unwrap();
                assert_eq!(x.shape(), [64, 4]);
                assert_eq!(x.to_vec::<f32>().unwrap()[..4], [5.1, 3.5, 1.4, 0.2]);
                assert_eq!(batch.column("y").unwrap().to_vec::<u32>().unwrap()[48..52], [0, 0, 1, 1]);
            }
            sizes.push(batch.rows());
        }
        assert_eq!(sizes, [64, 64, 22]);
    }
}

#[test]
fn shuffling_is_the_seeds_and_the_epochs() {
    let ds = session().range(1000).unwrap();
    let epoch = |seed, epoch| {
        let spec = TensorSpec { shuffle_rows: 300, ..TensorSpec::new(64).shuffle(seed) };
        let mut source = ds.batch_source(spec).unwrap();
        source.restart(epoch).unwrap();
        let mut all = Vec::new();
        while let Some(batch) = source.next_batch().unwrap() {
            all.extend(batch.column("x").unwrap().to_vec::<f32>().unwrap());
        }
        all
    };
    let first = epoch(1, 0);
    assert_eq!(first, epoch(1, 0), "the same seed and epoch, the same order");
    assert_ne!(first, epoch(1, 1));
    assert_ne!(first, epoch(2, 0));
    let mut sorted = first.clone();
    sorted.sort_by(f32::total_cmp);
    assert_eq!(sorted, (0..1000).map(|x| x as f32).collect::<Vec<_>>(), "every row once");
    assert_ne!(first, sorted);
}

#[test]
fn drop_last_and_float_labels() {
    let ds = iris(&session());
    let spec = TensorSpec::new(64).features(["sepal.width", "sepal.length"]).label("petal.width").drop_last();
    let mut source = ds.batch_source(spec).unwrap();
    let first = source.next_batch().unwrap().unwrap();
    assert_eq!(first.column("x").unwrap().to_vec::<f32>().unwrap()[..2], [3.5, 5.1]);
    assert_eq!(first.column("y").unwrap().to_vec::<f32>().unwrap()[0], 0.2);
    assert_eq!(source.next_batch().unwrap().unwrap().rows(), 64);
    assert!(source.next_batch().unwrap().is_none(), "22 rows are left out");
}

#[test]
fn columns_that_are_no_tensor() {
    let ds = iris(&session());
    assert_eq!(
        told(&ds.batch_source(TensorSpec::new(8).label("varietys")).unwrap_err()),
        "no column 'varietys'; did you mean 'variety'? the columns are sepal.length, sepal.width, petal.length, petal.width, variety"
    );
    let first = |spec| ds.batch_source(spec).unwrap().next_batch().unwrap_err().to_string();
    assert_eq!(
        first(TensorSpec::new(8).label("variety")),
        "column 'variety' has type Utf8, which is no number; give its classes"
    );
    assert_eq!(
        first(TensorSpec::new(8).label("variety").classes(["Rose"])),
        "label 'Setosa' of column 'variety' is none of the classes given"
    );
    let nulls = session().from_items(vec![Some(1.0), None]).unwrap();
    let error = nulls.batch_source(TensorSpec::new(8)).unwrap().next_batch().unwrap_err().to_string();
    assert!(error.contains("has nulls"), "{error}");
}

#[test]
fn columns_that_are_neither_features_nor_label_are_not_computed() {
    let bad = || lit(1) / (col("id") - col("id"));
    let ds = session().range(10).unwrap().with_column("bad", bad()).with_column("y", col("id") % lit(2));
    let mut source = ds.batch_source(TensorSpec::new(10).features(["id"]).label("y")).unwrap();
    let batch = source.next_batch().unwrap().unwrap();
    assert_eq!(
        batch.column("x").unwrap().to_vec::<f32>().unwrap(),
        (0..10_u8).map(f32::from).collect::<Vec<_>>()
    );
    assert_eq!(batch.column("y").unwrap().to_vec::<u32>().unwrap(), [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]);
    assert_eq!(ds.stats().unwrap().rows, 10, "its run is the dataset's");
    assert!(ds.batch_source(TensorSpec::new(10)).unwrap().next_batch().is_err(), "with it, it fails");
}

#[test]
fn batches_on_a_device_are_the_same_and_one_that_is_missing_is_named() {
    let ds = session().range(10).unwrap();
    let spec = |device| TensorSpec::new(4).features(["id"]).device(device);
    let Ok(device) = Device::cuda(0) else {
        let error = ds.batch_source(spec(Device::Cuda(0))).unwrap_err();
        assert!(matches!(error, DataError::Device { device: Device::Cuda(0), .. }), "{error}");
        assert!(error.to_string().starts_with("no tensors on cuda:0: "), "{error}");
        return;
    };
    let mut source = ds.batch_source(spec(device)).unwrap();
    for epoch in 0..2 {
        source.restart(epoch).unwrap();
        let mut all = Vec::new();
        while let Some(batch) = source.next_batch().unwrap() {
            let x = batch.column("x").unwrap();
            assert_eq!(x.device(), device);
            all.push(x.to_device(Device::Cpu).unwrap().to_vec::<f32>().unwrap());
        }
        assert_eq!(all, [vec![0.0, 1.0, 2.0, 3.0], vec![4.0, 5.0, 6.0, 7.0], vec![8.0, 9.0]]);
    }
}
