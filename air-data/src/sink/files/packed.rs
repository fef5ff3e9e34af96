//! [`Packed`]: the bytes of a file, compressed as a whole.

use std::io::Write;

use air_core::BoxError;
use arrow::array::RecordBatch;
use flate2::write::GzEncoder;

use super::encode::Encoder;
use crate::format::Codec;

/// Another encoder, whose bytes are compressed. The same rows make the same bytes: no time is noted.
pub(super) struct Packed {
    inner: Box<dyn Encoder>,
    packer: Packer,
}

enum Packer {
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::Encoder<'static, Vec<u8>>),
}

impl Packed {
    /// With the levels that the command lines of both have, and a checksum.
    pub(super) fn new(inner: Box<dyn Encoder>, codec: Codec) -> std::result::Result<Self, BoxError> {
        let packer = match codec {
            Codec::Gzip => Packer::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::default())),
            Codec::Zstd => {
                let mut encoder = zstd::Encoder::new(Vec::new(), zstd::DEFAULT_COMPRESSION_LEVEL)?;
                encoder.include_checksum(true)?;
                Packer::Zstd(encoder)
            }
        };
        Ok(Self { inner, packer })
    }

    fn pack(&mut self) -> std::io::Result<()> {
        let bytes = self.inner.take();
        match &mut self.packer {
            Packer::Gzip(encoder) => encoder.write_all(&bytes),
            Packer::Zstd(encoder) => encoder.write_all(&bytes),
        }
    }
}

impl Encoder for Packed {
    fn write(&mut self, batch: &RecordBatch) -> std::result::Result<(), BoxError> {
        self.inner.write(batch)?;
        Ok(self.pack()?)
    }

    fn finish(&mut self) -> std::result::Result<(), BoxError> {
        self.inner.finish()?;
        self.pack()?;
        match &mut self.packer {
            Packer::Gzip(encoder) => encoder.try_finish()?,
            Packer::Zstd(encoder) => encoder.do_finish()?,
        }
        Ok(())
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(match &mut self.packer {
            Packer::Gzip(encoder) => encoder.get_mut(),
            Packer::Zstd(encoder) => encoder.get_mut(),
        })
    }
}
