//! Games on planes of pixels.

use crate::view::scene::{Colour, Scene};

/// Rows and columns.
const SIDE: usize = 10;

/// A colour for each plane, the first planes in front.
pub(super) const BREAKOUT: [Colour; 4] = [Colour::Black, Colour::Red, Colour::Light, Colour::Wood];
pub(super) const ASTERIX: [Colour; 4] = [Colour::Blue, Colour::Red, Colour::Yellow, Colour::Light];
pub(super) const FREEWAY: [Colour; 7] =
    [Colour::Blue, Colour::Red, Colour::Light, Colour::Light, Colour::Light, Colour::Light, Colour::Light];

pub(super) fn planes(colours: &[Colour], obs: &[f32]) -> Scene {
    let side = SIDE as f32;
    let mut scene = Scene::new([-0.2, -0.2], [side + 0.2, side + 0.2]);
    scene.rectangle([-0.1, -0.1], [side + 0.1, side + 0.1], Colour::Grey);
    scene.rectangle([0.0, 0.0], [side, side], Colour::White);
    for (plane, colour) in obs.chunks(SIDE * SIDE).zip(colours).rev() {
        for (i, _) in plane.iter().enumerate().filter(|(_, lit)| **lit > 0.5) {
            let (x, y) = ((i % SIDE) as f32, (SIDE - 1 - i / SIDE) as f32);
            scene.rectangle([x, y], [x + 1.0, y + 1.0], *colour);
        }
    }
    scene
}
