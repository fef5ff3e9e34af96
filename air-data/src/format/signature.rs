//! What a file is by its first bytes, where it is not what it was read as.

use air_core::BoxError;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::FileFormat;

/// What to do with a compressed file.
const PACKED: &str = "if it is CSV, JSON or text, say so: by an ending (.gz, .zst) or with the setting `compression`; else unpack it first";

/// First bytes, what they tell, and what to do with such a file.
const KNOWN: [(&[u8], &str, &str); 9] = [
    (b"PAR1", "a Parquet file", "read it with read_parquet"),
    (b"ARROW1", "an Arrow file", "read it with read_ipc"),
    (b"\x93NUMPY", "a NumPy file", "read it with read_npy"),
    (b"\x1f\x8b\x08", "compressed with gzip", PACKED),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard", PACKED),
    (b"BZh", "compressed with bzip2", "unpack it first"),
    (b"\xfd7zXZ", "compressed with xz", "unpack it first"),
    (b"\xff\xfe", "text in UTF-16", "make it UTF-8 first"),
    (b"\xfe\xff", "text in UTF-16", "make it UTF-8 first"),
];

/// What files of a format begin with, if they begin alike.
pub(crate) fn of(format: &FileFormat) -> &'static [u8] {
    match format {
        FileFormat::Parquet => b"PAR1",
        FileFormat::Ipc => b"ARROW1",
        FileFormat::Npy => b"\x93NUMPY",
        _ => b"",
    }
}

/// Why a file that could not be read is another one than was meant, where its first bytes tell; `own` are those it should begin with.
pub(crate) async fn another(store: &dyn ObjectStore, location: &Path, own: &[u8]) -> Option<BoxError> {
    let start = store.get_range(location, 0..8).await.ok()?;
    let is = |bytes: &[u8]| start.starts_with(bytes);
    let (_, kind, advice) = KNOWN.iter().find(|(bytes, _, _)| is(bytes) && *bytes != own)?;
    Some(format!("it is {kind}; {advice}").into())
}
