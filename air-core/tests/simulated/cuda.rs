//! A CUDA driver, its compiler and NCCL, made of threads: for tests of what this project asks of them, on machines without a device.
//!
//! `device_simulated.rs` compiles this file to a library under the names of the real ones. Two devices, whose memory is the heap; a thread for
//! each stream, which carries out what is queued in its order and at its own pace; events; three kernels, known by name, and one that
//! loses its device. Stricter than a driver: memory that is copied or computed on must be there, whole, when the device gets to it, or the
//! process aborts. At its end it says what was not given back.
#![allow(non_snake_case)]

use std::alloc::{Layout, alloc, dealloc};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, Once};
use std::time::Duration;

type Answer = u32;
const OK: Answer = 0;
const OUT_OF_MEMORY: Answer = 2;
const INVALID_IMAGE: Answer = 200;
const INVALID_CONTEXT: Answer = 201;
const INVALID_HANDLE: Answer = 400;
const NOT_READY: Answer = 600;
const ILLEGAL_ADDRESS: Answer = 700;

const DEVICE_BYTES: usize = 192 << 20;
const HOST: usize = 2;

struct Context {
    held: AtomicI64,
    /// The error that every call answers with from then on.
    sticky: AtomicU32,
}

static CONTEXTS: [Context; 2] = [const { Context { held: AtomicI64::new(0), sticky: AtomicU32::new(0) } }; 2];
/// By address: the length, and the device, or `HOST` for page-locked memory.
static MEMORY: Mutex<BTreeMap<usize, (usize, usize)>> = Mutex::new(BTreeMap::new());
static STREAMS: AtomicI64 = AtomicI64::new(0);
static EVENTS: AtomicI64 = AtomicI64::new(0);

thread_local! {
    static CURRENT: Cell<Option<usize>> = const { Cell::new(None) };
}

fn wrong(what: &str) -> ! {
    eprintln!("simulated: {what}");
    std::process::abort()
}

fn memory() -> std::sync::MutexGuard<'static, BTreeMap<usize, (usize, usize)>> {
    MEMORY.lock().unwrap_or_else(|_| wrong("poisoned"))
}

/// That these bytes are there now.
fn there(what: &str, start: usize, len: usize, place: usize) {
    let memory = memory();
    let found = memory.range(..=start).next_back();
    let holds = found.is_some_and(|(at, (bytes, of))| *of == place && start + len <= at + bytes);
    if !holds {
        wrong(&format!("{what} of {len} bytes that are not there"));
    }
}

fn sticky(device: usize) -> Answer {
    CONTEXTS[device].sticky.load(SeqCst)
}

/// The current device, if it works.
fn current() -> Result<usize, Answer> {
    let device = CURRENT.get().ok_or(INVALID_CONTEXT)?;
    if sticky(device) == OK { Ok(device) } else { Err(sticky(device)) }
}

struct Ticket(Mutex<bool>, Condvar);

impl Ticket {
    fn new() -> Arc<Ticket> {
        Arc::new(Ticket(Mutex::new(false), Condvar::new()))
    }

    fn finish(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    fn is_done(&self) -> bool {
        *self.0.lock().unwrap()
    }

    fn wait(&self) {
        drop(self.1.wait_while(self.0.lock().unwrap(), |done| !*done));
    }
}

struct Event {
    device: usize,
    ticket: Mutex<Option<Arc<Ticket>>>,
}

struct Stream {
    device: usize,
    jobs: Sender<Box<dyn FnOnce() + Send>>,
}

impl Stream {
    /// Queues a job; on a lost device nothing happens but the passing of events.
    fn queue(&self, job: impl FnOnce(usize) + Send + 'static) -> Answer {
        let device = self.device;
        if CURRENT.get() != Some(device) {
            wrong("a stream is used while the context of another device is current");
        }
        let _ = self.jobs.send(Box::new(move || {
            if sticky(device) == OK {
                job(device);
            }
        }));
        sticky(device)
    }

    fn pass(&self, job: impl FnOnce() + Send + 'static) -> Answer {
        let _ = self.jobs.send(Box::new(job));
        sticky(self.device)
    }
}

macro_rules! driver {
    ($(fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($arg: $type),*) -> Answer {
            #[allow(unused_unsafe)]
            let answer = (|| -> Result<Answer, Answer> { unsafe { $body } })();
            answer.unwrap_or_else(|error| error)
        }
    )*};
}

