//! Many light workers: how fast they start, and what they cost while nobody asks them anything.
//!
//! `cargo bench -p air-core --bench workers`; as a test it runs with few of them.
#![allow(missing_docs, clippy::unwrap_used)]

use std::thread;
use std::time::{Duration, Instant};

use air_core::{BoxError, Cx, Handle, Message, Runtime, Spec, Worker};

struct Ask;
impl Message for Ask {
    type Reply = u64;
}

struct Light(u64);
impl Worker for Light {}
impl Handle<Ask> for Light {
    fn handle(&mut self, _: Ask, _: &mut Cx<Self>) -> Result<u64, BoxError> {
        self.0 += 1;
        Ok(self.0)
    }
}

/// What all threads of this process have used of the processors.
fn cpu_time() -> Option<Duration> {
    let mut nanos = 0;
    for task in std::fs::read_dir("/proc/self/task").ok()? {
        // A thread may end meanwhile.
        let Ok(text) = std::fs::read_to_string(task.ok()?.path().join("schedstat")) else { continue };
        nanos += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(Duration::from_nanos(nanos))
}

fn main() {
    let full = std::env::args().any(|arg| arg == "--bench");
    let (count, pause) =
        if full { (10_000, Duration::from_secs(1)) } else { (100, Duration::from_millis(1)) };
    let runtime = Runtime::start().unwrap();
    let began = Instant::now();
    let workers: Vec<_> = (0..count)
        .map(|n| runtime.spawn(Spec::new(format!("light/{n}")).shared(), |_| Ok(Light(0))).unwrap())
        .collect();
    let asks: Vec<_> = workers.iter().map(|worker| worker.send_blocking(Ask)).collect();
    assert!(asks.into_iter().all(|ask| ask.wait().unwrap() == 1));
    println!("{count} shared workers started and asked once in {:?}", began.elapsed());
    let before = cpu_time();
    thread::sleep(pause);
    if let (Some(before), Some(after)) = (before, cpu_time()) {
        println!("idle for {pause:?}, they used {:?} of the processors", after.saturating_sub(before));
    }
    let began = Instant::now();
    drop(runtime);
    println!("ended in {:?}", began.elapsed());
}
