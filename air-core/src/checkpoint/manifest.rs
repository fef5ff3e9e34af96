//! [`Manifest`]: what a checkpoint consists of. It is written last, so its presence is what makes one complete.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::CheckpointError;

/// The file a checkpoint is complete with.
pub(super) const MANIFEST: &str = "manifest.json";
/// The file that reserves a checkpoint's number; created, never replaced.
pub(super) const CLAIM: &str = "claim";
/// The format this version writes, and the last it reads.
pub(super) const FORMAT: u32 = 1;

/// No manifest is larger: 4 MiB.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// No checkpoint has more files.
pub const MAX_FILES: usize = 10_000;
/// No checkpoint has more metrics.
pub const MAX_METRICS: usize = 10_000;
/// No file has a longer name, in bytes.
const MAX_NAME_BYTES: usize = 512;
/// No reason for which one was refused is longer, in bytes.
const MAX_REASON_BYTES: usize = 1024;

/// One file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its name, relative to the checkpoint, with `/` between its parts.
    pub name: String,
    /// Its size.
    pub size_bytes: u64,
    /// The CRC-32C of its content.
    pub crc32c: u32,
}

/// What was saved. Two equal saves give equal manifests: there is no time in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of this format.
    pub format: u32,
    /// How far the run was; the unit is the run's own.
    pub step: u64,
    /// How well it did. NaN and the infinities are kept.
    #[serde(with = "any_float")]
    pub metrics: BTreeMap<String, f64>,
    /// The files, in the order they were saved.
    pub files: Vec<FileEntry>,
}

/// The manifest with its own checksum, over its text as it stands.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed<'a> {
    crc32c: String,
    #[serde(borrow)]
    manifest: &'a RawValue,
}

#[derive(Deserialize)]
struct Version {
    format: u32,
}

impl Manifest {
    /// Checks what a caller wants to save.
    pub(super) fn check(&self) -> Result<(), CheckpointError> {
        let limited = |what, count, limit| {
            if count > limit { Err(CheckpointError::TooMany { what, count, limit }) } else { Ok(()) }
        };
        limited("files", self.files.len(), MAX_FILES)?;
        limited("metrics", self.metrics.len(), MAX_METRICS)?;
        let mut seen = BTreeSet::new();
        for file in &self.files {
            let reason = match wrong_name(&file.name) {
                None if seen.insert(&file.name) => continue,
                None => "two files have it",
                Some(reason) => reason,
            };
            return Err(CheckpointError::BadName { file: file.name.clone(), reason });
        }
        Ok(())
    }

    pub(super) fn to_text(&self) -> Result<String, serde_json::Error> {
        let manifest = serde_json::to_string_pretty(self)?;
        let crc = crc32c::crc32c(manifest.as_bytes());
        Ok(format!("{{\n\"crc32c\": \"{crc:08x}\",\n\"manifest\": {manifest}\n}}\n"))
    }

    /// Reads a `manifest.json`, which may have been cut short, altered, or written by someone else; `checkpoint` is what errors call it.
    ///
    /// Takes memory in proportion to the text, of which a checkpoint's reader takes at most [`MAX_MANIFEST_BYTES`].
    ///
    /// # Errors
    /// [`CheckpointError::Corrupt`] where it is no manifest of ours or its checksum is another; [`CheckpointError::NewerFormat`].
    pub fn from_text(text: &[u8], checkpoint: &str) -> Result<Self, CheckpointError> {
        let corrupt = |reason: String| CheckpointError::Corrupt {
            checkpoint: checkpoint.into(),
            file: MANIFEST.into(),
            reason: cut(reason),
        };
        let not_json = |error: serde_json::Error| corrupt(format!("cannot be read: {error}"));
        let sealed: Sealed = serde_json::from_slice(text).map_err(not_json)?;
        let inner = sealed.manifest.get();
        let found = format!("{:08x}", crc32c::crc32c(inner.as_bytes()));
        if found != sealed.crc32c {
            return Err(corrupt(format!("has checksum {found}, {} was saved", sealed.crc32c)));
        }
        let Version { format } = serde_json::from_str(inner).map_err(not_json)?;
        if format > FORMAT {
            return Err(CheckpointError::NewerFormat {
                checkpoint: checkpoint.into(),
                format,
                supported: FORMAT,
            });
        }
        let manifest: Self = serde_json::from_str(inner).map_err(not_json)?;
        manifest.check().map_err(|error| corrupt(format!("is not one of ours: {error}")))?;
        Ok(manifest)
    }
}