mod nccl;

driver! {
    fn cuInit(_flags: u32) {
        unsafe extern "C" {
            fn atexit(last: extern "C" fn()) -> c_int;
        }
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            atexit(account);
        });
        Ok(OK)
    }
    fn cuDriverGetVersion(version: *mut c_int) { *version = 13_000; Ok(OK) }
    fn cuDeviceGetCount(count: *mut c_int) { *count = 2; Ok(OK) }
    fn cuDeviceGet(device: *mut c_int, ordinal: c_int) { *device = ordinal; Ok(OK) }
    fn cuDeviceGetName(name: *mut c_char, _len: c_int, _device: c_int) {
        let text = c"Simulated";
        text.as_ptr().copy_to(name, text.count_bytes() + 1);
        Ok(OK)
    }
    fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, _device: c_int) {
        // Multiprocessors, and the compute capability.
        *value = match attribute { 16 => 4, 75 => 9, _ => 0 };
        Ok(OK)
    }
    fn cuDevicePrimaryCtxRetain(context: *mut *const Context, device: c_int) {
        let found = &CONTEXTS[device as usize];
        found.held.fetch_add(1, SeqCst);
        *context = found;
        Ok(OK)
    }
    fn cuDevicePrimaryCtxRelease_v2(device: c_int) {
        let context = &CONTEXTS[device as usize];
        // The last one destroys it, its memory and its error.
        if context.held.fetch_sub(1, SeqCst) == 1 && context.sticky.swap(OK, SeqCst) != OK {
            memory().retain(|_, (_, of)| *of != device as usize);
        }
        Ok(OK)
    }
    fn cuCtxGetCurrent(context: *mut *const Context) {
        *context = CURRENT.get().map_or(std::ptr::null(), |device| &raw const CONTEXTS[device]);
        Ok(OK)
    }
    fn cuCtxSetCurrent(context: *const Context) {
        CURRENT.set(CONTEXTS.iter().position(|of| std::ptr::eq(of, context)));
        Ok(OK)
    }
    fn cuCtxSynchronize() { current()?; Ok(OK) }
    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) {
        *free = DEVICE_BYTES - in_use(current()?);
        *total = DEVICE_BYTES;
        Ok(OK)
    }
    fn cuMemAlloc_v2(address: *mut usize, len: usize) {
        let device = current()?;
        if len > DEVICE_BYTES - in_use(device) {
            return Err(OUT_OF_MEMORY);
        }
        *address = take(len, device);
        Ok(OK)
    }
    fn cuMemHostAlloc(address: *mut usize, len: usize, _flags: u32) {
        current()?;
        *address = take(len, HOST);
        Ok(OK)
    }
    fn cuMemFree_v2(address: usize) { give(address, current()?); Ok(OK) }
    fn cuMemFreeHost(address: usize) { give(address, HOST); Ok(OK) }

    fn cuStreamCreate(stream: *mut *mut Stream, _flags: u32) {
        let device = current()?;
        let (jobs, queued) = channel::<Box<dyn FnOnce() + Send>>();
        let number = STREAMS.fetch_add(1, SeqCst) as u32;
        std::thread::spawn(move || {
            let mut random = 2_654_435_761_u32.wrapping_mul(number + 1);
            for job in queued {
                random ^= random << 13;
                random ^= random >> 17;
                random ^= random << 5;
                if random.is_multiple_of(4) {
                    std::thread::sleep(Duration::from_micros(u64::from(random / 4 % 400)));
                }
                job();
            }
        });
        *stream = Box::into_raw(Box::new(Stream { device, jobs }));
        Ok(OK)
    }
    fn cuStreamDestroy_v2(stream: *mut Stream) {
        // What is queued is carried out all the same.
        drop(Box::from_raw(stream));
        STREAMS.fetch_sub(1, SeqCst);
        Ok(OK)
    }
    fn cuStreamSynchronize(stream: *const Stream) {
        let ticket = Ticket::new();
        let passed = Arc::clone(&ticket);
        (*stream).pass(move || passed.finish());
        ticket.wait();
        Ok(sticky((*stream).device))
    }
    fn cuStreamWaitEvent(stream: *const Stream, event: *const Event, _flags: u32) {
        // What was recorded by now, whatever is recorded later.
        let ticket = (*event).ticket.lock().unwrap().clone();
        Ok((*stream).pass(move || ticket.iter().for_each(|ticket| ticket.wait())))
    }

    fn cuEventCreate(event: *mut *mut Event, _flags: u32) {
        *event = Box::into_raw(Box::new(Event { device: current()?, ticket: Mutex::new(None) }));
        EVENTS.fetch_add(1, SeqCst);
        Ok(OK)
    }
    fn cuEventRecord(event: *const Event, stream: *const Stream) {
        if (*event).device != (*stream).device {
            return Err(INVALID_HANDLE);
        }
        let ticket = Ticket::new();
        *(*event).ticket.lock().unwrap() = Some(Arc::clone(&ticket));
        Ok((*stream).pass(move || ticket.finish()))
    }
    fn cuEventQuery(event: *const Event) {
        let ticket = (*event).ticket.lock().unwrap().clone();
        let done = ticket.is_none_or(|ticket| ticket.is_done());
        Ok(if sticky((*event).device) != OK { sticky((*event).device) } else if done { OK } else { NOT_READY })
    }
    fn cuEventSynchronize(event: *const Event) {
        let ticket = (*event).ticket.lock().unwrap().clone();
        ticket.iter().for_each(|ticket| ticket.wait());
        Ok(sticky((*event).device))
    }
    fn cuEventDestroy_v2(event: *mut Event) {
        drop(Box::from_raw(event));
        EVENTS.fetch_sub(1, SeqCst);
        Ok(OK)
    }

    fn cuMemcpyHtoDAsync_v2(to: usize, from: usize, len: usize, stream: *const Stream) {
        Ok((*stream).queue(move |device| copy("upload", (from, HOST), (to, device), len)))
    }
    fn cuMemcpyDtoHAsync_v2(to: usize, from: usize, len: usize, stream: *const Stream) {
        Ok((*stream).queue(move |device| copy("download", (from, device), (to, HOST), len)))
    }
    fn cuMemcpyPeerAsync(
        to: usize, to_context: *const Context, from: usize, from_context: *const Context, len: usize, stream: *const Stream,
    ) {
        let place = |context| CONTEXTS.iter().position(|of| std::ptr::eq(of, context)).unwrap_or(HOST);
        let (to, from) = ((to, place(to_context)), (from, place(from_context)));
        Ok((*stream).queue(move |_| copy("copy between devices", from, to, len)))
    }
    fn cuMemsetD8Async(to: usize, value: u8, len: usize, stream: *const Stream) {
        Ok((*stream).queue(move |device| {
            there("zeroing", to, len, device);
            unsafe { (to as *mut u8).write_bytes(value, len) };
        }))
    }

    fn cuModuleLoadData(module: *mut *mut c_void, image: *const u8) {
        current()?;
        if std::slice::from_raw_parts(image, 4) != b"\x7fELF" {
            return Err(INVALID_IMAGE);
        }
        *module = Box::into_raw(Box::new(0_u8)).cast();
        Ok(OK)
    }
    fn cuModuleUnload(module: *mut c_void) { drop(Box::<u8>::from_raw(module.cast())); Ok(OK) }
    fn cuModuleGetFunction(function: *mut *const String, _module: *mut c_void, name: *const c_char) {
        *function = Box::into_raw(Box::new(CStr::from_ptr(name).to_string_lossy().into_owned()));
        Ok(OK)
    }
    fn cuLaunchKernel(
        function: *const String, _gx: u32, _gy: u32, _gz: u32, _bx: u32, _by: u32, _bz: u32,
        _shared: u32, stream: *const Stream, arguments: *const *const u64, _extra: *const c_void,
    ) {
        let name = (*function).as_str();
        let count = match name { "lose" => 0, "spin" => 3, _ => 4 };
        let arguments: Vec<u64> = (0..count).map(|at| **arguments.add(at)).collect();
        let name = name.to_owned();
        Ok((*stream).queue(move |device| kernel(&name, &arguments, device)))
    }

    fn nvrtcVersion(major: *mut c_int, minor: *mut c_int) { *major = 13; *minor = 0; Ok(OK) }
    fn nvrtcCreateProgram(
        program: *mut *mut c_void, _source: *const c_char, _name: *const c_char, _count: c_int,
        _headers: *const c_void, _names: *const c_void,
    ) {
        *program = Box::into_raw(Box::new(0_u8)).cast();
        Ok(OK)
    }
    fn nvrtcCompileProgram(_program: *mut c_void, _count: c_int, _options: *const c_void) { Ok(OK) }
    fn nvrtcGetCUBINSize(_program: *mut c_void, size: *mut usize) { *size = 4; Ok(OK) }
    fn nvrtcGetCUBIN(_program: *mut c_void, code: *mut u8) { b"\x7fELF".as_ptr().copy_to(code, 4); Ok(OK) }
    fn nvrtcDestroyProgram(program: *mut *mut c_void) { drop(Box::<u8>::from_raw((*program).cast())); Ok(OK) }
}

