//! Arrow's C stream interface, driven as a program in C would.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use air_data::{CStream, DataError, Dataset, Session, col, lit};
use arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, Int64Array, LargeStringArray, ListArray, RecordBatch, StringArray,
    StringViewArray, StructArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema};
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi_and_data_type};

use super::{session, told};

/// No machine is so slow; who waits for nothing waits so long.
const LONG: Duration = Duration::from_mins(2);

fn columns(stream: &mut CStream) -> Schema {
    let mut schema = FFI_ArrowSchema::empty();
    let ask = stream.get_schema.unwrap();
    assert_eq!(unsafe { ask(stream, &raw mut schema) }, 0);
    Schema::try_from(&schema).unwrap()
}

/// The next batch; nothing at the end; the code and the text of an error.
fn next(stream: &mut CStream, schema: &Schema) -> Result<Option<RecordBatch>, (c_int, String)> {
    let mut array = FFI_ArrowArray::empty();
    let ask = stream.get_next.unwrap();
    let code = unsafe { ask(stream, &raw mut array) };
    if code != 0 {
        let why = unsafe { CStr::from_ptr(stream.get_last_error.unwrap()(stream)) };
        return Err((code, why.to_str().unwrap().to_owned()));
    }
    if array.is_released() {
        return Ok(None);
    }
    let kind = DataType::Struct(schema.fields().clone());
    let data = unsafe { from_ffi_and_data_type(array, kind) }.unwrap();
    Ok(Some(RecordBatch::from(StructArray::from(data))))
}

/// A stream as C makes one: its functions pass on what another has, and each release is told.
struct Counted {
    inner: CStream,
    released: Sender<()>,
}

fn counted(inner: CStream) -> (CStream, Receiver<()>) {
    unsafe extern "C" fn get_schema(stream: *mut CStream, out: *mut FFI_ArrowSchema) -> c_int {
        let inner = unsafe { &mut (*(*stream).private_data.cast::<Counted>()).inner };
        unsafe { inner.get_schema.unwrap()(inner, out) }
    }
    unsafe extern "C" fn get_next(stream: *mut CStream, out: *mut FFI_ArrowArray) -> c_int {
        let inner = unsafe { &mut (*(*stream).private_data.cast::<Counted>()).inner };
        unsafe { inner.get_next.unwrap()(inner, out) }
    }
    unsafe extern "C" fn get_last_error(stream: *mut CStream) -> *const c_char {
        let inner = unsafe { &mut (*(*stream).private_data.cast::<Counted>()).inner };
        unsafe { inner.get_last_error.unwrap()(inner) }
    }
    unsafe extern "C" fn release(stream: *mut CStream) {
        let counted = unsafe { Box::from_raw((*stream).private_data.cast::<Counted>()) };
        let _ = counted.released.send(());
        unsafe { (*stream).release = None };
    }
    let (released, told) = channel();
    let private_data = Box::into_raw(Box::new(Counted { inner, released })).cast();
    let stream = CStream {
        get_schema: Some(get_schema),
        get_next: Some(get_next),
        get_last_error: Some(get_last_error),
        release: Some(release),
        private_data,
    };
    (stream, told)
}

