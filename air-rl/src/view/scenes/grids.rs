//! Worlds of cells.

use super::item;
use crate::envs::{cliff_walking as coast, taxi as streets};
use crate::view::scene::{Colour, Point, Scene};

/// An empty world, its first row on top.
fn world(rows: usize, columns: usize) -> Scene {
    let mut scene = Scene::new([-0.1, -0.1], [columns as f32 + 0.1, rows as f32 + 0.1]);
    scene.rectangle([0.0, 0.0], [columns as f32, rows as f32], Colour::Light);
    scene
}

/// Lower left corner of a cell.
fn corner(rows: usize, row: usize, column: usize) -> Point {
    [column as f32, rows.saturating_sub(row.saturating_add(1)) as f32]
}

fn cell(scene: &mut Scene, corner: Point, colour: Colour) {
    let [x, y] = corner;
    scene.rectangle([x + 0.03, y + 0.03], [x + 0.97, y + 0.97], colour);
}

fn walker(scene: &mut Scene, corner: Point) {
    scene.disc([corner[0] + 0.5, corner[1] + 0.5], 0.3, Colour::Red);
}

/// Ice, holes and a goal; whoever walks is red.
pub(super) fn lake(map: (&[u8], u32), obs: &[f32]) -> Scene {
    let (letters, columns) = (map.0, map.1.max(1) as usize);
    let rows = letters.len() / columns;
    let mut scene = world(rows, columns);
    for (i, letter) in letters.iter().enumerate() {
        let colour = match letter {
            b'H' => Colour::Blue,
            b'G' => Colour::Green,
            b'S' => Colour::White,
            _ => Colour::Ice,
        };
        cell(&mut scene, corner(rows, i / columns, i % columns), colour);
    }
    let at = item(obs, 0) as usize;
    walker(&mut scene, corner(rows, at / columns, at % columns));
    scene
}

/// Four rows of twelve, with a cliff at the bottom.
pub(super) fn cliff(obs: &[f32]) -> Scene {
    let (rows, columns) = (coast::ROWS as usize, coast::COLUMNS as usize);
    let mut scene = world(rows, columns);
    for i in 0..rows * columns {
        let colour = match i as u32 {
            coast::GOAL => Colour::Green,
            i if i > coast::START => Colour::Black,
            _ => Colour::White,
        };
        cell(&mut scene, corner(rows, i / columns, i % columns), colour);
    }
    let at = item(obs, 0) as usize;
    walker(&mut scene, corner(rows, at / columns, at % columns));
    scene
}

/// Four places and walls between streets; the passenger is black, its destination has a black rim, the taxi is yellow, green with the passenger in it.
pub(super) fn taxi(obs: &[f32]) -> Scene {
    let side = streets::SIDE as usize;
    let state = item(obs, 0) as usize;
    let (at, passenger, destination) = (state / 20, state / 4 % 5, state % 4);
    let mut scene = world(side, side);
    for i in 0..side * side {
        cell(&mut scene, corner(side, i / side, i % side), Colour::White);
    }
    let place = |i: usize| {
        let (row, column) = streets::PLACES[i];
        corner(side, row as usize, column as usize)
    };
    for (i, colour) in [Colour::Red, Colour::Green, Colour::Yellow, Colour::Blue].into_iter().enumerate() {
        if i == destination {
            let [x, y] = place(i);
            scene.rectangle([x, y], [x + 1.0, y + 1.0], Colour::Black);
            scene.rectangle([x + 0.12, y + 0.12], [x + 0.88, y + 0.88], colour);
        } else {
            cell(&mut scene, place(i), colour);
        }
    }
    for (row, walls) in streets::EAST_WALLS.iter().enumerate() {
        for &wall in *walls {
            let [x, y] = corner(side, row, wall as usize);
            scene.line([x + 1.0, y], [x + 1.0, y + 1.0], 0.08, Colour::Black);
        }
    }
    let [x, y] = corner(side, at / side, at % side);
    let riding = passenger == streets::IN_TAXI as usize;
    let colour = if riding { Colour::Green } else { Colour::Yellow };
    scene.rectangle([x + 0.15, y + 0.25], [x + 0.85, y + 0.75], Colour::Black);
    scene.rectangle([x + 0.2, y + 0.3], [x + 0.8, y + 0.7], colour);
    if !riding {
        let [x, y] = place(passenger.min(3));
        scene.disc([x + 0.5, y + 0.5], 0.2, Colour::Black);
    }
    scene
}

/// A row of cells with the goal at its end.
pub(super) fn corridor(cells: usize, obs: &[f32]) -> Scene {
    let mut scene = world(1, cells);
    for i in 0..cells {
        cell(&mut scene, corner(1, 0, i), if i + 1 == cells { Colour::Green } else { Colour::White });
    }
    walker(&mut scene, corner(1, 0, item(obs, 0) as usize));
    scene
}
