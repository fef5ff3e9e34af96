//! Machine code on disk, so that a kernel is compiled once on a machine and not once in every process.
//!
//! A file holds the whole key beside the code and a checksum over both: what is cut short, damaged, of another
//! kernel, or no such file at all, counts as absent. Files appear whole, by renaming, so processes may share the folder. The ones
//! that were not used for longest go when there is too much.

use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::Hasher;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use siphasher::sip128::{Hasher128, SipHasher24};

/// What is kept at most, and what a file may have.
const LIMIT_BYTES: u64 = 256 << 20;
const MAGIC: &[u8; 16] = b"air kernel 00001";
const PREFIX: &str = "kernel-";

/// Everything that the machine code depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// Each part after its length, so that no two keys read the same.
    bytes: Vec<u8>,
}

impl Key {
    pub(super) fn new(compiler: &str, architecture: &str, options: &[String], source: &str) -> Key {
        let mut bytes = Vec::new();
        let options = options.iter().map(String::as_str);
        for part in [compiler, architecture].into_iter().chain(options).chain([source]) {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        Key { bytes }
    }

    fn file_name(&self) -> String {
        let mut hasher = SipHasher24::new();
        hasher.write(&self.bytes);
        let hash = hasher.finish128();
        format!("{PREFIX}{:016x}{:016x}", hash.h1, hash.h2)
    }
}

/// A folder of machine code.
#[derive(Debug, Clone)]
pub(super) struct ModuleCache {
    folder: PathBuf,
    limit_bytes: u64,
}

impl ModuleCache {
    /// The one of the user who runs this, if there is to be one.
    pub(super) fn of_user() -> Option<ModuleCache> {
        folder(|name| std::env::var_os(name)).map(|folder| ModuleCache::new(folder, LIMIT_BYTES))
    }

    pub(super) fn new(folder: PathBuf, limit_bytes: u64) -> ModuleCache {
        ModuleCache { folder, limit_bytes }
    }

    /// The code kept for this key, if it is there and whole.
    pub(super) fn get(&self, key: &Key) -> Option<Vec<u8>> {
        let file = File::open(self.folder.join(key.file_name())).ok()?;
        let mut bytes = Vec::new();
        (&file).take(self.limit_bytes + 1).read_to_end(&mut bytes).ok()?;
        let code = read(&bytes, key)?.to_vec();
        // It was of use, so it stays longer. Nothing depends on it.
        let _ = file.set_modified(SystemTime::now());
        Some(code)
    }

    /// Keeps code for this key, in place of what is there, and lets go of what is too much.
    pub(super) fn put(&self, key: &Key, code: &[u8]) -> io::Result<()> {
        create(&self.folder)?;
        let mut file = tempfile::Builder::new().prefix(PREFIX).suffix(".part").tempfile_in(&self.folder)?;
        file.write_all(&written(key, code))?;
        file.persist(self.folder.join(key.file_name())).map_err(|error| error.error)?;
        for file in excess(self.kept()?, self.limit_bytes) {
            // Another process may have done so.
            let _ = fs::remove_file(file);
        }
        Ok(())
    }

    fn kept(&self) -> io::Result<Vec<Kept>> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
                continue;
            }
            // Gone meanwhile, if there is none.
            if let Ok(about) = entry.metadata() {
                let used = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                kept.push(Kept { file: entry.path(), bytes: about.len(), used });
            }
        }
        Ok(kept)
    }
}

#[derive(Debug, Clone)]
struct Kept {
    file: PathBuf,
    bytes: u64,
    used: SystemTime,
}

/// What has to go so that the rest is within the limit: what was used longest ago.
fn excess(mut kept: Vec<Kept>, limit_bytes: u64) -> Vec<PathBuf> {
    kept.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.file.cmp(&b.file)));
    let mut total = 0_u64;
    let too_much = kept.iter().position(|kept| {
        total = total.saturating_add(kept.bytes);
        total > limit_bytes
    });
    let from = too_much.unwrap_or(kept.len());
    kept.drain(from..).map(|kept| kept.file).collect()
}

fn written(key: &Key, code: &[u8]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&(key.bytes.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&key.bytes);
    bytes.extend_from_slice(code);
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The code in a file, if it is of this key and whole.
fn read<'a>(bytes: &'a [u8], key: &Key) -> Option<&'a [u8]> {
    let (content, checksum) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let (length, rest) = content.strip_prefix(MAGIC)?.split_first_chunk::<8>()?;
    let (found, code) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    (found == key.bytes && !code.is_empty()).then_some(code)
}

