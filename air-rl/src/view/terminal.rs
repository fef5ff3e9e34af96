//! Pixels as text.

use std::fmt::Write as _;

use super::canvas::Canvas;

/// A picture in half blocks, two rows of pixels a line: coloured with the escape codes of terminals, or else dark pixels as blocks on blank.
pub fn text(canvas: &Canvas, coloured: bool) -> String {
    let mut out = String::new();
    for row in (0..canvas.height()).step_by(2) {
        let mut last = None;
        for column in 0..canvas.width() {
            let (upper, lower) = (canvas.pixel(column, row), canvas.pixel(column, row + 1));
            if !coloured {
                out.push(match (upper > 0, lower > 0) {
                    (true, true) => '█',
                    (true, false) => '▀',
                    (false, true) => '▄',
                    (false, false) => ' ',
                });
                continue;
            }
            if last != Some((upper, lower)) {
                let colour = |number: u8| Canvas::palette()[usize::from(number)];
                let ([r, g, b], [x, y, z]) = (colour(upper), colour(lower));
                let _ = write!(out, "\x1b[38;2;{r};{g};{b};48;2;{x};{y};{z}m");
                last = Some((upper, lower));
            }
            out.push('▀');
        }
        if coloured {
            out.push_str("\x1b[0m");
        } else {
            out.truncate(out.trim_end_matches(' ').len());
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::scene::{Colour, Scene};
    use super::*;

    #[test]
    fn two_rows_of_pixels_are_a_line() {
        let mut scene = Scene::new([0.0, 0.0], [4.0, 3.0]);
        scene.rectangle([0.0, 1.0], [1.0, 3.0], Colour::Red);
        scene.rectangle([1.0, 2.0], [2.0, 3.0], Colour::Red);
        scene.rectangle([2.0, 0.0], [3.0, 2.0], Colour::Black);
        let canvas = Canvas::draw(&scene, 4, 3);
        assert_eq!(text(&canvas, false), "█▀▄\n  ▀\n");
        let coloured = text(&canvas, true);
        assert!(
            coloured
                .starts_with("\x1b[38;2;204;77;77;48;2;204;77;77m▀\x1b[38;2;204;77;77;48;2;255;255;255m▀")
        );
        assert!(coloured.ends_with("▀\x1b[0m\n") && coloured.matches('▀').count() == 8);
    }
}
