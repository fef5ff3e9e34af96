//! The examples that stand on collectives and workers, run as a user runs them.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../../../examples/parameter_server.rs"]
mod parameter_server;

#[allow(dead_code)]
#[path = "../../../examples/ring_all_reduce.rs"]
mod ring_all_reduce;

fn falls(losses: &[f32]) -> bool {
    losses[losses.len() - 1] < losses[0] / 10.0
}

#[test]
fn the_parameter_server_learns() {
    let losses = parameter_server::run(4, 10).unwrap();
    assert!(falls(&losses), "{losses:?}");
}

#[test]
fn the_ring_learns_and_its_ranks_stay_equal_to_the_bit() {
    for world in [1, 2, 4] {
        let ranks = ring_all_reduce::run(world, 20).unwrap();
        assert!(falls(&ranks[0].1), "{world}: {:?}", ranks[0].1);
        assert!(ranks.iter().all(|rank| rank == &ranks[0]), "{world}");
    }
}
