//! Formats and places behind features of the crate: Avro, images, SQLite, PostgreSQL.

#[cfg(feature = "postgres")]
mod postgres;

#[cfg(feature = "avro")]
mod avro {
    use crate::formats::fixture;
    use crate::{iris, session, told};
    use air_data::{FileFormat, ReadOptions, Row, col, lit};
    use arrow::datatypes::{DataType, Field, Schema};
    use std::sync::Arc;

    #[test]
    fn files_that_python_wrote() {
        for codec in ["null", "deflate"] {
            let ds = session().read_avro(fixture(&format!("rows.{codec}.avro"))).unwrap();
            assert_eq!(ds.columns().unwrap(), ["id", "name", "x", "day", "tags"]);
            assert_eq!(ds.schema().unwrap().field(3).data_type(), &DataType::Date32);
            let lines: Vec<String> = ds.take_all::<Row>().unwrap().iter().map(Row::to_string).collect();
            assert_eq!(lines.len(), 100);
            assert_eq!(lines[5], r#"{"id":5,"name":"n5","x":1.25,"day":19782,"tags":["t","t"]}"#);
            assert_eq!(lines[99], r#"{"id":99,"name":null,"x":24.75,"day":19782,"tags":[]}"#);
            assert_eq!(ds.count().unwrap(), 100);
            assert_eq!(
                ds.filter_expr(col("id").gt(lit(97))).select(["x"]).take_all::<f64>().unwrap(),
                [24.5, 24.75]
            );
        }
    }

    #[test]
    fn columns_that_are_given_and_files_that_are_cut_short() {
        let fields = [("x", DataType::Float32), ("none", DataType::Utf8), ("id", DataType::Utf8)];
        let fields = fields.map(|(name, kind)| Field::new(name, kind, true));
        let options =
            ReadOptions { schema: Some(Arc::new(Schema::new(fields.to_vec()))), ..ReadOptions::default() };
        let ds = session().read_with(fixture("rows.null.avro"), FileFormat::Avro, options).unwrap();
        assert_eq!(ds.take::<Row>(2).unwrap()[1].to_string(), r#"{"x":0.25,"none":null,"id":"1"}"#);
        let dir = tempfile::tempdir().unwrap();
        let whole = std::fs::read(fixture("rows.null.avro")).unwrap();
        let path = dir.path().join("cut.avro").to_string_lossy().into_owned();
        for cut in [1, 17, 400, whole.len() - 500] {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let error = told(&session().read_avro(&path).unwrap().collect().unwrap_err());
            assert!(error.contains(&path) && error.contains("cut short"), "{cut}: {error}");
        }
    }

    #[test]
    fn there_and_back() {
        let (session, dir) = (session(), tempfile::tempdir().unwrap());
        let out = dir.path().join("iris").to_string_lossy().into_owned();
        let dots = told(&iris(&session).write_avro(&out).unwrap_err());
        assert!(dots.contains("'sepal.length' is no name in Avro"), "{dots}");
        let flowers = iris(&session).repartition(3);
        let names = ["sepal.length", "sepal.width", "petal.length", "petal.width"];
        let flowers = flowers.rename_columns(names.map(|name| (name, name.replace('.', "_"))));
        assert_eq!(flowers.write_avro(&out).unwrap().len(), 3);
        let back = session.read_avro(&out).unwrap();
        assert_eq!(back.to_batch().unwrap().columns(), flowers.to_batch().unwrap().columns());
    }
}

#[cfg(feature = "images")]
mod images {
    use crate::formats::fixture;
    use crate::{session, told};
    use air_data::{FileFormat, ImageMode, ImageOptions, ReadOptions, WriteMode, WriteOptions};
    use arrow::array::AsArray;
    use arrow::datatypes::{Int32Type, UInt8Type};

    #[test]
    fn pixels_are_those_that_pillow_wrote() {
        let ds = session().read_images(fixture("rgb.png"), ImageOptions::default()).unwrap();
        let batch = ds.to_batch().unwrap();
        let image = batch.column(0).as_struct();
        let shape = image.column_by_name("shape").unwrap().as_fixed_size_list().value(0);
        assert_eq!(shape.as_primitive::<Int32Type>().values(), &[2, 3, 3]);
        let data = image.column_by_name("data").unwrap().as_list::<i32>().value(0);
        let expected: Vec<u8> = (0..18).map(|x| x * 14).collect();
        assert_eq!(data.as_primitive::<UInt8Type>().values(), &expected[..]);

        let options = ImageOptions { mode: ImageMode::Rgba, size: Some((4, 6)), ..ImageOptions::default() };
        let paths = vec![fixture("rgb.png"), fixture("gray.png"), fixture("flat.jpg")];
        let with_paths = ReadOptions { include_paths: Some("path".to_owned()), ..ReadOptions::default() };
        let ds = session().read_with(paths, FileFormat::Images(options), with_paths).unwrap();
        let schema = ds.schema().unwrap();
        assert_eq!(schema.field(0).metadata()["ARROW:extension:metadata"], "{\"shape\":[4,6,4]}");
        let batch = ds.to_batch().unwrap();
        assert_eq!((batch.num_rows(), batch.column(0).as_fixed_size_list().value_length()), (3, 96));
        // JPEG is not exact; a picture of one colour nearly is.
        let flat = batch.column(0).as_fixed_size_list().value(2);
        for pixel in flat.as_primitive::<UInt8Type>().values().chunks(4) {
            let near = [200, 30, 60, 255].iter().zip(pixel).all(|(a, b)| u8::abs_diff(*a, *b) < 4);
            assert!(near, "{pixel:?}");
        }
        assert_eq!(ds.count().unwrap(), 3);
        let gray = ImageOptions { mode: ImageMode::Gray, size: Some((2, 3)), ..ImageOptions::default() };
        let batch = session().read_images(fixture("gray.png"), gray).unwrap().to_batch().unwrap();
        assert_eq!(batch.column(0).as_fixed_size_list().value_length(), 6);
    }

    #[test]
    fn images_come_back_as_they_were_written_a_file_for_each_row() {
        let (session, dir) = (session(), tempfile::tempdir().unwrap());
        let out = dir.path().join("out").to_string_lossy().into_owned();
        let read = |path: &str, size| {
            session.read_images(path, ImageOptions { size, ..ImageOptions::default() }).unwrap()
        };
        for size in [None, Some((4, 6))] {
            let paths = vec![fixture("rgb.png"), fixture("gray.png"), fixture("flat.jpg")];
            let options = FileFormat::Images(ImageOptions { size, ..ImageOptions::default() });
            let images = session.read_with(paths, options, ReadOptions::default()).unwrap();
            let again = images.union([&images]).repartition(2);
            // The second time it replaces what is there.
            let options = WriteOptions { mode: WriteMode::Overwrite, ..WriteOptions::default() };
            let files = again.write(&out, FileFormat::Images(ImageOptions::default()), options).unwrap();
            assert_eq!(files.len(), 6);
            assert!(
                files
                    .iter()
                    .all(|file| std::path::Path::new(file).extension().is_some_and(|kind| kind == "png")),
                "{files:?}"
            );
            let mut there: Vec<String> = std::fs::read_dir(&out)
                .unwrap()
                .map(|e| e.unwrap().path().to_string_lossy().into_owned())
                .collect();
            there.sort();
            assert_eq!(there, files);
            assert_eq!(
                read(&out, size).to_batch().unwrap().columns(),
                again.to_batch().unwrap().columns(),
                "{size:?}"
            );
        }
        let one = read(&fixture("gray.png"), None);
        let jpg = dir.path().join("one.jpg").to_string_lossy().into_owned();
        let options = WriteOptions { jpeg_quality: Some(90), ..WriteOptions::default() };
        one.write(&jpg, FileFormat::Images(ImageOptions::default()), options).unwrap();
        assert!(std::fs::read(&jpg).unwrap().starts_with(b"\xff\xd8\xff"));
    }

    #[test]
    fn what_is_no_image_is_not_written() {
        let (session, dir) = (session(), tempfile::tempdir().unwrap());
        let out = dir.path().join("out").to_string_lossy().into_owned();
        let ids = session.range(3).unwrap();
        let error = told(&ids.write_images(&out).unwrap_err());
        assert!(error.contains("'id' is Int64, and an image is a tensor of 8-bit integers"), "{error}");
        let images = session
            .read_with(
                vec![fixture("rgb.png"), fixture("gray.png")],
                FileFormat::Images(ImageOptions::default()),
                ReadOptions::default(),
            )
            .unwrap();
        let single = dir.path().join("one.png").to_string_lossy().into_owned();
        let error = told(&images.write_images(&single).unwrap_err());
        assert!(error.contains("there are more rows than one"), "{error}");
        assert!(!std::path::Path::new(&single).exists());
        let rgba = ImageOptions { mode: ImageMode::Rgba, ..ImageOptions::default() };
        let options = WriteOptions { jpeg_quality: Some(90), ..WriteOptions::default() };
        let jpegs = session.read_images(fixture("rgb.png"), rgba).unwrap();
        let error =
            told(&jpegs.write(&out, FileFormat::Images(ImageOptions::default()), options).unwrap_err());
        assert!(error.contains("an image of 4 channels, the last axis; 1 or 3 can be written"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn images_that_are_too_large_are_not_decoded() {
        let options = ImageOptions { max_pixels: 5, ..ImageOptions::default() };
        let path = fixture("rgb.png");
        let error = told(&session().read_images(&path, options).unwrap().collect().unwrap_err());
        assert_eq!(
            error,
            format!("reading {path}\n  caused by: 2 by 3 pixels; at most 5 are decoded (max_pixels)")
        );
        // A header that promises 60 000 by 60 000 pixels.
        let dir = tempfile::tempdir().unwrap();
        let mut bomb = std::fs::read(&path).unwrap();
        bomb[16..20].copy_from_slice(&60_000_u32.to_be_bytes());
        bomb[20..24].copy_from_slice(&60_000_u32.to_be_bytes());
        let path = dir.path().join("bomb.png").to_string_lossy().into_owned();
        std::fs::write(&path, bomb).unwrap();
        let error =
            told(&session().read_images(&path, ImageOptions::default()).unwrap().collect().unwrap_err());
        assert!(error.starts_with(&format!("reading {path}\n  caused by: ")), "{error}");
        for options in [
            ImageOptions { max_pixels: 0, ..ImageOptions::default() },
            ImageOptions { size: Some((0, 4)), ..ImageOptions::default() },
            ImageOptions { size: Some((1 << 20, 1 << 20)), ..ImageOptions::default() },
        ] {
            assert!(session().read_images(fixture("rgb.png"), options).is_err());
        }
    }
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use crate::{iris, session, told};
    use air_data::{Row, SqlOptions, WriteMode, col, lit};
    use std::path::PathBuf;

    fn database(dir: &tempfile::TempDir) -> PathBuf {
        let path = dir.path().join("a.db");
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection
            .execute_batch(
                "create table t (id integer primary key, name text, x, raw blob);
                 with recursive n(i) as (select 0 union all select i + 1 from n where i < 9999)
                 insert into t select i, case when i % 3 then 'n' || i end, case when i % 2 then i / 4.0 else i end, x'00ff' from n;
                 create table k (k integer, v text);
                 insert into k values (5, 'e'), (null, 'none'), (-9223372036854775808, 'low'), (9223372036854775807, 'high'), (1, 'a')",
            )
            .unwrap();
        path
    }

    #[test]
    fn a_query_is_read_in_parts_of_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = database(&dir);
        let session = session();
        let ds = session.read_sql(&path, "select * from t", SqlOptions::default()).unwrap();
        let types: Vec<String> =
            ds.schema().unwrap().fields().iter().map(|f| f.data_type().to_string()).collect();
        assert_eq!(types, ["Int64", "Utf8", "Float64", "Binary"]);
        assert_eq!((ds.count().unwrap(), ds.num_blocks().unwrap()), (10_000, 1));
        let parts = SqlOptions { partition_by: Some("id".to_owned()), parts: 7, ..SqlOptions::default() };
        let parted = session.read_sql(&path, "select * from t where id >= 10;", parts).unwrap();
        assert_eq!(parted.num_blocks().unwrap(), 7);
        assert_eq!(parted.to_batch().unwrap(), ds.filter_expr(col("id").gt_eq(lit(10))).to_batch().unwrap());
        assert_eq!(
            parted.select(["name"]).limit(2).take_all::<Option<String>>().unwrap(),
            [Some("n10".to_owned()), Some("n11".to_owned())]
        );

        // Keys at the ends of what an integer holds, and none.
        let parts = SqlOptions { partition_by: Some("k".to_owned()), parts: 3, ..SqlOptions::default() };
        let keys = session.read_sql(&path, "select k, v from k", parts).unwrap();
        assert_eq!(keys.select(["v"]).take_all::<String>().unwrap(), ["none", "low", "a", "e", "high"]);
        let empty = SqlOptions { partition_by: Some("id".to_owned()), ..SqlOptions::default() };
        let empty = session.read_sql(&path, "select * from t where id < 0", empty).unwrap();
        assert_eq!(empty.count().unwrap(), 0);
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = database(&dir);
        let session = session();
        let failed = |query: &str, key: Option<&str>| {
            let options = SqlOptions { partition_by: key.map(str::to_owned), ..SqlOptions::default() };
            told(&session.read_sql(&path, query, options).and_then(|ds| ds.collect()).unwrap_err())
        };
        assert!(failed("select * from nowhere", None).contains("no such table: nowhere"));
        assert!(failed("delete from t", None).starts_with("reading the query of "));
        assert!(failed("select * from t", Some("name")).contains("'name' has"));
        // A type that the first rows do not tell.
        let late = failed("select case when id < 5000 then id else 'late' end as v from t order by id", None);
        assert!(late.contains("column 'v' has a value of type Text") && late.contains("at row "), "{late}");
        let missing = session.read_sql(dir.path().join("none.db"), "select 1", SqlOptions::default());
        assert!(missing.is_err() && !dir.path().join("none.db").exists());
    }

    #[test]
    fn a_table_there_and_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.db");
        let session = session();
        let flowers = iris(&session).repartition(4);
        flowers.write_sql(&path, "iris \"x\"", WriteMode::Create).unwrap();
        let back =
            session.read_sql(&path, "select * from \"iris \"\"x\"\"\"", SqlOptions::default()).unwrap();
        assert_eq!(back.to_batch().unwrap().columns(), flowers.to_batch().unwrap().columns());
        let error = told(&flowers.write_sql(&path, "iris \"x\"", WriteMode::Create).unwrap_err());
        assert!(error.contains("already exists"), "{error}");
        let failing =
            flowers.filter(
                |row: &Row| if row.f64("petal.length") == Some(6.9) { Err("no".into()) } else { Ok(true) },
            );
        assert!(failing.write_sql(&path, "iris \"x\"", WriteMode::Overwrite).is_err());
        assert_eq!(back.count().unwrap(), 150, "a write that fails changes nothing");
        flowers.limit(3).write_sql(&path, "iris \"x\"", WriteMode::Overwrite).unwrap();
        assert_eq!(back.count().unwrap(), 3);
    }
}
