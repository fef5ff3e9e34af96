//! Images, PNG and JPEG: a row for each file, decoded into a tensor of height, width and channels; and the other way round.

use std::io::Cursor;
use std::sync::Arc;

use air_core::BoxError;
use arrow::array::{
    ArrayRef, FixedSizeListArray, Int32Array, ListArray, RecordBatch, StructArray, UInt8Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, ExtendedColorType, ImageEncoder, ImageReader, Limits};
use serde::{Deserialize, Serialize};

use super::{FileBytes, Format, VALUE_BYTES, Want, batch};
use crate::error::{DataError, Result as DataResult};
use crate::tensors::TensorColumns;

/// What an image is decoded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageMode {
    /// One channel: how bright it is.
    Gray,
    /// Three channels.
    #[default]
    Rgb,
    /// Three channels, and how opaque it is.
    Rgba,
}

impl ImageMode {
    fn channels(self) -> u32 {
        match self {
            Self::Gray => 1,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }
}

/// Settings for reading images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageOptions {
    /// The channels of the tensor.
    pub mode: ImageMode,
    /// The height and the width, in pixels, that all images are scaled to, so that their tensors have one shape; each keeps its own when absent.
    pub size: Option<(u32, u32)>,
    /// An image with more pixels is an error, and is not decoded: a small file can hold a very large one.
    pub max_pixels: u64,
}

impl Default for ImageOptions {
    fn default() -> Self {
        Self { mode: ImageMode::default(), size: None, max_pixels: 1 << 26 }
    }
}

impl ImageOptions {
    /// Checks every field's range.
    ///
    /// # Errors
    /// [`DataError::Config`] names the first field that is out of range.
    pub fn validate(&self) -> DataResult<()> {
        let bad = |field, reason: &str| Err(DataError::Config { field, reason: reason.to_owned() });
        if !(1..=1 << 28).contains(&self.max_pixels) {
            return bad("max_pixels", "between 1 and 268435456");
        }
        match self.size {
            Some((0, _) | (_, 0)) => bad("size", "at least one pixel high and wide"),
            Some((height, width)) if u64::from(height) * u64::from(width) > self.max_pixels => {
                bad("size", "no more pixels than max_pixels")
            }
            _ => Ok(()),
        }
    }

    /// The column: a tensor of one shape for all rows, or each row's values and shape.
    fn field(&self) -> Field {
        let channels = self.mode.channels();
        let (kind, name, about) = match self.size {
            Some((height, width)) => {
                let values = (height * width * channels) as i32;
                let kind = DataType::new_fixed_size_list(DataType::UInt8, values, false);
                (kind, "arrow.fixed_shape_tensor", format!("{{\"shape\":[{height},{width},{channels}]}}"))
            }
            None => (
                DataType::Struct(fields()),
                "arrow.variable_shape_tensor",
                format!("{{\"dim_names\":[\"H\",\"W\",\"C\"],\"uniform_shape\":[null,null,{channels}]}}"),
            ),
        };
        let metadata = [
            ("ARROW:extension:name".to_owned(), name.to_owned()),
            ("ARROW:extension:metadata".to_owned(), about),
        ];
        Field::new("image", kind, false).with_metadata(metadata.into())
    }
}

fn fields() -> Fields {
    let data = Field::new("data", DataType::new_list(DataType::UInt8, false), false);
    let shape = Field::new("shape", DataType::new_fixed_size_list(DataType::Int32, 3, false), false);
    vec![data, shape].into()
}

#[derive(Debug)]
pub(super) struct Images(pub(super) ImageOptions);

impl Format for Images {
    fn name(&self) -> &'static str {
        "images"
    }

    fn look(&self, _: FileBytes) -> BoxFuture<'static, Result<Schema, BoxError>> {
        futures::future::ready(Ok(Schema::new(vec![self.0.field()]))).boxed()
    }

    fn open(&self, file: FileBytes, want: Want) -> BoxStream<'static, Result<RecordBatch, BoxError>> {
        let options = self.0.clone();
        let row = async move {
            // A file whose image nobody wants is a row all the same.
            if want.columns.fields().is_empty() {
                return batch(want.columns, Vec::new(), 1);
            }
            if file.size() > VALUE_BYTES {
                return Err(format!("{} bytes; an image has at most {VALUE_BYTES}", file.size()).into());
            }
            let image = decode(&file.whole().await?, &options)?;
            batch(want.columns, vec![column(image, &options)?], 1)
        };
        futures::stream::once(row).boxed()
    }
}