/// It was released, and not twice: who could release it again has gone.
fn released_once(told: &Receiver<()>) {
    assert_eq!(told.recv_timeout(LONG), Ok(()));
    assert_eq!(told.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
}

fn numbers(session: &Session, rows: i64) -> Dataset {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    session.from_batches(vec![RecordBatch::try_from_iter([("id", ids)]).unwrap()]).unwrap()
}

#[test]
fn rows_go_out_and_come_in_without_being_copied() {
    let (here, there) = (session(), session());
    let ids = Int64Array::from_iter_values(0..20_000);
    let address = ids.values().as_ptr().addr();
    let batch = RecordBatch::try_from_iter([("id", Arc::new(ids) as ArrayRef)]).unwrap();
    let stream = here.from_batches(vec![batch]).unwrap().to_c_stream().unwrap();
    let imported = there.from_c_stream(stream).unwrap();
    let batches = imported.collect().unwrap();
    // The engines have gone; the memory is there as long as the batches are.
    drop((imported, here, there));
    let mut row = 0;
    for batch in &batches {
        let ids = batch.column(0).as_primitive::<Int64Type>();
        assert_eq!(ids.values().as_ptr().addr(), address + 8 * row);
        assert!(ids.values().iter().copied().eq(row as i64..(row + ids.len()) as i64));
        row += ids.len();
    }
    assert_eq!(row, 20_000);
}

#[test]
fn all_kinds_of_columns_keep_their_values_and_metadata() {
    let text = [Some("ä"), None, Some("a longer one than a view holds inline"), Some("")];
    let lists = [Some(vec![Some(1), None]), None, Some(vec![]), Some(vec![Some(3)])];
    let times = TimestampMillisecondArray::from(vec![Some(0), None, Some(-1), Some(7)]).with_timezone("UTC");
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(text.to_vec())),
        Arc::new(LargeStringArray::from(text.to_vec())),
        Arc::new(StringViewArray::from(text.to_vec())),
        Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists)),
        Arc::new(times),
        Arc::new(Int32Array::from(vec![1, 2, 3, 4])),
    ];
    let fields = columns.iter().enumerate().map(|(index, column)| {
        let metadata = HashMap::from([("number".to_owned(), index.to_string())]);
        Field::new(format!("c{index}"), column.data_type().clone(), index < 5).with_metadata(metadata)
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
    // A slice: its validity begins in the middle of a byte.
    let ds = session().from_batches(vec![batch.slice(1, 3)]).unwrap();
    let mut stream = ds.to_c_stream().unwrap();
    assert_eq!(super::c_stream::columns(&mut stream), *schema);
    let imported = session().from_c_stream(stream).unwrap();
    assert_eq!(imported.schema().unwrap(), schema);
    assert_eq!(imported.to_batch().unwrap(), batch.slice(1, 3));
}

#[test]
fn a_stream_that_comes_in_takes_part_in_queries_and_is_read_once() {
    let (stream, told_of) = counted(numbers(&session(), 30_000).to_c_stream().unwrap());
    let session = session();
    let imported = session.from_c_stream(stream).unwrap();
    assert_eq!(imported.columns().unwrap(), ["id"]);
    assert!(imported.explain().unwrap().contains("C stream"), "to look at a plan reads nothing");
    let kept = imported.filter_expr(col("id").gt_eq(lit(29_990))).materialize();
    assert_eq!(kept.count().unwrap(), 10);
    assert_eq!(kept.sum::<i64>("id").unwrap(), (29_990..30_000).sum::<i64>());
    released_once(&told_of);
    let error = imported.count().unwrap_err();
    assert!(matches!(error.root(), DataError::CStreamSpent), "{error}");
    assert_eq!(
        told(&error),
        "a C stream can be read once, and this one was: keep its rows with materialize() before the first use"
    );
}

#[test]
fn a_stream_that_comes_in_is_released_once_however_far_it_was_read() {
    let session = session();
    let fresh = || counted(numbers(&session, 100_000).to_c_stream().unwrap());
    // Half.
    let (stream, told_of) = fresh();
    let imported = session.from_c_stream(stream).unwrap();
    assert_eq!(imported.take::<i64>(3).unwrap(), [0, 1, 2]);
    released_once(&told_of);
    // Not at all.
    let (stream, told_of) = fresh();
    drop(session.from_c_stream(stream).unwrap());
    released_once(&told_of);
    // Not even taken in.
    let (stream, told_of) = fresh();
    drop(stream);
    released_once(&told_of);
    // Taken over from where it lay, as from C.
    let (mut stream, told_of) = fresh();
    let taken = unsafe { CStream::from_raw(&raw mut stream) };
    assert!(stream.release.is_none(), "it has moved");
    assert_eq!(session.from_c_stream(taken).unwrap().count().unwrap(), 100_000);
    released_once(&told_of);
    let error = session.from_c_stream(stream).unwrap_err();
    assert_eq!(told(&error), "reading a C stream\n  caused by: input stream is already released");
}

#[test]
fn a_consumer_in_c_sees_columns_batches_and_the_end() {
    let mut stream = numbers(&session(), 20_000).to_c_stream().unwrap();
    let schema = columns(&mut stream);
    assert_eq!(schema.fields().len(), 1);
    let mut rows = 0;
    while let Some(batch) = next(&mut stream, &schema).unwrap() {
        assert_eq!(batch.column(0).as_primitive::<Int64Type>().value(0), rows);
        rows += batch.num_rows() as i64;
    }
    assert_eq!(rows, 20_000);
    assert_eq!(next(&mut stream, &schema), Ok(None), "the end stays the end");
    assert_eq!(columns(&mut stream), schema);
}

#[test]
fn releasing_a_half_read_stream_ends_its_run() {
    let session = session();
    let (alive, gone) = channel::<()>();
    let ds = session.range(1 << 40).unwrap().map_batches(move |batch| {
        let _alive = &alive;
        Ok(batch)
    });
    let mut stream = ds.to_c_stream().unwrap();
    let schema = columns(&mut stream);
    let first = next(&mut stream, &schema).unwrap().unwrap();
    drop(ds);
    drop(stream);
    // The function goes when the run does.
    assert_eq!(gone.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
    drop(session);
    assert_eq!(first.column(0).as_primitive::<Int64Type>().value(5), 5);
}

#[test]
fn errors_go_out_with_their_causes_and_come_in_again() {
    let failing = || {
        numbers(&session(), 10).map(|x: i64| if x == 7 { Err("seven\0is too much".into()) } else { Ok(x) })
    };
    let mut stream = failing().to_c_stream().unwrap();
    let schema = columns(&mut stream);
    let (code, text) = next(&mut stream, &schema).unwrap_err();
    assert_ne!(code, 0);
    assert!(text.contains("map failed on row 7 of block 0\n  caused by: seven\\0is too much"), "{text}");
    assert_eq!(next(&mut stream, &schema), Ok(None), "an error is the last item");

    let (stream, told_of) = counted(failing().to_c_stream().unwrap());
    let error = session().from_c_stream(stream).unwrap().count().unwrap_err();
    assert!(matches!(error.root(), DataError::CStream { .. }), "{error}");
    let text = told(&error);
    assert!(text.starts_with("reading a C stream\n  caused by: "), "{text}");
    assert!(text.contains("map failed on row 7 of block 0\n  caused by: seven\\0is too much"), "{text}");
    released_once(&told_of);
}

/// Arrow's own reader panics at these.
#[test]
fn streams_that_break_the_interface_are_errors() {
    unsafe extern "C" fn fails(_: *mut CStream, _: *mut FFI_ArrowArray) -> c_int {
        5
    }
    unsafe extern "C" fn silent(_: *mut CStream) -> *const c_char {
        std::ptr::null()
    }
    unsafe extern "C" fn nothing(_: *mut CStream, _: *mut FFI_ArrowSchema) -> c_int {
        22
    }
    let session = session();
    let (mut stream, _) = counted(numbers(&session, 3).to_c_stream().unwrap());
    stream.get_next = Some(fails);
    stream.get_last_error = Some(silent);
    let error = told(&session.from_c_stream(stream).unwrap().count().unwrap_err());
    assert!(error.contains("caused by: it breaks the interface"), "{error}");

    let (mut stream, _) = counted(numbers(&session, 3).to_c_stream().unwrap());
    stream.get_schema = Some(nothing);
    let error = told(&session.from_c_stream(stream).unwrap_err());
    assert_eq!(error, "reading a C stream\n  caused by: Cannot get schema from input stream. Error code: 22");

    let (mut stream, _) = counted(numbers(&session, 3).to_c_stream().unwrap());
    stream.get_schema = None;
    assert!(matches!(session.from_c_stream(stream), Err(DataError::CStream { .. })));

    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let fields = vec![Field::new("a", DataType::Int64, false); 2];
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![ids.clone(), ids]).unwrap();
    let reader = arrow::array::RecordBatchIterator::new([Ok(batch.clone())], batch.schema());
    let error = told(&session.from_c_stream(CStream::new(Box::new(reader))).unwrap_err());
    assert_eq!(error, "column 'a' appears more than once in the C stream");
}
