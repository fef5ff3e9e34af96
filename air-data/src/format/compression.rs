//! [`Compression`]: how files are compressed, and the [`Codec`] that this comes to for one of them.

use serde::{Deserialize, Serialize};

use super::FileFormat;
use crate::error::{DataError, Result};

/// How files are compressed: those of CSV, JSON and text as a whole, those of Parquet column by column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Compression {
    /// As the ending of each path says: `.gz` is gzip, `.zst` is Zstandard, others are not compressed as a whole. Parquet is written with Snappy.
    #[default]
    Auto,
    /// Not at all, whatever the ending.
    None,
    /// Fast, and read everywhere; for writing Parquet.
    Snappy,
    /// The most widely read; RFC 1952, with any number of members.
    Gzip,
    /// Smaller and faster than gzip; RFC 8878, with any number of frames.
    Zstd,
}

impl Compression {
    /// Checks that files of a format can be read so.
    pub(crate) fn check_reading(self, format: &FileFormat) -> Result<()> {
        let reason = match self {
            Self::Snappy => "snappy is for writing Parquet; auto, none, gzip or zstd".to_owned(),
            Self::Gzip | Self::Zstd if !format.is_packable() => format!(
                "only files of CSV, JSON and text are read compressed as a whole, and these are {}",
                format.name()
            ),
            _ => return Ok(()),
        };
        Err(DataError::Config { field: "compression", reason })
    }

    /// Checks that files of a format can be written so.
    pub(crate) fn check_writing(self, format: &FileFormat) -> Result<()> {
        let reason = match self {
            Self::Auto | Self::None => return Ok(()),
            _ if *format == FileFormat::Parquet => return Ok(()),
            Self::Snappy if format.is_packable() => {
                "snappy is for Parquet; auto, none, gzip or zstd".to_owned()
            }
            _ if format.is_packable() => return Ok(()),
            _ => {
                format!("only Parquet, CSV and JSON are written compressed, and these are {}", format.name())
            }
        };
        Err(DataError::Config { field: "compression", reason })
    }

    /// What a file is compressed with as a whole.
    pub(crate) fn of(self, path: &str) -> Option<Codec> {
        match self {
            Self::Auto => Codec::of_path(path).map(|(_, codec)| codec),
            Self::None | Self::Snappy => None,
            Self::Gzip => Some(Codec::Gzip),
            Self::Zstd => Some(Codec::Zstd),
        }
    }

    /// The endings that follow those of a format in directories, each with its dot.
    pub(crate) fn endings(self) -> &'static [&'static str] {
        match self {
            Self::Auto => &["", ".gz", ".zst"],
            Self::None | Self::Snappy => &[""],
            Self::Gzip => &["", ".gz"],
            Self::Zstd => &["", ".zst"],
        }
    }
}

/// What the bytes of a whole file are compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Gzip,
    Zstd,
}

impl Codec {
    pub(crate) const fn ending(self) -> &'static str {
        match self {
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "Zstandard",
        }
    }

    /// What the path's ending says, and the path before it.
    pub(crate) fn of_path(path: &str) -> Option<(&str, Self)> {
        let (stem, ending) = path.rsplit_once('.')?;
        let is = |codec: &Self| codec.ending()[1..].eq_ignore_ascii_case(ending);
        [Self::Gzip, Self::Zstd].into_iter().find(is).map(|codec| (stem, codec))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn endings_say_what_a_file_is_compressed_with() {
        let said = |path| Compression::Auto.of(path);
        assert_eq!(said("a/b.csv.gz"), Some(Codec::Gzip));
        assert_eq!(said("a/b.JSONL.GZ"), Some(Codec::Gzip));
        assert_eq!(said("s3://a/b.txt.zst"), Some(Codec::Zstd));
        assert_eq!(said("a.gz/b.csv"), None);
        assert_eq!(said("gz"), None);
        assert_eq!(Compression::None.of("a.csv.gz"), None);
        assert_eq!(Compression::Zstd.of("a.csv.gz"), Some(Codec::Zstd));
    }

    #[test]
    fn formats_that_are_not_read_compressed_are_named() {
        let told =
            |compression: Compression, format| compression.check_reading(&format).unwrap_err().to_string();
        assert!(told(Compression::Gzip, FileFormat::Npy).ends_with("and these are npy"));
        assert!(told(Compression::Snappy, FileFormat::Json).contains("auto, none, gzip or zstd"));
        assert!(Compression::Auto.check_reading(&FileFormat::Parquet).is_ok());
        assert!(Compression::Zstd.check_reading(&FileFormat::Text).is_ok());
    }
}