fn decode(bytes: &[u8], options: &ImageOptions) -> Result<DynamicImage, BoxError> {
    let reader = || ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let (width, height) = reader()?.into_dimensions()?;
    let pixels = u64::from(width) * u64::from(height);
    if pixels > options.max_pixels {
        return Err(format!(
            "{height} by {width} pixels; at most {} are decoded (max_pixels)",
            options.max_pixels
        )
        .into());
    }
    let mut limits = Limits::default();
    // Up to four channels of two bytes, and as much again to decode them in.
    limits.max_alloc = Some(16 * pixels + (1 << 20));
    let mut reader = reader()?;
    reader.limits(limits);
    let image = reader.decode()?;
    Ok(match options.size {
        Some((height, width)) if (image.height(), image.width()) != (height, width) => {
            image.resize_exact(width, height, FilterType::Triangle)
        }
        _ => image,
    })
}

fn column(image: DynamicImage, options: &ImageOptions) -> Result<ArrayRef, BoxError> {
    let (height, width, channels) = (image.height(), image.width(), options.mode.channels());
    let values = match options.mode {
        ImageMode::Gray => image.into_luma8().into_raw(),
        ImageMode::Rgb => image.into_rgb8().into_raw(),
        ImageMode::Rgba => image.into_rgba8().into_raw(),
    };
    let length = i32::try_from(values.len())?;
    let item = |kind| Arc::new(Field::new("item", kind, false));
    let values: ArrayRef = Arc::new(UInt8Array::from(values));
    if options.size.is_some() {
        return Ok(Arc::new(FixedSizeListArray::try_new(item(DataType::UInt8), length, values, None)?));
    }
    let ends = OffsetBuffer::new(vec![0, length].into());
    let data: ArrayRef = Arc::new(ListArray::try_new(item(DataType::UInt8), ends, values, None)?);
    let shape = Int32Array::from(vec![i32::try_from(height)?, i32::try_from(width)?, channels as i32]);
    let shape: ArrayRef =
        Arc::new(FixedSizeListArray::try_new(item(DataType::Int32), 3, Arc::new(shape), None)?);
    Ok(Arc::new(StructArray::try_new(fields(), vec![data, shape], None)?))
}

/// The only column of a batch of one row as the bytes of a file.
#[derive(Debug)]
pub(crate) struct Picture {
    column: String,
    /// JPEG of this quality; without one PNG.
    jpeg_quality: Option<u8>,
    bytes: Vec<u8>,
}

impl Picture {
    pub(crate) fn new(schema: &SchemaRef, jpeg_quality: Option<u8>) -> Result<Self, BoxError> {
        let [field] = &schema.fields()[..] else {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(
                format!("an image is one column, and there are {}; select one", names.join(", ")).into()
            );
        };
        let values = match field.data_type() {
            DataType::Struct(parts) => match parts.find("data").map(|(_, data)| data.data_type()) {
                Some(DataType::List(item)) => item.data_type(),
                _ => field.data_type(),
            },
            mut kind => {
                while let DataType::FixedSizeList(item, _) = kind {
                    kind = item.data_type();
                }
                kind
            }
        };
        if *values != DataType::UInt8 || values == field.data_type() {
            let (name, kind) = (field.name(), field.data_type());
            return Err(format!("'{name}' is {kind}, and an image is a tensor of 8-bit integers").into());
        }
        Ok(Self { column: field.name().clone(), jpeg_quality, bytes: Vec::new() })
    }

    pub(crate) fn write(&mut self, row: &RecordBatch) -> Result<(), BoxError> {
        let tensor = match row.column(0).data_type() {
            DataType::Struct(_) => row.ragged(&self.column)?.get(0).ok_or("a batch without a row")?,
            _ => row.tensor(&self.column)?.select(0, 0)?,
        };
        let (height, width, channels) = match tensor.shape()[..] {
            [height, width] => (height, width, 1),
            [height, width, channels] => (height, width, channels),
            _ => return Err(format!("a tensor of shape {:?} is no image", tensor.shape()).into()),
        };
        let color = match channels {
            1 => ExtendedColorType::L8,
            3 => ExtendedColorType::Rgb8,
            4 if self.jpeg_quality.is_none() => ExtendedColorType::Rgba8,
            _ => {
                let can = if self.jpeg_quality.is_some() { "1 or 3" } else { "1, 3 or 4" };
                return Err(
                    format!("an image of {channels} channels, the last axis; {can} can be written").into()
                );
            }
        };
        let (width, height) = (u32::try_from(width)?, u32::try_from(height)?);
        let tensor = tensor.contiguous()?;
        let pixels = tensor.as_slice::<u8>()?;
        match self.jpeg_quality {
            Some(quality) => JpegEncoder::new_with_quality(&mut self.bytes, quality)
                .write_image(pixels, width, height, color)?,
            None => PngEncoder::new(&mut self.bytes).write_image(pixels, width, height, color)?,
        }
        Ok(())
    }

    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}
