//! The workspace's invariants that can be read off its files.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

const LIBRARIES: [&str; 6] = ["air-core", "air-data", "air-train", "air-tune", "air-serve", "air-rl"];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().into()
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn a1_a_library_depends_on_air_core_only() {
    for library in LIBRARIES {
        let manifest = fs::read_to_string(workspace().join(library).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let ours: Vec<_> = manifest["dependencies"]
            .as_table()
            .unwrap()
            .keys()
            .filter(|name| name.starts_with("air-"))
            .collect();
        match library {
            "air-core" => assert!(ours.is_empty()),
            "air-rl" => assert_eq!(ours, ["air-core", "air-train"]),
            _ => assert_eq!(ours, ["air-core"], "{library}"),
        }
    }
}

#[test]
fn a2_only_the_actor_folder_names_actix() {
    let mut found = Vec::new();
    for library in LIBRARIES {
        sources(&workspace().join(library).join("src"), &mut found);
    }
    let actor = workspace().join("air-core/src/actor");
    let inside = found.iter().filter(|path| path.starts_with(&actor)).count();
    assert!(inside > 10, "the folder has moved: this test checks nothing");
    for path in found.iter().filter(|path| !path.starts_with(&actor)) {
        let text = fs::read_to_string(path).unwrap();
        assert!(!text.contains("actix::") && !text.contains("actix_rt"), "{} names actix", path.display());
    }
}

/// A worker's panic becomes a typed exit, which `abort` would make impossible.
#[test]
fn a6_every_profile_unwinds() {
    let manifest: toml::Table = fs::read_to_string(workspace().join("Cargo.toml")).unwrap().parse().unwrap();
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
fn a8_only_the_wire_module_names_bincode() {
    let mut found = Vec::new();
    for library in LIBRARIES {
        sources(&workspace().join(library).join("src"), &mut found);
    }
    found.retain(|path| fs::read_to_string(path).unwrap().contains("bincode::"));
    assert_eq!(found, [workspace().join("air-core/src/wire.rs")]);
}
