//! Streams by handle: order and completeness, slow readers, cancelled ones, replicas that are lost.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use air_core::{Clock, ManualClock, RuntimeConfig};
use air_serve::{
    App, CallError, Deployment, DeploymentHandle, Execution, Items, Model, Server, run_with, stream_each,
};
use futures::executor::block_on;

use super::{Do, counter};
use crate::wait::until;

struct Served<I, T> {
    server: Server,
    handle: DeploymentHandle<I, Items<T>>,
    clock: ManualClock,
}

/// Serves a deployment on a clock that stands still.
fn serve<T: Send + 'static, M: Model<Out = Items<T>>>(deployment: Deployment<M>) -> Served<M::In, T> {
    let (clock, manual) = Clock::manual();
    let app = App::new().with_http(|http| http.port = 0).deploy(deployment);
    let server = run_with(app, RuntimeConfig::default().clock(clock)).unwrap();
    let handle = server.handle("model").unwrap();
    Served { server, handle, clock: manual }
}

impl<T> Served<u32, T> {
    fn pass(&self, ms: u64) {
        self.clock.wait_for_sleepers(1);
        self.clock.advance(Duration::from_millis(ms));
    }

    /// Waits for something while time passes.
    #[track_caller]
    fn passing<R: Send>(&self, what: &str, wait: impl FnOnce() -> R + Send) -> R {
        thread::scope(|scope| {
            let waiting = scope.spawn(wait);
            until(what, || {
                self.pass(100);
                waiting.is_finished()
            });
            waiting.join().unwrap()
        })
    }
}

impl<T> Served<u32, T>
where
    T: Send + 'static,
{
    fn begin(&self, of: u32) -> Items<T> {
        self.handle.call_blocking(of).unwrap()
    }

    fn metric(&self, line: &str) -> bool {
        let floating = format!("{line}.0");
        self.server.metrics().lines().any(|other| other == line || other == floating)
    }
}

fn all(mut items: Items<u32>) -> Vec<Result<u32, String>> {
    items.blocking().map(|item| item.map_err(|error| error.to_string())).collect()
}

fn up_to(of: u32) -> Vec<Result<u32, String>> {
    (0..of).map(Ok).collect()
}

#[test]
fn requests_join_at_the_next_step_and_leave_with_their_last_item() {
    let (steps, deployment) = counter();
    let served = serve(deployment);
    let long = served.begin(4);
    assert_eq!(steps.step(Do::Step), [4]);
    // The next step has begun, so this one joins at the one after it.
    assert_eq!(steps.begun.recv_timeout(Duration::from_mins(1)).unwrap(), [4]);
    let handle = served.handle.clone();
    let short = thread::spawn(move || handle.call_blocking(1).unwrap());
    until("it waits", || served.metric("air_serve_queue_items{deployment=\"model\"} 1"));
    steps.go.send(Do::Step).unwrap();
    let short = short.join().unwrap();
    assert_eq!(steps.step(Do::Step), [4, 1]);
    assert_eq!(steps.step(Do::Step), [4, 1], "it ends in a step of its own");
    assert_eq!(all(short), up_to(1));
    assert_eq!(steps.step(Do::Step), [4]);
    assert_eq!(all(long), up_to(4));
    until("it is counted", || served.metric("air_serve_stream_items_total{deployment=\"model\"} 5"));
    assert!(served.metric("air_serve_first_item_seconds_count{deployment=\"model\"} 2"));
    assert!(served.metric("air_serve_step_seconds_count{deployment=\"model\"} 5"));
    assert_eq!(steps.dropped.load(Ordering::SeqCst), 2);
}

#[test]
fn no_more_run_at_a_time_than_may() {
    let (steps, deployment) = counter();
    let served = serve(deployment.with(|config| config.max_batch_size = 2));
    let calls: Vec<_> = [3, 1, 2].map(|of| served.handle.call(of)).into();
    // Which of them the first step has depends on when the replica looked; never more than two, the oldest first.
    let mut seen: Vec<Vec<u32>> = Vec::new();
    let ends = thread::spawn(move || {
        let streams: Vec<_> = calls.into_iter().map(|call| block_on(call).unwrap()).collect();
        streams.into_iter().map(all).collect::<Vec<_>>()
    });
    while !ends.is_finished() {
        if let Ok(on) = steps.begun.recv_timeout(Duration::from_millis(10)) {
            seen.push(on);
            steps.go.send(Do::Step).unwrap();
        }
    }
    assert_eq!(ends.join().unwrap(), [up_to(3), up_to(1), up_to(2)]);
    assert!(seen.iter().all(|on| on.len() <= 2), "{seen:?}");
    assert!(seen.contains(&vec![3, 2]), "the third joins when the second has ended: {seen:?}");
}