/// What the text is quoted with: as much as helps, whatever somebody wrote there.
fn cut(mut reason: String) -> String {
    if reason.len() > MAX_REASON_BYTES {
        reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
        reason.push('…');
    }
    reason
}

fn wrong_name(name: &str) -> Option<&'static str> {
    if name == MANIFEST || name == CLAIM {
        return Some("it is reserved");
    }
    if name.len() > MAX_NAME_BYTES {
        return Some("it is too long");
    }
    if name.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Some("it must be a relative path without `.` and `..`");
    }
    if name.chars().any(|c| c.is_control() || c == '\\') {
        return Some("it has a control character or a backslash");
    }
    None
}

/// JSON has no NaN: numbers that are not finite are written as text.
mod any_float {
    use std::collections::BTreeMap;

    use serde::de::{Deserializer, Error as _};
    use serde::ser::Serializer;
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Float<'a> {
        Finite(f64),
        Other(std::borrow::Cow<'a, str>),
    }

    pub fn serialize<S: Serializer>(map: &BTreeMap<String, f64>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(map.iter().map(|(name, value)| {
            let text = || Float::Other(value.to_string().into());
            (name, if value.is_finite() { Float::Finite(*value) } else { text() })
        }))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, f64>, D::Error> {
        let map = BTreeMap::<String, Float>::deserialize(deserializer)?;
        let read = |(name, value)| match value {
            Float::Finite(value) => Ok((name, value)),
            Float::Other(text) => match &*text {
                "NaN" => Ok((name, f64::NAN)),
                "inf" => Ok((name, f64::INFINITY)),
                "-inf" => Ok((name, f64::NEG_INFINITY)),
                text => Err(D::Error::custom(format!("`{text}` is not a number"))),
            },
        };
        map.into_iter().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn manifest() -> Manifest {
        let files = vec![FileEntry { name: "a/b".into(), size_bytes: 3, crc32c: 7 }];
        let metrics = [("loss", 0.1), ("worst", f64::INFINITY), ("least", f64::NEG_INFINITY)];
        let metrics = metrics.map(|(name, value)| (name.to_owned(), value)).into();
        Manifest { format: FORMAT, step: 3, metrics, files }
    }

    #[test]
    fn a_manifest_is_json_that_reads_back() {
        let text = manifest().to_text().unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        assert_eq!(Manifest::from_text(text.as_bytes(), "x").unwrap(), manifest());
        let mut diverged = manifest();
        diverged.metrics.insert("loss".into(), f64::NAN);
        let read = Manifest::from_text(diverged.to_text().unwrap().as_bytes(), "x").unwrap();
        assert!(read.metrics["loss"].is_nan());
    }

    #[test]
    fn a_later_format_is_told_apart_from_damage() {
        let later = Manifest { format: 2, ..manifest() };
        assert_eq!(
            Manifest::from_text(later.to_text().unwrap().as_bytes(), "x").unwrap_err().to_string(),
            "checkpoint `x` has format 2; this version reads formats up to 1"
        );
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let long = "x".repeat(513);
        for (name, reason) in [
            ("manifest.json", "it is reserved"),
            ("claim", "it is reserved"),
            ("", "it must be a relative path without `.` and `..`"),
            ("../x", "it must be a relative path without `.` and `..`"),
            ("/etc/passwd", "it must be a relative path without `.` and `..`"),
            ("a\nb", "it has a control character or a backslash"),
            (&long, "it is too long"),
        ] {
            assert_eq!(wrong_name(name), Some(reason), "{name}");
        }
        let mut twice = manifest();
        twice.files.push(twice.files[0].clone());
        let error = twice.check().unwrap_err();
        assert_eq!(error.to_string(), "`a/b` cannot be the name of a checkpoint's file: two files have it");
    }

    proptest! {
        #[test]
        fn a_flipped_bit_anywhere_is_found(at: prop::sample::Index, bit in 0..8_u32) {
            let mut text = manifest().to_text().unwrap().into_bytes();
            let at = at.index(text.len());
            text[at] ^= 1 << bit;
            // White space outside of the manifest carries nothing, and may change.
            if let Ok(read) = Manifest::from_text(&text, "x") {
                prop_assert_eq!(read, manifest());
            }
        }

        #[test]
        fn garbage_never_panics(text in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Manifest::from_text(&text, "x").is_err());
        }
    }
}
