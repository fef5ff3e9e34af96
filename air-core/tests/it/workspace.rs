//! Invariants that the workspace's own files hold.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use toml::Table;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// A worker's panic becomes a typed exit, which `abort` would make impossible.
#[test]
fn invariant_a6_every_profile_unwinds() {
    let manifest: Table = fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let profiles = manifest["profile"].as_table().unwrap();
    for name in ["dev", "release"] {
        assert_eq!(profiles[name]["panic"].as_str(), Some("unwind"), "profile {name}");
    }
    for (name, profile) in profiles {
        let panic = profile.get("panic").and_then(toml::Value::as_str);
        assert!(matches!(panic, None | Some("unwind")), "profile {name}");
    }
}

#[test]
fn invariant_a8_only_the_wire_module_names_bincode() {
    let manifest: Table = fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let mut naming = Vec::new();
    for member in manifest["workspace"]["members"].as_array().unwrap() {
        let mut files = Vec::new();
        rust_files(&root().join(member.as_str().unwrap()), &mut files);
        naming
            .extend(files.into_iter().filter(|file| fs::read_to_string(file).unwrap().contains("bincode::")));
    }
    // This file has to name it as well.
    naming.retain(|file| !file.ends_with("tests/it/workspace.rs"));
    assert_eq!(naming, [root().join("air-core/src/wire.rs")]);
}
