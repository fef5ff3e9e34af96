//! Datasets for other languages, over Arrow's C stream interface: a shared library of three functions. `bench/data/c_stream.py` calls it
//! from Python, where pyarrow, polars and DuckDB read from it and write to it without copying.
//!
//! ```text
//! cargo build --release -p air-data --example data_c_stream
//! python bench/data/c_stream.py target/release/examples/libdata_c_stream.so data/flights.parquet
//! ```
// C's pointers: each function says what it believes of them.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

use air_core::BoxError;
use air_data::{CStream, FileFormat, Session};

/// Opens a file, by its extension, and puts its rows into `out`. Null, or what went wrong, to be given back to [`air_free`].
///
/// # Safety
/// `path` is text that ends with a zero; `out` has room for a stream, which the caller releases.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn air_read(path: *const c_char, out: *mut CStream) -> *mut c_char {
    told(|| {
        // SAFETY: as the caller says.
        let path = unsafe { CStr::from_ptr(path) }.to_str()?;
        let stream = Session::shared()?.read(path, FileFormat::of_path(path)?)?.to_c_stream()?;
        // SAFETY: as the caller says; what lay there before is no stream to be released.
        unsafe { out.write(stream) };
        Ok(())
    })
}

/// Takes the stream `table` over, asks `query` of it, where it is called `t`, and puts the answer into `out`. Null, or what went wrong, as above.
///
/// # Safety
/// `table` is a stream, which is moved out of; `query` is text that ends with a zero; `out` has room for a stream, which the caller releases.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn air_query(
    table: *mut CStream,
    query: *const c_char,
    out: *mut CStream,
) -> *mut c_char {
    told(|| {
        // SAFETY: as the caller says; the stream is this function's from here on.
        let table = unsafe { CStream::from_raw(table) };
        // SAFETY: as the caller says.
        let query = unsafe { CStr::from_ptr(query) }.to_str()?;
        let session = Session::shared()?;
        session.register("t", &session.from_c_stream(table)?)?;
        let stream = session.sql(query)?.to_c_stream()?;
        // SAFETY: as the caller says; what lay there before is no stream to be released.
        unsafe { out.write(stream) };
        Ok(())
    })
}

/// Frees what the others said.
///
/// # Safety
/// `text` is null or came from one of the others, and is given back once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn air_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: as the caller says.
        drop(unsafe { CString::from_raw(text) });
    }
}

/// An error, or a panic, which must not leave Rust, as text.
fn told(work: impl FnOnce() -> Result<(), BoxError>) -> *mut c_char {
    let text = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => return null_mut(),
        Ok(Err(error)) => air_core::cli::Chain(&*error).to_string(),
        Err(_) => "a panic".to_owned(),
    };
    CString::new(text.replace('\0', "\\0")).unwrap_or_default().into_raw()
}
