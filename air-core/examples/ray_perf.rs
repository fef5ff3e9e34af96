//! Ray's own microbenchmark (`ray microbenchmark`, `ray/_private/ray_perf.py` of its package), test for test, on this runtime: the same names, the
//! same loops, one JSON line `{name, value, unit}` each. `bench/core/ray_perf.py` prints Ray's side.
//!
//! Where Ray has a process, there is a worker here; its async actors are the same workers, whose asks do not block the caller anyway.
//!
//! `cargo run --release -p air-core --example ray_perf [FILTER]`

use std::env;
use std::time::{Duration, Instant};

use air_core::resource::{Placement, Resources};
use air_core::tensor::Tensor;
use air_core::{
    BoxError, Cx, Group, GroupSpec, Handle, Mailbox, Message, Object, Runtime, RuntimeConfig, RuntimeHandle,
    Spec, Worker,
};

const WARM: Duration = Duration::from_millis(300);
const WINDOW: Duration = Duration::from_millis(500);
const WINDOWS: usize = 4;

/// Calls per second: the mean of some windows, after a warm-up, as Ray's `timeit`.
fn timeit<T>(name: &str, calls: f64, mut work: impl FnMut() -> Result<T, BoxError>) -> Result<(), BoxError> {
    if env::args().nth(1).is_some_and(|filter| !name.contains(&filter)) {
        return Ok(());
    }
    let mut rate = |span: Duration| {
        let (began, mut count) = (Instant::now(), 0_u32);
        while began.elapsed() < span {
            work()?;
            count += 1;
        }
        Ok::<_, BoxError>(f64::from(count) * calls / began.elapsed().as_secs_f64())
    };
    rate(WARM)?;
    let rates = (0..WINDOWS).map(|_| rate(WINDOW)).collect::<Result<Vec<_>, _>>()?;
    let value = rates.iter().sum::<f64>() / WINDOWS as f64;
    println!("{}", serde_json::json!({"name": name, "value": value, "unit": "1/s"}));
    Ok(())
}

struct SmallValue;
impl Message for SmallValue {
    type Reply = &'static [u8];
}

struct SmallValueArg(Object<i32>);
impl Message for SmallValueArg {
    type Reply = &'static [u8];
}

struct Actor;
impl Worker for Actor {}
impl Handle<SmallValue> for Actor {
    fn handle(&mut self, _: SmallValue, _: &mut Cx<Self>) -> Result<&'static [u8], BoxError> {
        Ok(b"ok")
    }
}
impl Handle<SmallValueArg> for Actor {
    fn handle(&mut self, arg: SmallValueArg, _: &mut Cx<Self>) -> Result<&'static [u8], BoxError> {
        arg.0.get()?;
        Ok(b"ok")
    }
}

/// So many calls to each of these actors, or so many tasks; answered when all have been.
enum Batch {
    Calls(Vec<Mailbox<Actor>>, usize),
    CallsWithArg(Vec<Mailbox<Actor>>, usize),
    Tasks(usize),
}
impl Message for Batch {
    type Reply = ();
}

struct Client(RuntimeHandle);
impl Worker for Client {}
impl Handle<Batch> for Client {
    fn handle(&mut self, batch: Batch, _: &mut Cx<Self>) -> Result<(), BoxError> {
        match batch {
            Batch::Tasks(n) => tasks(&self.0, n),
            Batch::Calls(servers, n) => servers.iter().try_for_each(|server| calls(server, n)),
            Batch::CallsWithArg(servers, n) => {
                let x = self.0.put(0)?;
                let ask = |server: &Mailbox<Actor>| server.send_blocking(SmallValueArg(x.clone()));
                let asked: Vec<_> =
                    servers.iter().flat_map(|server| (0..n).map(move |_| server)).map(ask).collect();
                for call in asked {
                    call.wait()?;
                }
                Ok(())
            }
        }
    }
}

fn tasks(runtime: &RuntimeHandle, n: usize) -> Result<(), BoxError> {
    let started: Vec<_> = (0..n).map(|_| runtime.task("small_value").spawn(|| Ok(*b"ok"))).collect();
    runtime.get_all(&started)?;
    Ok(())
}

fn calls(actor: &Mailbox<Actor>, n: usize) -> Result<(), BoxError> {
    let asked: Vec<_> = (0..n).map(|_| actor.send_blocking(SmallValue)).collect();
    for call in asked {
        call.wait()?;
    }
    Ok(())
}

fn actors(runtime: &Runtime, n: usize) -> Result<Group<Actor>, BoxError> {
    Ok(runtime.group(GroupSpec::new("actor", n).worker(|spec| spec.capacity(10_000)), |_| Ok(Actor))?)
}

