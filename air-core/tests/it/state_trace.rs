//! One trace follows a request across workers and tasks.
#![allow(clippy::unwrap_used)]

use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};

use air_core::task::Retry;
use air_core::{BoxError, Cx, HandleAsync, Mailbox, Message, Runtime, Spec, Worker};
use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::probe::{Probe, act, until};
use super::state::{nothing, spawn};

/// Writes down each span's name, worker or task, and parent; and which have closed.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Recorded>>>, Arc<Mutex<Vec<Id>>>);

type Recorded = (Id, Option<Id>, String);

/// What `air.core.handle` and `air.core.task` say of themselves, the name of the span before it.
struct Named(String, &'static str);

impl Visit for Named {
    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == self.1 {
            self.0.push_str(value);
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let name = attributes.metadata().name();
        let mut named = Named(format!("{name} "), if name == "air.core.task" { "task" } else { "worker" });
        attributes.record(&mut named);
        let parent = context.span(id).unwrap().parent().map(|parent| parent.id());
        self.0.lock().unwrap().push((id.clone(), parent, named.0));
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.1.lock().unwrap().push(id);
    }
}

/// Asks the next worker, without holding its thread.
struct Relay(Mailbox<Probe>);
impl Worker for Relay {}

struct Pass;
impl Message for Pass {
    type Reply = ();
}
impl HandleAsync<Pass> for Relay {
    fn handle_async(
        &mut self,
        _: Pass,
        _: &mut Cx<Self>,
    ) -> impl Future<Output = Result<(), BoxError>> + 'static {
        let next = self.0.clone();
        async move { next.ask(nothing()).await.map_err(|error| error.to_string().into()) }
    }
}

#[test]
fn one_trace_follows_a_request_across_workers_and_tasks() {
    // A subscriber for all threads can be set once in a process, so this has one of its own.
    if std::env::var_os("AIR_TEST_SPANS").is_none() {
        let run = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "state_trace::one_trace_follows_a_request_across_workers_and_tasks",
                "--test-threads=1",
            ])
            .env("AIR_TEST_SPANS", "1")
            .output()
            .unwrap();
        return assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
    }
    let spans = Recorder::default();
    tracing_subscriber::registry().with(spans.clone()).init();
    let runtime = Runtime::start().unwrap();
    let third = spawn(&runtime, "third");
    let second = runtime.spawn(Spec::new("second"), move |_| Ok(Relay(third.clone()))).unwrap();
    let first = spawn(&runtime, "first");
    let handle = runtime.handle();
    let (kept, keep) = mpsc::channel();
    tracing::info_span!("request").in_scope(|| {
        let ask = move || {
            let mut tries = 0;
            let flaky = handle.task("flaky").retry(Retry::times(1)).spawn(move || {
                tries += 1;
                if tries == 1 { Err("not yet".into()) } else { Ok(()) }
            });
            let task = handle.task("relay").arg(&flaky).spawn(move |_| Ok(second.ask_blocking(Pass)?));
            task.get()?;
            Ok(kept.send((flaky, task))?)
        };
        first.ask_blocking(act(move |_| ask())).unwrap();
    });
    let recorded = spans.0.lock().unwrap().clone();
    let find = |id: &Id| recorded.iter().find(|(other, ..)| other == id).unwrap();
    let chain = |span: &Recorded| -> Vec<String> {
        std::iter::successors(Some(span), |(_, parent, _)| parent.as_ref().map(find))
            .map(|(.., name)| name.clone())
            .collect()
    };
    let chains =
        |name: &str| -> Vec<_> { recorded.iter().filter(|(.., other)| other == name).map(chain).collect() };
    let expected = [
        "air.core.handle third",
        "air.core.handle second",
        "air.core.task relay",
        "air.core.handle first",
        "request ",
    ];
    assert_eq!(chains("air.core.handle third"), [expected]);
    // One for each attempt.
    let expected = ["air.core.task flaky", "air.core.handle first", "request "];
    assert_eq!(chains("air.core.task flaky"), [expected; 2]);
    // Objects outlive the tasks that made them; the spans of these do not.
    let _objects = keep.recv().unwrap();
    let (request, ..) = recorded.iter().find(|(.., name)| name == "request ").unwrap();
    until(|| spans.1.lock().unwrap().contains(request));
}
