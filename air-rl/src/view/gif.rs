//! Pictures as an animation.

use std::io::Write;

use gif::{DisposalMethod, Encoder, EncodingError, Frame, Repeat};

use super::canvas::Canvas;
use crate::error::{Check, Result};

/// What an animation is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GifConfig {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Pictures a second; the format counts in hundredths of a second, and players take less than two of them for ten.
    pub fps: f64,
}

impl Default for GifConfig {
    fn default() -> Self {
        Self { width: 320, height: 240, fps: 30.0 }
    }
}

impl GifConfig {
    /// The first setting out of its range, as an error.
    pub fn validate(&self) -> Result<()> {
        let side = |field, pixels| {
            Check::at(field, (16..=2048).contains(&pixels), "must be between 16 and 2048 pixels")
        };
        side("width", self.width)?;
        side("height", self.height)?;
        Check::at("fps", (1.0..=50.0).contains(&self.fps), "must be between 1 and 50 pictures a second")
    }

    /// How long a picture is shown, in hundredths of a second.
    fn delay(&self) -> u16 {
        (100.0 / self.fps).round() as u16
    }
}

/// Writes an animation picture by picture; it is shown over and over.
pub struct GifWriter<W: Write> {
    encoder: Encoder<W>,
    config: GifConfig,
    last: Option<Canvas>,
}

impl<W: Write> GifWriter<W> {
    /// Begins an animation.
    pub fn new(to: W, config: GifConfig) -> Result<Self, EncodingError> {
        let (width, height) = (config.width as u16, config.height as u16);
        let mut encoder = Encoder::new(to, width, height, Canvas::palette().as_flattened())?;
        encoder.set_repeat(Repeat::Infinite)?;
        Ok(Self { encoder, config, last: None })
    }

    /// Adds a picture of [`GifConfig::width`] × [`GifConfig::height`]; only what differs from the last one is written.
    pub fn add(&mut self, canvas: Canvas) -> Result<(), EncodingError> {
        let [left, top, width, height] = match &self.last {
            Some(last) => changed(last, &canvas),
            None => [0, 0, canvas.width(), canvas.height()],
        };
        let rows = canvas.pixels().chunks_exact(canvas.width()).skip(top).take(height);
        let frame = Frame {
            delay: self.config.delay(),
            dispose: DisposalMethod::Keep,
            left: left as u16,
            top: top as u16,
            width: width as u16,
            height: height as u16,
            buffer: rows.flat_map(|row| &row[left..left + width]).copied().collect(),
            ..Frame::default()
        };
        self.last = Some(canvas);
        self.encoder.write_frame(&frame)
    }

    /// Ends the animation.
    pub fn finish(self) -> Result<W, EncodingError> {
        self.encoder.into_inner()
    }
}

/// Left, top, width and height of what differs; one pixel if nothing does.
fn changed(last: &Canvas, next: &Canvas) -> [usize; 4] {
    let width = next.width();
    let differ = last.pixels().iter().zip(next.pixels()).enumerate().filter(|(_, (a, b))| a != b);
    let places = differ.map(|(i, _)| [i % width, i / width]);
    let bounds = places.fold(None, |bounds: Option<[usize; 4]>, [x, y]| match bounds {
        None => Some([x, y, x, y]),
        Some([l, t, r, b]) => Some([l.min(x), t.min(y), r.max(x), b.max(y)]),
    });
    bounds.map_or([0, 0, 1, 1], |[l, t, r, b]| [l, t, r - l + 1, b - t + 1])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::scene::{Colour, Scene};
    use super::*;

    fn dot(x: f32) -> Canvas {
        let mut scene = Scene::new([0.0, 0.0], [32.0, 16.0]);
        scene.rectangle([x, 4.0], [x + 2.0, 6.0], Colour::Red);
        Canvas::draw(&scene, 32, 16)
    }

    #[test]
    fn only_what_changes_is_written_and_everything_is_seen() {
        let config = GifConfig { width: 32, height: 16, fps: 25.0 };
        let mut writer = GifWriter::new(Vec::new(), config).unwrap();
        let pictures = [dot(3.0), dot(10.0), dot(10.0)];
        for picture in &pictures {
            writer.add(picture.clone()).unwrap();
        }
        let bytes = writer.finish().unwrap();

        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::Indexed);
        let mut read = options.read_info(&bytes[..]).unwrap();
        assert_eq!((read.width(), read.height()), (32, 16));
        let mut seen = [0; 32 * 16];
        let mut places = Vec::new();
        for picture in &pictures {
            let frame = read.read_next_frame().unwrap().unwrap();
            places.push((frame.left, frame.top, frame.width, frame.height));
            assert_eq!(frame.delay, 4);
            for (i, row) in frame.buffer.chunks_exact(frame.width.into()).enumerate() {
                let at = (usize::from(frame.top) + i) * 32 + usize::from(frame.left);
                seen[at..at + row.len()].copy_from_slice(row);
            }
            assert_eq!(seen[..], picture.pixels()[..]);
        }
        assert!(read.read_next_frame().unwrap().is_none());
        assert_eq!(read.repeat(), Repeat::Infinite);
        assert_eq!(places, [(0, 0, 32, 16), (3, 10, 9, 2), (0, 0, 1, 1)]);
    }

    #[test]
    fn sizes_and_rates_have_limits() {
        assert!(GifConfig::default().validate().is_ok());
        for config in [
            GifConfig { width: 15, ..GifConfig::default() },
            GifConfig { height: 4096, ..GifConfig::default() },
            GifConfig { fps: f64::NAN, ..GifConfig::default() },
            GifConfig { fps: 60.0, ..GifConfig::default() },
        ] {
            assert!(config.validate().is_err(), "{config:?}");
        }
    }
}
