//! Replicas that follow the load, on a clock of the test's own.

use std::sync::atomic::Ordering;
use std::time::Duration;

use air_core::{Clock, ManualClock, RuntimeConfig};
use air_serve::{
    App, AutoscalingConfig, DeploymentConfig, DeploymentHandle, DeploymentState, DeploymentStatus, Execution,
    ReplicaState, Server, run_with,
};
use futures::executor::block_on;
use futures::future::join_all;

use crate::client::{get, post};
use crate::gate::{Gate, gated};
use crate::wait::until;

/// How often who looks after a deployment does so by itself.
const STEP: Duration = Duration::from_millis(100);

struct Scaled {
    gate: Gate,
    server: Server,
    handle: DeploymentHandle<i64, i64>,
    clock: ManualClock,
}

fn scaled(change: impl FnOnce(&mut AutoscalingConfig, &mut DeploymentConfig)) -> Scaled {
    let (gate, deployment) = gated("model");
    let mut autoscaling = AutoscalingConfig::default();
    let deployment = deployment.with(|config| {
        config.execution = Execution::Thread;
        config.request_timeout_s = 10_000.0;
        change(&mut autoscaling, config);
        config.autoscaling_config = Some(autoscaling);
    });
    let (clock, manual) = Clock::manual();
    let app = App::new().with_http(|http| http.port = 0).route("/model", deployment);
    let server = run_with(app, RuntimeConfig::default().clock(clock)).unwrap();
    let handle = server.handle("model").unwrap();
    Scaled { gate, server, handle, clock: manual }
}

impl Scaled {
    fn status(&self) -> DeploymentStatus {
        self.server.status().applications["default"].deployments["model"].clone()
    }

    /// Lets time pass until so many replicas are wanted, and waits until they are there; returns how much time passed.
    #[track_caller]
    fn pass_until(&self, replicas: usize) -> Duration {
        let mut passed = Duration::ZERO;
        until(&format!("{replicas} replicas are wanted"), || {
            // The timer of who looks after the deployment sleeps again once it has sent word of the step before.
            self.clock.wait_for_sleepers(1);
            self.clock.advance(STEP);
            passed += STEP;
            self.status().target_num_replicas == replicas
        });
        until(&format!("{replicas} replicas are there"), || {
            let states = self.status().replica_states;
            states.get(&ReplicaState::Running).copied().unwrap_or(0) == replicas && states.len() <= 1
        });
        passed
    }
}

#[test]
fn replicas_follow_the_load_up_and_down() {
    let scaled = scaled(|autoscaling, _| {
        autoscaling.max_replicas = 3;
        autoscaling.downscale_delay_s = 10.0;
    });
    assert_eq!(scaled.status().replicas.len(), 1);
    // Eight requests where each replica should have two, and at most three replicas.
    let calls: Vec<_> = (0..8).map(|x| scaled.handle.call(x)).collect();
    let up = scaled.pass_until(3);
    assert!(up >= Duration::from_secs(1), "{up:?}");
    (0..8).for_each(|_| scaled.gate.open.send(()).unwrap());
    let answers: Vec<_> = block_on(join_all(calls)).into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, [0, 1, 2, 3, 4, 5, 6, 7]);
    let down = scaled.pass_until(1);
    assert!(down >= Duration::from_secs(10), "{down:?}");
    assert_eq!(scaled.status().status, DeploymentState::Healthy);
    assert_eq!(scaled.gate.built.load(Ordering::SeqCst), 3);
}

#[test]
fn to_zero_and_back_with_the_first_request_queued() {
    let scaled = scaled(|autoscaling, _| autoscaling.min_replicas = 0);
    // Nothing is built before it is needed, and nothing stands still meanwhile.
    assert_eq!((scaled.status().replicas.len(), scaled.gate.built.load(Ordering::SeqCst)), (0, 0));
    assert_eq!(get(scaled.server.addr(), "/health/ready").status, 200);
    scaled.gate.open.send(()).unwrap();
    assert_eq!(scaled.handle.call_blocking(7).unwrap(), 7);
    assert_eq!(scaled.status().replicas.len(), 1);
    let down = scaled.pass_until(0);
    assert!(down >= Duration::from_mins(1), "{down:?}");
    scaled.gate.open.send(()).unwrap();
    let response = post(scaled.server.addr(), "/model", "8");
    assert_eq!((response.status, response.body.as_str()), (200, "8"));
    assert_eq!(scaled.gate.built.load(Ordering::SeqCst), 2);
}

#[test]
fn how_replicas_follow_the_load_can_change_in_place() {
    let scaled = scaled(|_, _| {});
    let fixed = |replicas| {
        let (_, deployment) = gated("model");
        deployment.version("1").with(|config| {
            config.execution = Execution::Thread;
            config.request_timeout_s = 10_000.0;
            config.num_replicas = replicas;
        })
    };
    // The version that runs is called 1, being the first.
    scaled.server.update(fixed(3)).unwrap();
    until("3 replicas", || scaled.status().replica_states.get(&ReplicaState::Running) == Some(&3));
    scaled.server.update(fixed(1)).unwrap();
    until("1 replica", || scaled.status().replicas.len() == 1);
    assert_eq!(scaled.gate.built.load(Ordering::SeqCst), 3, "the models of the first deployment");
}
