//! Streaming: 64 clients, each a stream of a thousand items, a thousand a second each, of one model whose step takes 1 ms for all of them.
//!
//!     cargo run --release -p air-serve --example bench_stream -- serve --port 8101
//!     cargo run --release -p air-serve --example bench_stream -- drive 127.0.0.1:8101 --pid PID
//!
//! Each item says when its request was begun and when it was sent. So the client can tell what the server adds: from the request to its begin,
//! which waits for the step under way, and from an item's sending to its arrival. Every item is checked to come once and in order.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime};

use air_core::BoxError;
use air_serve::{App, Deployment, Generate, Running, run};
use clap::Parser;
use mio::{Events, Interest, Poll, Token};
use serde::{Deserialize, Serialize};

/// As in the `air-serve` command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
enum Command {
    /// The server; it ends when its input does.
    Serve {
        #[arg(long, default_value_t = 8101)]
        port: u16,
        #[arg(long, default_value_t = 1)]
        threads: usize,
    },
    /// The clients.
    Drive {
        addr: SocketAddr,
        /// The server's process, for its CPU time.
        #[arg(long)]
        pid: Option<u32>,
        #[arg(long, default_value_t = 64)]
        clients: usize,
        /// Streams of each client, one after the other.
        #[arg(long, default_value_t = 10)]
        streams: usize,
        #[arg(long, default_value_t = 1000)]
        items: u64,
    },
}

/// An item: its number, and when its request was begun and it was sent, in nanoseconds.
#[derive(Serialize, Deserialize)]
struct Item {
    n: u64,
    begun: u64,
    sent: u64,
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}

/// A device that takes 1 ms for a step, however many run.
struct Device {
    next: Instant,
}

struct Sequence {
    items: u64,
    n: u64,
    begun: u64,
}

const STEP: Duration = Duration::from_millis(1);
/// Between the first requests of two clients.
const APART: Duration = Duration::from_micros(3_300);

impl Generate for Device {
    type In = u64;
    type Item = Item;
    type Sequence = Sequence;

    fn begin(&mut self, items: u64) -> Result<Sequence, BoxError> {
        Ok(Sequence { items, n: 0, begun: now() })
    }

    fn step(&mut self, running: &mut [Running<Sequence, Item>]) -> Result<(), BoxError> {
        // A step that begins late, the device having had nothing to do, takes its whole time; others follow each other.
        let start = Instant::now();
        self.next = if start > self.next + STEP { start + STEP } else { self.next + STEP };
        std::thread::sleep(self.next.saturating_duration_since(start));
        for one in running {
            let Sequence { items, n, begun } = one.sequence;
            one.send(Item { n, begun, sent: now() });
            one.sequence.n += 1;
            if n + 1 == items {
                one.finish();
            }
        }
        Ok(())
    }
}

fn serve(port: u16, threads: usize) -> Result<(), BoxError> {
    let build = || Ok(Device { next: Instant::now() });
    let stream = Deployment::generate("stream", build).with(|config| config.max_batch_size = 256);
    let app = App::new().with_http(|http| {
        http.port = port;
        http.threads = threads;
    });
    let server = run(app.route("/stream", stream))?;
    println!("serving {} as process {}", server.addr(), std::process::id());
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    Ok(())
}

/// A client: one connection, one stream after the other.
struct Client {
    stream: mio::net::TcpStream,
    asked: u64,
    expected: u64,
    streams: usize,
    unread: Vec<u8>,
}

#[derive(Default)]
struct Seen {
    first: Vec<u64>,
    begin: Vec<u64>,
    first_arrival: Vec<u64>,
    arrival: Vec<u64>,
    reads: u64,
}

impl Client {
    fn ask(&mut self, items: u64) -> Result<(), BoxError> {
        let body = items.to_string();
        self.asked = now();
        self.expected = 0;
        let head = format!("POST /stream HTTP/1.1\r\nHost: bench\r\nContent-Length: {}\r\n\r\n", body.len());
        self.stream.write_all(format!("{head}{body}").as_bytes())?;
        Ok(())
    }

    /// Takes in what came; whether the stream has ended.
    fn take(&mut self, seen: &mut Seen) -> Result<bool, BoxError> {
        let at = now();
        let mut ended = false;
        let mut done = 0;
        while let Some(length) = self.unread[done..].iter().position(|byte| *byte == b'\n') {
            let line = &self.unread[done..done + length];
            done += length + 1;
            if line == b"0\r" {
                ended = true;
            }
            // Everything but items is the head and the lengths of chunks.
            if line.first() != Some(&b'{') {
                continue;
            }
            let item: Item = serde_json::from_slice(line)?;
            if item.n != self.expected {
                return Err(format!("item {} came where {} was due", item.n, self.expected).into());
            }
            if item.n == 0 {
                seen.first.push(at - self.asked);
                seen.begin.push(item.begun.saturating_sub(self.asked));
                seen.first_arrival.push(at.saturating_sub(item.sent));
            }
            self.expected += 1;
            seen.arrival.push(at.saturating_sub(item.sent));
        }
        self.unread.drain(..done);
        Ok(ended)
    }
}