#[test]
fn a_full_stream_is_left_out_and_the_others_go_on() {
    let (steps, deployment) = counter();
    let served = serve(deployment.with(|config| {
        config.stream_buffer_items = 2;
        config.max_batch_size = 2;
    }));
    let mut slow = served.begin(5);
    assert_eq!(steps.step(Do::Step), [5]);
    assert_eq!(steps.begun.recv_timeout(Duration::from_mins(1)).unwrap(), [5]);
    let fast = served.handle.call(3);
    steps.go.send(Do::Step).unwrap();
    // Two items wait for a reader who does not come.
    let mut fast = block_on(fast).unwrap();
    for item in 0..3 {
        assert_eq!(steps.step(Do::Step), [3]);
        assert_eq!(block_on(fast.next()).unwrap().unwrap(), item);
    }
    assert_eq!(steps.step(Do::Step), [3]);
    assert!(block_on(fast.next()).is_none());
    // Now none can go on: the replica waits, and another joins nevertheless.
    let other = served.begin(1);
    assert_eq!(steps.step(Do::Step), [1]);
    assert_eq!(steps.step(Do::Step), [1]);
    assert_eq!(all(other), up_to(1));
    assert!(steps.begun.try_recv().is_err());
    // It is woken by the reader.
    assert_eq!(slow.take_ready(), [0, 1]);
    assert_eq!(steps.step(Do::Step), [5]);
    steps.free();
    assert_eq!(all(slow), [2, 3, 4].map(Ok));
}

#[test]
fn every_item_comes_in_order_through_readers_that_are_slow() {
    let build = || Ok(stream_each(|of: u32| Ok((0..of).map(Ok))));
    let deployment = Deployment::generate("model", build).with(|config| {
        config.stream_buffer_items = 3;
        config.max_batch_size = 8;
        config.num_replicas = 2;
    });
    let served = serve(deployment);
    thread::scope(|scope| {
        for client in 0..64u32 {
            let handle = served.handle.clone();
            scope.spawn(move || {
                let of = 200 + client;
                let mut items = handle.call_blocking(of).unwrap();
                if client % 3 == 0 {
                    return assert_eq!(all(items), up_to(of));
                }
                let mut next = 0;
                while next < of {
                    // One, then all that are there, and sometimes a moment for the buffer to fill.
                    assert_eq!(block_on(items.next()).unwrap().unwrap(), next);
                    next += 1;
                    if client % 3 == 1 && next % 50 == 0 {
                        thread::yield_now();
                    }
                    for item in items.take_ready() {
                        assert_eq!(item, next);
                        next += 1;
                    }
                }
                assert!(block_on(items.next()).is_none());
                assert!(block_on(futures::StreamExt::next(&mut items)).is_none());
            });
        }
    });
    let total: u32 = (200..264).sum();
    let line = format!("air_serve_stream_items_total{{deployment=\"model\"}} {total}");
    until("all are counted", || served.metric(&line));
}

#[test]
fn an_answer_that_is_dropped_is_not_stepped_again() {
    let (steps, deployment) = counter();
    let served = serve(deployment.with(|config| config.stream_buffer_items = 1));
    let first = served.begin(9);
    assert_eq!(steps.step(Do::Step), [9]);
    // Its buffer is full, so the replica waits; dropping it wakes the replica, which lets go of the sequence.
    drop(first);
    until("it is dropped", || steps.dropped.load(Ordering::SeqCst) == 1);
    // One that goes while it is worked on is gone by the next step.
    let mut second = served.begin(8);
    assert_eq!(steps.step(Do::Step), [8]);
    assert_eq!(block_on(second.next()).unwrap().unwrap(), 0);
    assert_eq!(steps.begun.recv_timeout(Duration::from_mins(1)).unwrap(), [8]);
    drop(second);
    steps.go.send(Do::Step).unwrap();
    until("it is dropped", || steps.dropped.load(Ordering::SeqCst) == 2);
    assert!(steps.begun.try_recv().is_err());
    let third = served.begin(0);
    assert_eq!(steps.step(Do::Step), [0]);
    assert_eq!(all(third), []);
}

#[test]
fn one_that_cannot_be_begun_fails_alone() {
    let (steps, deployment) = counter();
    let served = serve(deployment);
    steps.free();
    assert_eq!(all(served.begin(13)), [Err("replica model#0 failed: 13 is not begun".to_owned())]);
    let mut unfit = served.begin(14);
    assert_eq!(block_on(unfit.next()).unwrap().unwrap_err().status(), 422);
    assert_eq!(all(served.begin(2)), up_to(2));
}

#[test]
fn a_step_that_fails_ends_the_streams_in_it_and_the_model_lives_on() {
    let (steps, deployment) = counter();
    let served = serve(deployment);
    let doomed = served.begin(5);
    assert_eq!(steps.step(Do::Step), [5]);
    assert_eq!(steps.step(Do::Fail), [5]);
    assert_eq!(all(doomed), [Ok(0), Err("replica model#0 failed: told to fail".to_owned())]);
    let next = served.begin(1);
    steps.free();
    assert_eq!(all(next), up_to(1));
    assert_eq!(served.server.status().applications["default"].deployments["model"].replicas[0].restarts, 0);
}

