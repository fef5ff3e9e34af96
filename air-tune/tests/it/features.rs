//! What only a build with more features has.

#[cfg(feature = "parquet")]
mod parquet_files {
    use std::process::Command;

    use air_tune::space::{Space, choice, uniform};
    use air_tune::{ResultGrid, RunConfig, TuneConfig, Tuner};
    use arrow::array::{Array, AsArray, RecordBatch};
    use arrow::datatypes::{DataType, Float64Type, Int64Type};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use serde_json::json;

    /// Ten trials, of which the fourth fails; parameters of every type, two of them called as other columns.
    fn grid(root: &std::path::Path) -> ResultGrid {
        let space = Space::new()
            .with("lr", uniform(0.0, 1.0))
            .with("units", choice([16, 32]))
            .with("bias", choice([false, true]))
            .with("opt.name", choice(["sgd", "adam"]))
            .with("mixed", choice([json!(1), json!("auto")]))
            .with("layers", choice([json!([8, 8])]))
            .with("seconds", choice([1.5]));
        Tuner::new(space, |trial, config| {
            if trial.id() == 3 {
                return Err("no luck, \"really\"\nnone".into());
            }
            let _ = trial.report(&[("loss", config.f64("lr")?), ("lr", f64::INFINITY)])?;
            Ok(())
        })
        .tune_config(TuneConfig { num_samples: 10, ..TuneConfig::default() })
        .run_config(RunConfig { dir: Some(root.join("table")), ..RunConfig::default() })
        .fit()
        .unwrap()
    }

    fn types(table: &RecordBatch) -> Vec<(&str, &DataType)> {
        table.schema_ref().fields().iter().map(|field| (field.name().as_str(), field.data_type())).collect()
    }

    #[test]
    fn results_are_an_arrow_table_and_a_parquet_file_with_types() {
        let root = tempfile::tempdir().unwrap();
        let grid = grid(root.path());
        let table = grid.to_arrow().unwrap();
        let (whole, number, text) = (&DataType::Int64, &DataType::Float64, &DataType::Utf8);
        let expected = [
            ("trial", whole),
            ("status", text),
            ("iterations", whole),
            ("seconds", number),
            ("bias", &DataType::Boolean),
            ("layers", text),
            ("config/lr", number),
            ("mixed", text),
            ("opt.name", text),
            ("config/seconds", number),
            ("units", whole),
            ("loss", number),
            ("lr", number),
            ("attempts", whole),
            ("stop", text),
            ("cause", text),
        ];
        let mut found = types(&table);
        found.sort_unstable_by_key(|(name, _)| *name);
        let mut wanted = expected.to_vec();
        wanted.sort_unstable_by_key(|(name, _)| *name);
        assert_eq!(found, wanted);
        assert_eq!(types(&table)[..4], expected[..4]);
        assert_eq!(types(&table)[11..], expected[11..]);

        let column = |name: &str| table.column_by_name(name).unwrap();
        let (loss, lr) =
            (column("loss").as_primitive::<Float64Type>(), column("config/lr").as_primitive::<Float64Type>());
        for trial in &grid {
            let row = usize::try_from(trial.trial).unwrap();
            assert_eq!(column("trial").as_primitive::<Int64Type>().value(row), i64::try_from(row).unwrap());
            assert_eq!(trial.value, loss.is_valid(row).then(|| loss.value(row)));
            assert_eq!(trial.config.f64("lr").unwrap(), lr.value(row));
            assert_eq!(
                trial.config.str("opt.name").unwrap(),
                column("opt.name").as_string::<i32>().value(row)
            );
            assert_eq!(column("layers").as_string::<i32>().value(row), "[8,8]");
            assert_eq!(column("cause").is_valid(row), row == 3);
        }
        assert!(column("cause").as_string::<i32>().value(3).contains("no luck, \"really\"\nnone"));
        assert!(column("lr").as_primitive::<Float64Type>().value(0).is_infinite());

        let file = root.path().join("trials.parquet");
        let binary = Command::new(env!("CARGO_BIN_EXE_air-tune"));
        let mut export = binary;
        export.arg("export").arg(grid.dir().unwrap()).args(["--format", "parquet", "--out"]).arg(&file);
        assert!(export.status().unwrap().success());
        let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&file).unwrap()).unwrap();
        let read: Vec<RecordBatch> = reader.build().unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(read, [table]);
    }

    #[test]
    fn a_metric_that_nobody_reported_is_still_a_column_of_numbers() {
        let space = Space::new().with("lr", uniform(0.0, 1.0));
        let tune = TuneConfig { num_samples: 2, ..TuneConfig::default() };
        let grid = Tuner::new(space, |_, _| Err("never".into())).tune_config(tune).fit().unwrap();
        let table = grid.to_arrow().unwrap();
        let loss = table.column_by_name("loss").unwrap();
        assert_eq!((loss.data_type(), loss.null_count()), (&DataType::Float64, 2));
    }
}