fn drive(
    addr: SocketAddr,
    pid: Option<u32>,
    clients: usize,
    streams: usize,
    items: u64,
) -> Result<(), BoxError> {
    let mut poll = Poll::new()?;
    let mut open = HashMap::new();
    let mut seen = Seen::default();
    for token in 0..clients {
        let stream = TcpStream::connect(addr)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let mut stream = mio::net::TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(token), Interest::READABLE)?;
        open.insert(Token(token), Client { stream, asked: 0, expected: 0, streams, unread: Vec::new() });
    }
    let (before, own, start) = (Cost::of(pid), Cost::of(Some(std::process::id())), Instant::now());
    let mut begun = 0;
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 64 << 10];
    while !open.is_empty() {
        // One after the other, so that they do not all begin with one step; those that have begun are read meanwhile.
        while begun < clients && start.elapsed() >= APART * begun as u32 {
            if let Some(client) = open.get_mut(&Token(begun)) {
                client.ask(items)?;
            }
            begun += 1;
        }
        let limit = if begun < clients { APART } else { Duration::from_secs(10) };
        poll.poll(&mut events, Some(limit))?;
        if events.is_empty() && begun == clients {
            return Err("nothing came for 10 seconds".into());
        }
        for event in &events {
            let Some(client) = open.get_mut(&event.token()) else { continue };
            loop {
                match client.stream.read(&mut buffer) {
                    Ok(0) => return Err("a connection was closed".into()),
                    Ok(count) => {
                        seen.reads += 1;
                        client.unread.extend_from_slice(&buffer[..count]);
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
            if client.take(&mut seen)? {
                if client.expected != items {
                    return Err(format!("a stream had {} items of {items}", client.expected).into());
                }
                client.streams -= 1;
                if client.streams == 0 {
                    open.remove(&event.token());
                } else {
                    client.ask(items)?;
                }
            }
        }
    }
    let took = start.elapsed().as_secs_f64();
    let total = seen.arrival.len();
    println!(
        "{total} items in {took:.2} s, {:.0} a second; none lost, none out of order",
        total as f64 / took
    );
    println!("{:.2} items a read", total as f64 / seen.reads as f64);
    show("request to first item", &mut seen.first);
    show("request to its begin", &mut seen.begin);
    show("first item sent to arrived", &mut seen.first_arrival);
    show("item sent to arrived", &mut seen.arrival);
    if let Some(spent) = before.and_then(|before| Some(Cost::of(pid)?.since(before))) {
        println!("server: {}", spent.shown(total));
    }
    if let Some(spent) = own.and_then(|own| Some(Cost::of(Some(std::process::id()))?.since(own))) {
        println!("clients: {}", spent.shown(total));
    }
    Ok(())
}

fn show(what: &str, nanos: &mut [u64]) {
    nanos.sort_unstable();
    let at = |share: f64| nanos[((nanos.len() - 1) as f64 * share) as usize] as f64 / 1e6;
    println!(
        "{what}: p50 {:.3}  p99 {:.3}  p99.9 {:.3}  max {:.3} ms",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

/// What a process has had of the cores, and how long its threads were ready to run and had none: with clients and server on the same cores, that is
/// part of every delay.
#[derive(Clone, Copy)]
struct Cost {
    ran: u64,
    waited: u64,
}

impl Cost {
    /// Of all threads that there are now.
    fn of(pid: Option<u32>) -> Option<Self> {
        let mut cost = Cost { ran: 0, waited: 0 };
        for thread in std::fs::read_dir(format!("/proc/{}/task", pid?)).ok()? {
            let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            let mut fields = text.split_whitespace().map_while(|field| field.parse::<u64>().ok());
            cost.ran += fields.next()?;
            cost.waited += fields.next()?;
        }
        Some(cost)
    }

    fn since(self, before: Self) -> Self {
        Cost { ran: self.ran.saturating_sub(before.ran), waited: self.waited.saturating_sub(before.waited) }
    }

    fn shown(self, items: usize) -> String {
        let each = |nanos: u64| nanos as f64 / 1e3 / items as f64;
        format!("{:.2} us of CPU an item, {:.2} us waiting for a core", each(self.ran), each(self.waited))
    }
}

fn main() -> Result<(), BoxError> {
    match Command::parse() {
        Command::Serve { port, threads } => serve(port, threads),
        Command::Drive { addr, pid, clients, streams, items } => drive(addr, pid, clients, streams, items),
    }
}