fn kernel(name: &str, arguments: &[u64], device: usize) {
    let number = |at: usize| f32::from_bits(arguments[at] as u32);
    let floats = |at: usize, len: u64| {
        there("a kernel's use", arguments[at] as usize, len as usize * 4, device);
        // SAFETY: the bytes are there, and stay as long as who launched the kernel keeps his promise, which the next look tells.
        unsafe { std::slice::from_raw_parts_mut(arguments[at] as *mut f32, len as usize) }
    };
    match name {
        "axpy_f32" => {
            let (x, y) = (floats(2, arguments[0]), floats(3, arguments[0]));
            y.iter_mut().zip(x).for_each(|(y, x)| *y = number(1).mul_add(*x, *y));
        }
        "scale" => {
            let (x, y) = (floats(1, arguments[3]), floats(2, arguments[3]));
            y.iter_mut().zip(x).for_each(|(y, x)| *y = number(0) * *x);
        }
        "spin" => {
            std::thread::sleep(Duration::from_millis(3));
            floats(0, arguments[1]).fill(2.0);
        }
        "lose" => CONTEXTS[device].sticky.store(ILLEGAL_ADDRESS, SeqCst),
        other => wrong(&format!("no kernel {other}")),
    }
}

fn copy(what: &str, from: (usize, usize), to: (usize, usize), len: usize) {
    there(what, from.0, len, from.1);
    there(what, to.0, len, to.1);
    // SAFETY: both are there, and are two pieces of memory.
    unsafe { std::ptr::copy_nonoverlapping(from.0 as *const u8, to.0 as *mut u8, len) };
}