#[test]
fn a_replica_that_panics_ends_its_streams_by_its_name() {
    let (steps, deployment) = counter();
    let served = serve(deployment);
    let doomed = served.begin(5);
    assert_eq!(steps.step(Do::Step), [5]);
    assert_eq!(steps.step(Do::Panic), [5]);
    assert_eq!(all(doomed), [Ok(0), Err("replica model#0 panicked: told to panic".to_owned())]);
    steps.free();
    let next = served.passing("it is replaced", || served.handle.call_blocking(2).unwrap());
    assert_eq!(all(next), up_to(2));
}

#[test]
fn a_step_that_does_not_return_costs_the_replica_its_place() {
    let (steps, deployment) = counter();
    let served = serve(deployment.with(|config| config.health_check_timeout_s = Some(0.2)));
    let mut doomed = served.begin(5);
    assert_eq!(steps.step(Do::Step), [5]);
    assert_eq!(block_on(doomed.next()).unwrap().unwrap(), 0);
    assert_eq!(steps.step(Do::Hang), [5]);
    let end = served.passing("it is given up", || block_on(doomed.next()));
    match end {
        Some(Err(CallError::GivenUp { replica, reason })) => {
            assert_eq!(&*replica, "model#0");
            assert_eq!(&*reason, "its model did not return within 200ms");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stream_may_not_stand_still_for_ever() {
    let (steps, deployment) = counter();
    let served = serve(deployment.with(|config| {
        config.request_timeout_s = 5.0;
        config.health_check_timeout_s = Some(10_000.0);
        config.stream_idle_timeout_s = 2.0;
        config.stream_buffer_items = 1;
    }));
    // Nobody reads it. While it is full the model does not see it.
    let mut unread = served.begin(5);
    assert_eq!(steps.step(Do::Step), [5]);
    until("it is dropped", || {
        served.pass(100);
        steps.dropped.load(Ordering::SeqCst) == 1
    });
    assert_eq!(block_on(unread.next()).unwrap().unwrap(), 0, "what was there still is");
    let end = block_on(unread.next()).unwrap().unwrap_err();
    assert_eq!(end.to_string(), "the stream has waited 2s for its reader, which is its limit");
    assert_eq!(end.status(), 504);
    // Its first item has the time of a request, later ones the shorter one.
    let mut late = served.begin(6);
    assert_eq!(steps.begun.recv_timeout(Duration::from_mins(1)).unwrap(), [6]);
    let end = served.passing("it ends", || block_on(late.next())).unwrap().unwrap_err();
    assert_eq!(end.to_string(), "no answer within 5s");
    steps.go.send(Do::Step).unwrap();
    let mut gap = served.begin(7);
    assert_eq!(steps.step(Do::Step), [7]);
    assert_eq!(block_on(gap.next()).unwrap().unwrap(), 0);
    let end = served.passing("it ends", || block_on(gap.next())).unwrap().unwrap_err();
    assert_eq!(end.to_string(), "the stream has waited 2s for the model's next item, which is its limit");
    steps.free();
}

#[test]
fn a_replica_that_refuses_its_settings_finishes_its_streams_first() {
    let (steps, deployment) = counter();
    let served = serve(deployment);
    let stream = served.begin(2);
    assert_eq!(steps.step(Do::Step), [2]);
    thread::scope(|scope| {
        let change = scope.spawn(|| served.server.reconfigure("model", serde_json::json!({"x": 1})));
        // It is between two steps that it refuses; then it goes on.
        steps.free();
        let refused = served.passing("it is taken back", || change.join().unwrap());
        let said = refused.unwrap_err().to_string();
        assert!(said.contains("this model has no settings"), "{said}");
    });
    assert_eq!(all(stream), up_to(2));
    let next = served.passing("it is replaced", || served.handle.call_blocking(3).unwrap());
    assert_eq!(all(next), up_to(3));
}

#[test]
fn a_fresh_model_is_warmed_up_to_the_end_of_its_streams() {
    let (steps, deployment) = counter();
    steps.free();
    let served = serve(deployment.warm_up(|| vec![3, 100]).with(|config| config.stream_buffer_items = 1));
    assert_eq!(steps.dropped.load(Ordering::SeqCst), 2);
    assert_eq!(all(served.begin(2)), up_to(2));
    let (steps, deployment) = counter();
    steps.free();
    let app = App::new().with_http(|http| http.port = 0).deploy(deployment.warm_up(|| vec![13]));
    let failed = air_serve::run(app).err().map(|error| error.to_string()).unwrap();
    assert!(failed.contains("warm-up") && failed.contains("13 is not begun"), "{failed}");
}

#[test]
fn streams_cannot_be_answered_in_place() {
    let (_steps, deployment) = counter();
    let app = App::new().with_http(|http| http.port = 0);
    let refused = air_serve::run(app.deploy(deployment.with(|config| {
        config.execution = Execution::Inline;
        config.max_batch_size = 1;
    })));
    let said = refused.err().map(|error| error.to_string());
    assert_eq!(
        said.as_deref(),
        Some("deployment `model` answers with streams, which needs threads: leave `execution` at \"auto\"")
    );
}
