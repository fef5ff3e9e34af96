//! Looking at environments: a picture of an observation, for the terminal or a file.
//!
//! | file | idea |
//! |---|---|
//! | `scene.rs` | a drawing: shapes in a plane of its own |
//! | `scenes/` | what an observation of each environment looks like |
//! | `canvas.rs` | a drawing as pixels |
//! | `terminal.rs`, `gif.rs` | pixels as text, and as an animation |
//! | `viewer.rs` | [`Viewer`]: from what a policy sees back to what the environment showed, and to its picture |
//!
//! Pictures are made of observations alone, so what is drawn is what a policy goes by.

mod canvas;
mod gif;
mod scene;
mod scenes;
mod terminal;
mod viewer;

pub use canvas::Canvas;
pub use gif::{GifConfig, GifWriter};
pub use terminal::text;
pub use viewer::Viewer;
