//! Every type, both ways.

use std::sync::Arc;

use air_data::{Dataset, Row, Session, SqlOptions, WriteMode};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray,
    FixedSizeListArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array,
    LargeStringArray, ListArray, RecordBatch, StringArray, Time32MillisecondArray, Time64MicrosecondArray,
    TimestampMicrosecondArray, TimestampNanosecondArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Float64Type, Int32Type, Int64Type, Schema, TimeUnit};

use super::server::{Database, database};
use crate::{session, told};

fn read(db: &Database, session: &Session, query: &str) -> Dataset {
    session.read_postgres(&db.url(), query, SqlOptions::default()).unwrap()
}

/// A batch of columns that may be null, each with a null behind its values.
fn table() -> RecordBatch {
    const DAY: i64 = 86_400_000_000;
    let list =
        |values: Vec<Option<Vec<Option<i64>>>>| ListArray::from_iter_primitive::<Int64Type, _, _>(values);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("bool", Arc::new(BooleanArray::from(vec![Some(true), Some(false), Some(true), None]))),
        ("int2", Arc::new(Int16Array::from(vec![Some(i16::MIN), Some(i16::MAX), Some(-1), None]))),
        ("int4", Arc::new(Int32Array::from(vec![Some(i32::MIN), Some(i32::MAX), Some(-1), None]))),
        ("int8", Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), Some(-1), None]))),
        (
            "float4",
            Arc::new(Float32Array::from(vec![
                Some(f32::MIN_POSITIVE),
                Some(f32::INFINITY),
                Some(-0.0),
                None,
            ])),
        ),
        (
            "float8",
            Arc::new(Float64Array::from(vec![Some(f64::MAX), Some(f64::NEG_INFINITY), Some(0.1), None])),
        ),
        (
            "numeric",
            Arc::new(
                Decimal128Array::from(vec![Some(10_i128.pow(38) - 1), Some(-12_345_678), Some(0), None])
                    .with_precision_and_scale(38, 6)
                    .unwrap(),
            ),
        ),
        ("text", Arc::new(StringArray::from(vec![Some(""), Some("ä\t\"\\.\n🦀"), Some("NULL"), None]))),
        (
            "bytea",
            Arc::new(BinaryArray::from(vec![Some(&b""[..]), Some(&[0, 255, 0][..]), Some(b"\\x00"), None])),
        ),
        // The first of 4713 before Christ, the last of 5874897, and the day before PostgreSQL's first.
        (
            "date",
            Arc::new(Date32Array::from(vec![Some(-2_440_588 + 38), Some(2_145_042_905), Some(10_956), None])),
        ),
        ("time", Arc::new(Time64MicrosecondArray::from(vec![Some(0), Some(DAY - 1), Some(1), None]))),
        (
            "timestamp",
            Arc::new(TimestampMicrosecondArray::from(vec![
                Some(-DAY * 1_000_000 - 1),
                Some(i64::MAX / 2),
                Some(-1),
                None,
            ])),
        ),
        (
            "timestamptz",
            Arc::new(
                TimestampMicrosecondArray::from(vec![Some(946_684_799_999_999), Some(0), Some(1), None])
                    .with_timezone("UTC"),
            ),
        ),
        (
            "list",
            Arc::new(list(vec![
                Some(vec![Some(1), None, Some(i64::MIN)]),
                Some(vec![]),
                Some(vec![None]),
                None,
            ])),
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        .unwrap()
}

