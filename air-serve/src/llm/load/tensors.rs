//! Tensors of safetensors files, read by name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::Deserialize;

use super::file;
use crate::llm::error::{LlmError, Shape};
use crate::llm::net::{Matrix, PANEL, Width, widen};

/// The longest header that is read; that of a model of a thousand layers has a few megabytes.
const MAX_HEADER: u64 = 64 << 20;

/// The tensors of a model's directory.
#[derive(Debug)]
pub(crate) struct Tensors {
    directory: PathBuf,
    files: Vec<(PathBuf, File)>,
    places: BTreeMap<String, Place>,
    /// Whether inputs may be rounded to the width of the weights.
    rounds: bool,
}

#[derive(Debug)]
struct Place {
    file: usize,
    /// From the beginning of the file.
    offset: u64,
    info: TensorInfo,
}

/// What `model.safetensors.index.json` holds.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Tensors {
    /// Reads the headers of `model.safetensors`, or of the files that `model.safetensors.index.json` names.
    pub(crate) fn open(directory: &Path, rounds: bool) -> Result<Self, LlmError> {
        let index = directory.join("model.safetensors.index.json");
        let names: BTreeSet<String> = if index.exists() {
            file::json::<Index>(&index, "it says which file holds which tensor")?
                .weight_map
                .into_values()
                .collect()
        } else {
            ["model.safetensors".to_owned()].into()
        };
        let mut tensors =
            Tensors { directory: directory.to_owned(), files: Vec::new(), places: BTreeMap::new(), rounds };
        for name in names {
            if Path::new(&name).file_name() != Some(name.as_ref()) {
                let reason = format!("names the file {name:?}, which is not one of the same directory");
                return Err(LlmError::Setting { path: index, key: "weight_map", reason });
            }
            tensors.add(directory.join(name))?;
        }
        Ok(tensors)
    }

    fn add(&mut self, path: PathBuf) -> Result<(), LlmError> {
        let hint = "the weights, as transformers' `save_pretrained` writes them";
        let mut open = file::open(&path, hint)?;
        let unread = |source| LlmError::Read { path: path.clone(), source };
        let broken = |reason| LlmError::Safetensors { path: path.clone(), reason };
        let size = open.metadata().map_err(unread)?.len();
        let mut head = [0; 8];
        if size < 8 {
            return Err(broken(format!("it has {size} bytes, its header alone would have more")));
        }
        open.read_exact(&mut head).map_err(unread)?;
        let length = u64::from_le_bytes(head);
        if length > MAX_HEADER || length > size - 8 {
            return Err(broken(format!("its header should have {length} bytes, the file has {size}")));
        }
        let mut header = vec![0; length as usize];
        open.read_exact(&mut header).map_err(unread)?;
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|error| broken(format!("its header: {error}")))?;
        let expected = 8 + length + metadata.data_len() as u64;
        if size != expected {
            return Err(broken(format!("it has {size} bytes, its header says {expected}")));
        }
        let file = self.files.len();
        for (name, info) in metadata.tensors() {
            let offset = 8 + length + info.data_offsets.0 as u64;
            self.places.insert(name, Place { file, offset, info: info.clone() });
        }
        self.files.push((path, open));
        Ok(())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Where a tensor of this shape is, and how wide its numbers are.
    fn find(&self, name: &str, shape: &[usize]) -> Result<(&Place, Width), LlmError> {
        let place = self.places.get(name).ok_or_else(|| LlmError::NoTensor {
            tensor: name.to_owned(),
            expected: Shape(shape.to_vec()),
            directory: self.directory.clone(),
        })?;
        if place.info.shape != shape {
            return Err(LlmError::Shape {
                tensor: name.to_owned(),
                expected: Shape(shape.to_vec()),
                found: Shape(place.info.shape.clone()),
            });
        }
        let width = match place.info.dtype {
            Dtype::F32 => Width::F32,
            Dtype::BF16 => Width::Bf16,
            Dtype::F16 => Width::F16,
            other => {
                return Err(LlmError::Dtype { tensor: name.to_owned(), found: other.to_string() });
            }
        };
        Ok((place, width))
    }

    fn read(&self, place: &Place, skip: u64, to: &mut [u8]) -> Result<(), LlmError> {
        let (path, file) = &self.files[place.file];
        let mut file: &File = file;
        let read = file.seek(SeekFrom::Start(place.offset + skip)).and_then(|_| file.read_exact(to));
        read.map_err(|source| LlmError::Read { path: path.clone(), source })
    }

    /// A matrix of that shape.
    pub(crate) fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix, LlmError> {
        self.stack(&[(name, rows)], cols)
    }

    /// Matrices below one another, of 32 bits where their widths differ.
    pub(crate) fn stack(&self, parts: &[(&str, usize)], cols: usize) -> Result<Matrix, LlmError> {
        let found = parts.iter().map(|(name, rows)| self.find(name, &[*rows, cols]));
        let found: Vec<(&Place, Width)> = found.collect::<Result<_, _>>()?;
        let width = found.first().map_or(Width::F32, |(_, width)| *width);
        let width = if found.iter().all(|(_, each)| *each == width) { width } else { Width::F32 };
        let all = parts.iter().map(|(_, rows)| rows).sum();
        let mut matrix = Matrix::zeros(width, all, cols).rounding(self.rounds);
        let (mut first, mut buffer) = (0, Vec::new());
        for ((place, each), (_, rows)) in found.into_iter().zip(parts) {
            let row_bytes = cols * each.bytes();
            for row in (0..*rows).step_by(PANEL) {
                buffer.resize(PANEL.min(rows - row) * row_bytes, 0);
                self.read(place, (row * row_bytes) as u64, &mut buffer)?;
                if each == width {
                    matrix.fill(first + row, &buffer);
                } else {
                    matrix.fill(first + row, bytemuck::cast_slice(&widen(each, &buffer)));
                }
            }
            first += rows;
        }
        Ok(matrix)
    }

    /// A vector of that length.
    pub(crate) fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, LlmError> {
        let (place, width) = self.find(name, &[len])?;
        let mut bytes = vec![0; len * width.bytes()];
        self.read(place, 0, &mut bytes)?;
        Ok(widen(width, &bytes))
    }

    /// Vectors one after another; if the first is not there, none.
    pub(crate) fn join(&self, parts: &[(&str, usize)]) -> Result<Vec<f32>, LlmError> {
        match parts.first() {
            Some((first, _)) if self.has(first) => {
                let read = parts.iter().map(|(name, len)| self.vector(name, *len));
                Ok(read.collect::<Result<Vec<_>, _>>()?.concat())
            }
            _ => Ok(Vec::new()),
        }
    }
}
