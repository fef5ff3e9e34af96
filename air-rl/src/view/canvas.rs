//! A drawing as pixels.

use super::scene::{Colour, Point, Scene, Shape};

/// Pixels, each the number of a colour in [`Canvas::palette`], row by row from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    /// Colours by number: red, green, blue.
    pub fn palette() -> &'static [[u8; 3]] {
        &super::scene::PALETTE
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The numbers of the colours, row by row from the top.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The number of a pixel's colour; white outside.
    pub fn pixel(&self, column: usize, row: usize) -> u8 {
        if column < self.width { self.pixels.get(row * self.width + column).copied().unwrap_or(0) } else { 0 }
    }

    /// The scene within `width × height` pixels (at least 1 × 1), as large as fits without distorting it, in the middle. A pixel has the
    /// colour of what covers its middle; no shape is thinner than a pixel.
    pub(super) fn draw(scene: &Scene, width: usize, height: usize) -> Self {
        let (width, height) = (width.max(1), height.max(1));
        let mut canvas = Self { width, height, pixels: vec![Colour::White as u8; width * height] };
        let (w, h) = (scene.high[0] - scene.low[0], scene.high[1] - scene.low[1]);
        let scale = (width as f32 / w).min(height as f32 / h);
        let middle = [f32::midpoint(scene.low[0], scene.high[0]), f32::midpoint(scene.low[1], scene.high[1])];
        let place = |p: Point| {
            [
                width as f32 / 2.0 + (p[0] - middle[0]) * scale,
                height as f32 / 2.0 - (p[1] - middle[1]) * scale,
            ]
        };
        for (shape, colour) in &scene.shapes {
            match shape {
                Shape::Line { from, to, width } => {
                    let (a, b, r) = (place(*from), place(*to), (width * scale / 2.0).max(0.5));
                    canvas.fill([a, b], r, *colour, |p| distance(p, a, b) <= r);
                }
                Shape::Disc { at, radius } => {
                    let (at, r) = (place(*at), (radius * scale).max(0.71));
                    canvas.fill([at, at], r, *colour, |p| distance(p, at, at) <= r);
                }
                Shape::Polygon(corners) => {
                    let corners: Vec<Point> = corners.iter().map(|&p| place(p)).collect();
                    let (mut low, mut high) = ([f32::MAX; 2], [f32::MIN; 2]);
                    for corner in &corners {
                        for axis in 0..2 {
                            low[axis] = low[axis].min(corner[axis]);
                            high[axis] = high[axis].max(corner[axis]);
                        }
                    }
                    canvas.fill([low, high], 0.0, *colour, |p| inside(p, &corners));
                }
            }
        }
        canvas
    }

    /// Colours the pixels that are `covered`, among those within `margin` of a box.
    fn fill(&mut self, corners: [Point; 2], margin: f32, colour: Colour, covered: impl Fn(Point) -> bool) {
        let span = |axis: usize, most: usize| {
            let (a, b) = (corners[0][axis], corners[1][axis]);
            // Casts saturate: what lies outside, or is not a number, is cut off at the border.
            let low = (a.min(b) - margin).floor() as usize;
            low.min(most)..((a.max(b) + margin).ceil() as usize).min(most)
        };
        for row in span(1, self.height) {
            for column in span(0, self.width) {
                if covered([column as f32 + 0.5, row as f32 + 0.5]) {
                    self.pixels[row * self.width + column] = colour as u8;
                }
            }
        }
    }
}

/// How far a point is from a segment.
fn distance(p: Point, a: Point, b: Point) -> f32 {
    let (along, to) = ([b[0] - a[0], b[1] - a[1]], [p[0] - a[0], p[1] - a[1]]);
    let square = along[0] * along[0] + along[1] * along[1];
    let t = if square > 0.0 { ((to[0] * along[0] + to[1] * along[1]) / square).clamp(0.0, 1.0) } else { 0.0 };
    (to[0] - t * along[0]).hypot(to[1] - t * along[1])
}

/// Is a point on one side of all edges?
fn inside(p: Point, corners: &[Point]) -> bool {
    let sides = corners
        .iter()
        .zip(corners.iter().cycle().skip(1))
        .map(|(a, b)| (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0]));
    let (mut left, mut right) = (false, false);
    for side in sides {
        left |= side < 0.0;
        right |= side > 0.0;
    }
    !(left && right)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(canvas: &Canvas) -> Vec<String> {
        let letter = |&pixel: &u8| if pixel == 0 { '.' } else { char::from(b'0' + pixel) };
        canvas.pixels.chunks(canvas.width).map(|row| row.iter().map(letter).collect()).collect()
    }

    #[test]
    fn shapes_lie_where_they_are_put_one_over_another() {
        let mut scene = Scene::new([0.0, 0.0], [6.0, 4.0]);
        scene.rectangle([0.0, 0.0], [3.0, 2.0], Colour::Black);
        scene.disc([4.5, 2.5], 0.6, Colour::Red);
        scene.line([0.5, 0.5], [2.5, 0.5], 0.2, Colour::Green);
        assert_eq!(rows(&Canvas::draw(&scene, 6, 4)), ["......", "....5.", "111...", "666..."]);
    }

    #[test]
    fn a_scene_is_not_distorted_and_lies_in_the_middle() {
        let mut scene = Scene::new([-1.0, -1.0], [1.0, 1.0]);
        scene.rectangle([-1.0, -1.0], [1.0, 1.0], Colour::Blue);
        assert_eq!(rows(&Canvas::draw(&scene, 6, 2)), ["..77..", "..77.."]);
    }

    #[test]
    fn what_is_outside_or_no_number_is_not_drawn() {
        let mut scene = Scene::new([0.0, 0.0], [2.0, 2.0]);
        scene.disc([1e30, -1e30], 1.0, Colour::Red);
        scene.line([f32::NAN, 0.0], [1.0, 1.0], 1.0, Colour::Red);
        scene.disc([-5.0, 1.0], 1.0, Colour::Red);
        assert_eq!(rows(&Canvas::draw(&scene, 2, 2)), ["..", ".."]);
    }
}