#[test]
fn every_type_there_and_back() {
    let Some(db) = database() else { return };
    let (session, table) = (session(), table());
    let ds = session.from_batches(vec![table.clone()]).unwrap();
    ds.write_postgres(&db.url(), "t", WriteMode::Create).unwrap();
    assert_eq!(read(&db, &session, "select * from t").to_batch().unwrap(), table);
    let declared = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 ORDER BY attnum";
    let declared: Vec<String> = db.sql(declared).into_iter().flatten().collect();
    assert_eq!(
        declared,
        [
            "boolean",
            "smallint",
            "integer",
            "bigint",
            "real",
            "double precision",
            "numeric(38,6)",
            "text",
            "bytea",
            "date",
            "time without time zone",
            "timestamp without time zone",
            "timestamp with time zone",
            "bigint[]"
        ]
    );
    // What the server makes of the values.
    for (query, answer) in [
        ("numeric", "99999999999999999999999999999999.999999 -12.345678 0.000000"),
        ("date", "4713-01-01 BC 5874897-12-31 1999-12-31"),
        ("time", "00:00:00 23:59:59.999999 00:00:00.000001"),
        (
            "timestamptz AT TIME ZONE 'UTC'",
            "1999-12-31 23:59:59.999999 1970-01-01 00:00:00 1970-01-01 00:00:00.000001",
        ),
        ("list", "{1,NULL,-9223372036854775808} {} {NULL}"),
    ] {
        let found: Vec<String> = db.sql(&format!("SELECT {query} FROM t")).into_iter().flatten().collect();
        assert_eq!(found.join(" "), answer);
    }
    // NaN is not equal to itself.
    let odd = read(&db, &session, "select 'NaN'::float8 as a, '{NaN,-Infinity}'::float8[] as b")
        .to_batch()
        .unwrap();
    assert!(odd.column(0).as_primitive::<Float64Type>().value(0).is_nan());
    let both = odd.column(1).as_list::<i32>().value(0);
    assert!(both.as_primitive::<Float64Type>().value(0).is_nan());
    assert_eq!(both.as_primitive::<Float64Type>().value(1), f64::NEG_INFINITY);
}

#[test]
fn arrows_other_types_are_written_as_what_holds_them() {
    let Some(db) = database() else { return };
    let session = session();
    let items = Arc::new(Field::new_list_field(DataType::Int32, true));
    let pairs = FixedSizeListArray::new(items, 2, Arc::new(Int32Array::from(vec![1, 2, 3, 4])), None);
    let words = StringArray::from(vec!["b", "a"]);
    let dictionary: ArrayRef = arrow::compute::cast(
        &words,
        &DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
    )
    .unwrap();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("int1", Arc::new(Int8Array::from(vec![i8::MIN, i8::MAX]))),
        ("uint4", Arc::new(UInt32Array::from(vec![0, u32::MAX]))),
        ("uint8", Arc::new(UInt64Array::from(vec![0, u64::MAX]))),
        ("large", Arc::new(LargeStringArray::from(vec!["x", "y"]))),
        ("fixed", Arc::new(FixedSizeBinaryArray::try_from_iter([[1_u8, 0], [2, 0]].iter()).unwrap())),
        ("millis", Arc::new(Time32MillisecondArray::from(vec![1, 2]))),
        ("nanos", Arc::new(TimestampNanosecondArray::from(vec![1_999, -1_999]).with_timezone("+02:00"))),
        ("pairs", Arc::new(pairs)),
        ("dictionary", dictionary),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    session.from_batches(vec![batch]).unwrap().write_postgres(&db.url(), "t", WriteMode::Create).unwrap();
    let back = read(&db, &session, "select * from t").to_batch().unwrap();
    let types: Vec<String> =
        back.schema().fields().iter().map(|field| field.data_type().to_string()).collect();
    assert_eq!(
        types,
        [
            "Int16",
            "Int64",
            "Decimal128(20, 0)",
            "Utf8",
            "Binary",
            "Time64(µs)",
            "Timestamp(µs, \"UTC\")",
            "List(Int32)",
            "Utf8"
        ]
    );
    assert_eq!(back.column(1).as_primitive::<Int64Type>().value(1), i64::from(u32::MAX));
    assert_eq!(
        back.column(2).as_primitive::<arrow::datatypes::Decimal128Type>().value(1),
        i128::from(u64::MAX)
    );
    assert_eq!(back.column(7).as_list::<i32>().value(1).as_primitive::<Int32Type>().values(), &[3, 4]);
    assert_eq!(back.column(8).as_string::<i32>().value(0), "b");
    assert_eq!(
        db.sql(
            "SELECT count(*) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 AND attnotnull"
        ),
        [Some("9".to_owned())]
    );
}