fn clients(runtime: &Runtime, n: usize) -> Result<Group<Client>, BoxError> {
    let handle = runtime.handle();
    Ok(runtime.group(GroupSpec::new("client", n), move |_| Ok(Client(handle.clone())))?)
}

fn each(clients: &Group<Client>, batch: impl Fn() -> Batch) -> Result<(), BoxError> {
    let asked = clients.scatter((0..clients.size()).map(|_| batch()).collect());
    let asked = asked.map_err(|_| "as many batches as clients")?;
    clients.gather(asked).into_iter().try_for_each(|end| Ok(end?))
}

fn objects(runtime: &Runtime) -> Result<(), BoxError> {
    let value = runtime.put(0)?;
    timeit("single client get calls (Plasma Store)", 1.0, || Ok(value.get()?))?;
    timeit("single client put calls (Plasma Store)", 1.0, || Ok(runtime.put(0)?))?;
    let handle = runtime.handle();
    timeit("multi client put calls (Plasma Store)", 1000.0, || {
        let put = |handle: RuntimeHandle| {
            handle.clone().task("put").spawn(move || {
                for _ in 0..100 {
                    handle.put(0)?;
                }
                Ok(())
            })
        };
        let all: Vec<_> = (0..10).map(|_| put(handle.clone())).collect();
        Ok(runtime.get_all(&all)?)
    })?;
    let array = Tensor::zeros::<i64>(&[100 << 20])?;
    timeit("single client put gigabytes", 0.8, || Ok(runtime.put(array.clone())?))?;
    drop(array);
    timeit("single client tasks and get batch", 1.0, || tasks(runtime, 1000))?;
    let handle = runtime.handle();
    timeit("multi client put gigabytes", 8.0, || {
        let put = |handle: RuntimeHandle| {
            handle.clone().task("put").spawn(move || {
                for _ in 0..10 {
                    handle.put(Tensor::zeros::<i64>(&[10 << 20])?)?;
                }
                Ok(())
            })
        };
        let all: Vec<_> = (0..10).map(|_| put(handle.clone())).collect();
        Ok(runtime.get_all(&all)?)
    })?;
    let handle = runtime.handle();
    let containing = runtime
        .task("refs")
        .spawn(move || (0..10_000).map(|_| Ok(handle.put(1)?)).collect::<Result<Vec<_>, BoxError>>());
    timeit("single client get object containing 10k refs", 1.0, || Ok(containing.get()?))?;
    timeit("single client wait 1k refs", 1.0, || {
        let mut waiting: Vec<_> =
            (0..1000).map(|_| runtime.task("small_value").spawn(|| Ok(*b"ok"))).collect();
        while !waiting.is_empty() {
            let ready = runtime.wait(&waiting, 1, None);
            waiting.swap_remove(ready[0]);
        }
        Ok(())
    })
}

fn calls_and_tasks(runtime: &Runtime) -> Result<(), BoxError> {
    timeit("single client tasks sync", 1.0, || tasks(runtime, 1))?;
    timeit("single client tasks async", 1000.0, || tasks(runtime, 1000))?;
    let four = clients(runtime, 4)?;
    timeit("multi client tasks async", 40_000.0, || each(&four, || Batch::Tasks(10_000)))?;
    let one = runtime.spawn(Spec::new("actor").capacity(1000), |_| Ok(Actor))?;
    timeit("1:1 actor calls sync", 1.0, || Ok(one.ask_blocking(SmallValue)?))?;
    timeit("1:1 actor calls async", 1000.0, || calls(&one, 1000))?;
    let half = (std::thread::available_parallelism()?.get() / 2).max(1);
    let servers = actors(runtime, half)?;
    let client = clients(runtime, 1)?;
    let ranks = || servers.ranks().to_vec();
    timeit("1:n actor calls async", 5000.0 * half as f64, || each(&client, || Batch::Calls(ranks(), 5000)))?;
    timeit("n:n actor calls async", 20_000.0, || each(&four, || Batch::Calls(ranks(), 5000 / half)))?;
    let n = clients(runtime, half)?;
    timeit("n:n actor calls with arg async", 1000.0 * (half * half) as f64, || {
        each(&n, || Batch::CallsWithArg(ranks(), 1000))
    })
}

fn placement(runtime: &Runtime) -> Result<(), BoxError> {
    let bundle = [Resources::new().custom("custom", 0.001)];
    timeit("placement group create/removal", 100.0, || {
        let groups = (0..100).map(|_| runtime.place(Placement::Pack, &bundle).wait());
        groups.collect::<Result<Vec<_>, _>>()?;
        Ok(())
    })
}

fn main() -> Result<(), BoxError> {
    let machine = Resources::new().cpu(64.0).custom("custom", 100.0);
    let runtime = Runtime::with(RuntimeConfig::default().resources(machine))?;
    objects(&runtime)?;
    calls_and_tasks(&runtime)?;
    placement(&runtime)
}