fn in_use(place: usize) -> usize {
    memory().values().filter(|(_, of)| *of == place).map(|(len, _)| len).sum()
}

fn layout(len: usize) -> Layout {
    Layout::from_size_align(len, 512).unwrap_or_else(|_| wrong("an impossible size"))
}

/// Memory with rubbish in it.
fn take(len: usize, place: usize) -> usize {
    // SAFETY: as long as it says.
    let start = unsafe { alloc(layout(len)) };
    unsafe { start.write_bytes(0xEE, len) };
    memory().insert(start as usize, (len, place));
    start as usize
}

fn give(start: usize, place: usize) {
    match memory().remove(&start) {
        // SAFETY: taken with this layout, and given back once.
        Some((len, of)) if of == place => unsafe {
            (start as *mut u8).write_bytes(0xDD, len);
            dealloc(start as *mut u8, layout(len));
        },
        _ => wrong("memory is given back that was not taken"),
    }
}

extern "C" fn account() {
    let contexts: i64 = CONTEXTS.iter().map(|context| context.held.load(SeqCst)).sum();
    let (devices, host) = (in_use(0) + in_use(1), in_use(HOST));
    let (streams, events) = (STREAMS.load(SeqCst), EVENTS.load(SeqCst));
    eprintln!(
        "simulated: left {devices} bytes of devices, {host} of the host, {streams} streams, {events} events, {contexts} contexts, {} communicators",
        nccl::left()
    );
}