#[test]
fn postgres_other_types_are_read_as_what_holds_them() {
    let Some(db) = database() else { return };
    let session = session();
    db.sql("CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE DOMAIN age AS int CHECK (value > 0)");
    let query = "select 'glad'::mood as mood, 7::age as age, 'ab'::char(4) as c, 'v'::varchar(3) as v, current_database() as n,
                        '{\"a\": [1]}'::jsonb as jb, '{\"a\":  1}'::json as j, '6a0ea4be-2e4e-4bd8-9d53-3f4d8d3c1c11'::uuid as u,
                        array['6a0ea4be-2e4e-4bd8-9d53-3f4d8d3c1c11'::uuid, null] as us, '{glad,sad}'::mood[] as moods,
                        array['b'::varchar] as vs, 12.3::numeric(5, 2) as d, '{1.5,-2}'::numeric(5, 1)[] as ds, null::bool as nothing";
    let row = read(&db, &session, query).take::<Row>(1).unwrap()[0].to_string();
    let name = &db.name;
    assert_eq!(
        row,
        format!(
            "{{\"mood\":\"glad\",\"age\":7,\"c\":\"ab  \",\"v\":\"v\",\"n\":\"{name}\",\"jb\":\"{{\\\"a\\\": [1]}}\",\"j\":\"{{\\\"a\\\":  1}}\",\
             \"u\":\"6a0ea4be-2e4e-4bd8-9d53-3f4d8d3c1c11\",\"us\":[\"6a0ea4be-2e4e-4bd8-9d53-3f4d8d3c1c11\",null],\"moods\":[\"glad\",\"sad\"],\
             \"vs\":[\"b\"],\"d\":\"12.30\",\"ds\":[\"1.5\",\"-2.0\"],\"nothing\":null}}"
        )
    );
}

