//! Bodies that move: carts, poles, cars, a lander. Sizes are those of the equations, or Gymnasium's where they have none.

use super::item;
use crate::view::scene::{Colour, Point, Scene};

fn add(a: Point, b: Point) -> Point {
    [a[0] + b[0], a[1] + b[1]]
}

/// Position, velocity, angle (clockwise from upright), angular velocity.
pub(super) fn cartpole(obs: &[f32]) -> Scene {
    let (x, angle) = (item(obs, 0), item(obs, 2));
    let mut scene = Scene::new([-2.6, -0.6], [2.6, 1.6]);
    scene.line([-2.6, 0.0], [2.6, 0.0], 0.01, Colour::Black);
    for end in [-2.4, 2.4] {
        scene.line([end, -0.05], [end, 0.05], 0.02, Colour::Grey);
    }
    scene.rectangle([x - 0.25, -0.15], [x + 0.25, 0.15], Colour::Black);
    let axle = [x, 0.1];
    scene.line(axle, add(axle, [angle.sin(), angle.cos()]), 0.1, Colour::Wood);
    scene.disc(axle, 0.05, Colour::Blue);
    scene
}

/// Cosine and sine of the angle (counter-clockwise from upright), angular velocity.
pub(super) fn pendulum(obs: &[f32]) -> Scene {
    let mut scene = Scene::new([-1.3, -1.3], [1.3, 1.3]);
    scene.line([0.0, 0.0], [-item(obs, 1), item(obs, 0)], 0.2, Colour::Red);
    scene.disc([0.0, 0.0], 0.05, Colour::Black);
    scene
}

/// Position, velocity.
pub(super) fn mountain_car(obs: &[f32]) -> Scene {
    const SLICES: usize = 60;
    let height = |x: f32| (3.0 * x).sin() * 0.45;
    let mut scene = Scene::new([-1.25, -0.6], [0.65, 0.75]);
    let at = |i: usize| -1.25 + 1.9 * i as f32 / SLICES as f32;
    for i in 0..SLICES {
        let (a, b) = (at(i), at(i + 1));
        scene.polygon(&[[a, -0.6], [b, -0.6], [b, height(b)], [a, height(a)]], Colour::Light);
        scene.line([a, height(a)], [b, height(b)], 0.01, Colour::Grey);
    }
    scene.line([0.5, height(0.5)], [0.5, height(0.5) + 0.2], 0.012, Colour::Black);
    scene.polygon(
        &[[0.5, height(0.5) + 0.2], [0.5, height(0.5) + 0.1], [0.6, height(0.5) + 0.15]],
        Colour::Yellow,
    );
    let x = item(obs, 0);
    // Along the slope, and away from it.
    let slope = (3.0 * x).cos() * 1.35;
    let along = [1.0 / slope.hypot(1.0), slope / slope.hypot(1.0)];
    let away = [-along[1], along[0]];
    let on = |a: f32, b: f32| [x + a * along[0] + b * away[0], height(x) + a * along[1] + b * away[1]];
    scene.line(on(-0.06, 0.06), on(0.06, 0.06), 0.06, Colour::Red);
    for wheel in [-0.05, 0.05] {
        scene.disc(on(wheel, 0.025), 0.025, Colour::Black);
    }
    scene
}

/// Cosine and sine of the first angle (from hanging down) and of the second, relative to it; two velocities.
pub(super) fn acrobot(obs: &[f32]) -> Scene {
    let first = item(obs, 1).atan2(item(obs, 0));
    let second = first + item(obs, 3).atan2(item(obs, 2));
    let elbow = [first.sin(), -first.cos()];
    let mut scene = Scene::new([-2.2, -2.2], [2.2, 2.2]);
    scene.line([-2.2, 1.0], [2.2, 1.0], 0.02, Colour::Grey);
    scene.line([0.0, 0.0], elbow, 0.2, Colour::Blue);
    scene.line(elbow, add(elbow, [second.sin(), -second.cos()]), 0.2, Colour::Wood);
    scene.disc([0.0, 0.0], 0.08, Colour::Black);
    scene.disc(elbow, 0.08, Colour::Black);
    scene
}

/// Position in halves of the view, velocity, angle (counter-clockwise), angular velocity, whether each leg touches the ground. Of the ground only
/// the pad is observed.
pub(super) fn lander(obs: &[f32]) -> Scene {
    let middle = [item(obs, 0) * 10.0, item(obs, 1) * 20.0 / 3.0 + 0.6];
    let (sin, cos) = item(obs, 4).sin_cos();
    let at = |p: Point| add(middle, [cos * p[0] - sin * p[1], sin * p[0] + cos * p[1]]);
    let mut scene = Scene::new([-10.0, -2.0], [10.0, 13.0]);
    scene.rectangle([-2.0, -0.3], [2.0, 0.0], Colour::Grey);
    for flag in [-2.0, 2.0] {
        scene.line([flag, 0.0], [flag, 1.0], 0.08, Colour::Black);
        scene.polygon(&[[flag, 1.0], [flag, 0.6], [flag + 0.6, 0.8]], Colour::Yellow);
    }
    for (leg, foot) in [(6, -0.7), (7, 0.7)] {
        let colour = if item(obs, leg) > 0.5 { Colour::Green } else { Colour::Grey };
        scene.line(at([foot * 0.6, -0.2]), at([foot, -0.6]), 0.12, colour);
    }
    let hull = [[-0.5, -0.3], [0.5, -0.3], [0.4, 0.5], [-0.4, 0.5]].map(at);
    scene.polygon(&hull, Colour::Blue);
    scene
}
