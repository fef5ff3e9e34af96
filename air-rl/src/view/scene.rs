//! A drawing: shapes one over another, in a plane whose unit the drawing chooses.

/// The colours there are: red, green, blue.
pub(super) const PALETTE: [[u8; 3]; 10] = [
    [255, 255, 255],
    [38, 38, 46],
    [128, 132, 140],
    [205, 210, 216],
    [202, 152, 101],
    [204, 77, 77],
    [75, 160, 95],
    [70, 120, 200],
    [235, 195, 60],
    [170, 215, 240],
];

/// One of [`PALETTE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Colour {
    White,
    Black,
    Grey,
    Light,
    Wood,
    Red,
    Green,
    Blue,
    Yellow,
    Ice,
}

/// A point: to the right, and up.
pub(super) type Point = [f32; 2];

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    /// A stroke of some width, with round ends.
    Line {
        from: Point,
        to: Point,
        width: f32,
    },
    Disc {
        at: Point,
        radius: f32,
    },
    /// Convex, its corners in order.
    Polygon(Vec<Point>),
}

/// What is to be seen of the plane, and the shapes in it, the first at the back.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scene {
    /// Lower left corner.
    pub low: Point,
    /// Upper right corner.
    pub high: Point,
    pub shapes: Vec<(Shape, Colour)>,
}

impl Scene {
    pub(super) fn new(low: Point, high: Point) -> Self {
        Self { low, high, shapes: Vec::new() }
    }

    pub(super) fn line(&mut self, from: Point, to: Point, width: f32, colour: Colour) {
        self.shapes.push((Shape::Line { from, to, width }, colour));
    }

    pub(super) fn disc(&mut self, at: Point, radius: f32, colour: Colour) {
        self.shapes.push((Shape::Disc { at, radius }, colour));
    }

    pub(super) fn polygon(&mut self, corners: &[Point], colour: Colour) {
        self.shapes.push((Shape::Polygon(corners.to_vec()), colour));
    }

    /// A rectangle between two corners.
    pub(super) fn rectangle(&mut self, low: Point, high: Point, colour: Colour) {
        self.polygon(&[low, [high[0], low[1]], high, [low[0], high[1]]], colour);
    }
}