#[test]
fn a_schema_that_is_given_is_cast_to() {
    let Some(db) = database() else { return };
    let session = session();
    let given = |fields: &[(&str, DataType, bool)]| {
        let fields = fields.iter().map(|(name, kind, null)| Field::new(*name, kind.clone(), *null));
        SqlOptions {
            schema: Some(Arc::new(Schema::new(fields.collect::<Vec<_>>()))),
            ..SqlOptions::default()
        }
    };
    let query = "select sum(i) as total, '1 day'::interval as day, i % 2 as odd, 1::int2 as id from generate_series(1, 5) as i group by i % 2 order by odd";
    let fields = [
        ("odd", DataType::Int64, false),
        ("total", DataType::Float64, false),
        ("day", DataType::Utf8, true),
        ("id", DataType::Int16, false),
    ];
    let ds = session.read_postgres(&db.url(), query, given(&fields)).unwrap();
    let rows: Vec<String> = ds.take_all::<Row>().unwrap().iter().map(Row::to_string).collect();
    assert_eq!(
        rows,
        [r#"{"odd":0,"total":6.0,"day":"1 day","id":1}"#, r#"{"odd":1,"total":9.0,"day":"1 day","id":1}"#]
    );
    // The key is compared as the integer it is, whatever it is read as.
    let text = [("id", DataType::Utf8, false)];
    let options = SqlOptions { partition_by: Some("id".to_owned()), parts: 3, ..given(&text) };
    let ds =
        session.read_postgres(&db.url(), "select i as id from generate_series(8, 11) as i", options).unwrap();
    assert_eq!(ds.take_all::<String>().unwrap(), ["8", "9", "10", "11"]);

    for (fields, what) in [
        (vec![("none", DataType::Int64, true)], "the query has no column 'none', but total, day, odd, id"),
        (vec![("odd", DataType::UInt8, true)], "column 'odd' cannot be read as UInt8"),
        (
            vec![("odd", DataType::Timestamp(TimeUnit::Nanosecond, None), true)],
            "cannot be read as Timestamp(ns)",
        ),
    ] {
        let error = told(&session.read_postgres(&db.url(), query, given(&fields)).unwrap_err());
        assert!(error.contains(what), "{error}");
    }
    let null = given(&[("x", DataType::Int32, false)]);
    let error = told(
        &session.read_postgres(&db.url(), "select null::int as x", null).unwrap().collect().unwrap_err(),
    );
    assert!(error.contains("column 'x' is null, which the schema does not allow"), "{error}");
}

#[test]
fn values_and_columns_that_arrow_does_not_hold_are_told() {
    let Some(db) = database() else { return };
    let session = session();
    for (query, what) in [
        ("select 1.5 as x", "column 'x' is numeric, without a number of digits; cast it in the query"),
        ("select sum(i::bigint) as s from generate_series(1, 3) as i", "column 's' is numeric, without"),
        ("select 1::numeric(60, 2) as x", "column 'x' is numeric, with 60 digits, and Decimal128 has 38"),
        (
            "select '1 day'::interval as d",
            "column 'd' is interval, which has no counterpart in Arrow; cast it in the query",
        ),
        ("select '10.0.0.1'::inet as a, 1 as b", "column 'a' is inet, which"),
        ("select row(1, 2) as r", "column 'r' is record, which"),
        ("select 1 as a, 2 as a", "column 'a' appears more than once"),
    ] {
        let error = told(&session.read_postgres(&db.url(), query, SqlOptions::default()).unwrap_err());
        assert!(error.contains(what), "{query}: {error}");
    }
    for (value, kind, what) in [
        ("'infinity'", "date", "has infinity, which Date32 does not hold"),
        ("'-infinity'", "timestamptz", "has infinity, which Timestamp does not hold"),
        ("'294276-01-01'", "timestamp", "has a time after the year 294246"),
        ("'24:00:00'", "time", "has the time 24:00:00, which Time64 does not hold"),
        ("'NaN'", "numeric(5, 2)", "has NaN, which Decimal128 does not hold"),
        ("'{{1,2},{3,4}}'", "int[]", "has an array of 2 dimensions, and a list has one"),
    ] {
        let query = format!(
            "select (case when i = 700 then {value} end)::{kind} as x from generate_series(0, 999) as i"
        );
        let error = told(&read(&db, &session, &query).collect().unwrap_err());
        assert!(error.contains(&format!("column 'x' {what}")), "{query}: {error}");
        assert!(error.starts_with(&format!("reading the query of {} at row 700\n", db.shown())), "{error}");
    }
    let nested = RecordBatch::try_from_iter([(
        "s",
        Arc::new(arrow::array::StructArray::from(vec![(
            Arc::new(Field::new("a", DataType::Int32, false)),
            Arc::new(Int32Array::from(vec![1])) as ArrayRef,
        )])) as ArrayRef,
    )])
    .unwrap();
    assert_eq!(nested.column(0).len(), 1);
    let error = told(
        &session
            .from_batches(vec![nested])
            .unwrap()
            .write_postgres(&db.url(), "t", WriteMode::Create)
            .unwrap_err(),
    );
    assert!(
        error.contains("column 's' is Struct") && error.contains("cannot be written to PostgreSQL"),
        "{error}"
    );
    // What only the server knows it says at the end, and nothing is left.
    let early =
        RecordBatch::try_from_iter([("d", Arc::new(Date32Array::from(vec![0, -2_500_000])) as ArrayRef)]);
    let early = session.from_batches(vec![early.unwrap()]).unwrap();
    let error = told(&early.write_postgres(&db.url(), "t", WriteMode::Create).unwrap_err());
    assert!(error.contains("date out of range"), "{error}");
    let zero = session.from_items(vec!["a\0".to_owned()]).unwrap();
    let error = told(&zero.write_postgres(&db.url(), "t", WriteMode::Create).unwrap_err());
    assert!(error.contains("has text with a zero byte"), "{error}");
}