/// Makes a folder that only its owner may write to: what lies in it is run.
fn create(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Where the environment says that machine code is kept.
fn folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(folder) = variable("AIR_KERNEL_CACHE") {
        return (!folder.is_empty()).then(|| folder.into());
    }
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("air/kernels"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    fn key(source: &str) -> Key {
        Key::new("13.0", "sm_90", &["--std=c++17".to_owned()], source)
    }

    #[test]
    fn what_was_put_is_found_by_every_process_and_by_its_key_only() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ModuleCache::new(folder.path().join("new/folder"), 1 << 20);
        assert_eq!(cache.get(&key("a")), None);
        cache.put(&key("a"), b"code of a").unwrap();
        cache.put(&key("b"), b"code of b").unwrap();
        let another = ModuleCache::new(folder.path().join("new/folder"), 1 << 20);
        assert_eq!(another.get(&key("a")).unwrap(), b"code of a");
        cache.put(&key("a"), b"newer code").unwrap();
        assert_eq!(another.get(&key("a")).unwrap(), b"newer code");
        let options = ["--std=c++17".to_owned()];
        for other in [
            Key::new("12.9", "sm_90", &options, "a"),
            Key::new("13.0", "sm_80", &options, "a"),
            Key::new("13.0", "sm_90", &[], "a"),
            Key::new("13.0", "sm_90", &[], "--std=c++17a"),
            key("c"),
        ] {
            assert_eq!(another.get(&other), None, "{other:?}");
        }
    }

    #[test]
    fn what_is_cut_short_damaged_or_of_another_kernel_counts_as_absent() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ModuleCache::new(folder.path().to_owned(), 1 << 20);
        let file = folder.path().join(key("a").file_name());
        let whole = written(&key("a"), b"code");
        for length in 0..whole.len() {
            fs::write(&file, &whole[..length]).unwrap();
            assert_eq!(cache.get(&key("a")), None, "the first {length} bytes");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&file, &damaged).unwrap();
            assert_eq!(cache.get(&key("a")), None, "byte {at}");
        }
        // As a collision of the hash would have it.
        fs::write(&file, written(&key("b"), b"code")).unwrap();
        assert_eq!(cache.get(&key("a")), None);
        fs::write(&file, &whole).unwrap();
        assert_eq!(cache.get(&key("a")).unwrap(), b"code");
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let one = written(&key("0"), &[7; 1000]).len() as u64;
        let cache = ModuleCache::new(folder.path().to_owned(), 3 * one + one / 2);
        let touch = |name: &str, seconds| {
            let file = File::options().write(true).open(folder.path().join(key(name).file_name())).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
        };
        for (at, name) in ["0", "1", "2"].into_iter().enumerate() {
            cache.put(&key(name), &[7; 1000]).unwrap();
            touch(name, at as u64);
        }
        assert!(cache.get(&key("0")).is_some()); // used now, so "1" is the oldest
        fs::write(folder.path().join("notes.txt"), [0; 9000]).unwrap(); // not ours: neither counted nor removed
        cache.put(&key("3"), &[7; 1000]).unwrap();
        let there = ["0", "1", "2", "3"].map(|name| cache.get(&key(name)).is_some());
        assert_eq!(there, [true, false, true, true]);
        assert!(folder.path().join("notes.txt").exists());
    }

    #[test]
    fn the_folder_is_the_users_unless_another_is_named() {
        let at = |set: &[(&str, &str)]| {
            let find = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into());
            folder(find)
        };
        assert_eq!(at(&[("HOME", "/home/me")]), Some("/home/me/.cache/air/kernels".into()));
        assert_eq!(at(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")]), Some("/c/air/kernels".into()));
        assert_eq!(
            at(&[("HOME", "/h"), ("XDG_CACHE_HOME", "relative")]),
            Some("/h/.cache/air/kernels".into())
        );
        assert_eq!(at(&[("HOME", "/h"), ("AIR_KERNEL_CACHE", "/k")]), Some("/k".into()));
        assert_eq!(at(&[("HOME", "/h"), ("AIR_KERNEL_CACHE", "")]), None);
        assert_eq!(at(&[]), None);
    }
}
