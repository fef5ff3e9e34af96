//! What replicas hold of the machine.

use air_core::RuntimeConfig;
use air_core::resource::Resources;
use air_serve::{
    App, Deployment, Execution, ReplicaState, ReplicaStatus, ServeError, Server, each, replica_devices,
    run_with,
};

use crate::wait::until;

fn app() -> App {
    App::new().with_http(|http| http.port = 0)
}

fn machine() -> RuntimeConfig {
    RuntimeConfig::default().resources(Resources::new().cpu(2.0).gpu(1.0))
}

fn replicas(server: &Server) -> Vec<ReplicaStatus> {
    server.status().applications["default"].deployments["model"].replicas.clone()
}

#[test]
fn a_replica_waits_for_its_share_and_says_for_what_and_gives_it_back() {
    let deployment = |gpus: f64, replicas: usize| {
        let devices = || Ok(each(move |(): ()| Ok(replica_devices().len())));
        Deployment::new("model", devices).version("a").with(move |config| {
            (config.num_gpus, config.num_replicas, config.execution) = (gpus, replicas, Execution::Thread);
        })
    };
    let server = run_with(app().deploy(deployment(0.5, 2)), machine()).unwrap();
    assert_eq!(server.handle::<(), usize>("model").unwrap().call_blocking(()).unwrap(), 1, "its device");
    // A third finds nothing left; that is no failure.
    server.update(deployment(0.5, 3)).unwrap();
    until("the third waits", || replicas(&server).iter().any(|replica| replica.waits_for.is_some()));
    let third = replicas(&server).into_iter().find(|replica| replica.waits_for.is_some()).unwrap();
    assert_eq!(third.state, ReplicaState::Starting);
    let waits_for = third.waits_for.unwrap();
    assert!(waits_for.starts_with("0.5 gpu: "), "{waits_for}");
    server.update(deployment(0.5, 1)).unwrap();
    until("one is left", || replicas(&server).len() == 1);
    server.update(deployment(0.5, 2)).unwrap();
    until("what was given back is had again", || {
        replicas(&server).iter().filter(|replica| replica.state == ReplicaState::Running).count() == 2
    });
}

#[test]
fn what_can_never_be_had_is_refused_with_the_reason() {
    let of = |cpus: f64| {
        Deployment::new("model", || Ok(each(|x: i64| Ok(x)))).with(move |config| config.num_cpus = cpus)
    };
    let error = run_with(app().deploy(of(3.0)), machine()).unwrap_err();
    assert!(matches!(error, ServeError::Refused { .. }));
    let says = "deployment `model`: a replica could never start: 3 cpu can never be had";
    assert!(error.to_string().starts_with(says), "{error}");
    let server = run_with(app().deploy(of(0.5)), machine()).unwrap();
    let error = server.update(of(2.5)).unwrap_err();
    assert!(matches!(error, ServeError::Refused { .. }), "{error}");
    assert_eq!(server.handle::<i64, i64>("model").unwrap().call_blocking(1).unwrap(), 1);
}
