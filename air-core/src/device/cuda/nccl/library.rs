//! NCCL's library, loaded when first asked for.
//!
//! Not by way of cudarc: it looks for `libnccl.so`, where most installations have `libnccl.so.2` and nothing else, and panics where a
//! function is missing. The signatures are those of `nccl.h`; what changes between versions is not used.
#![allow(unsafe_code)]

use std::error::Error;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use crate::device::DeviceError;

/// As its maker names it; the second comes with the package for developers.
const NAMES: [&str; 2] = ["libnccl.so.2", "libnccl.so"];

/// 2.17, as NCCL writes versions since 2.9: 10 000 × major + 100 × minor. It brought the layout of [`Config`].
const OLDEST: u32 = 21_700;

pub(super) type Comm = *mut c_void;
pub(super) type CudaStream = *mut c_void;

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct UniqueId([c_char; 128]);

/// `ncclConfig_v21700`. Newer versions add fields at the end and take one without them.
#[repr(C)]
pub(super) struct Config {
    size: usize,
    magic: c_uint,
    version: c_uint,
    blocking: c_int,
    cluster_size: c_int,
    least_blocks: c_int,
    most_blocks: c_int,
    net_name: *const c_char,
}

impl Config {
    /// Every call returns at once, also where it has to wait for other ranks.
    pub(super) fn not_blocking() -> Self {
        // What NCCL takes for "not said".
        const UNSAID: c_int = c_int::MIN;
        Self {
            size: size_of::<Self>(),
            magic: 0xcafe_beef,
            version: OLDEST,
            blocking: 0,
            cluster_size: UNSAID,
            least_blocks: UNSAID,
            most_blocks: UNSAID,
            net_name: std::ptr::null(),
        }
    }
}

macro_rules! functions {
    ($(fn $name:ident = $symbol:literal($($argument:ty),*) -> $answer:ty;)*) => {
        /// The functions of NCCL that are used.
        pub(super) struct Library {
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) -> $answer,)*
            /// Keeps them loaded.
            _loaded: libloading::Library,
        }

        impl Library {
            fn of(loaded: libloading::Library) -> Result<Self, libloading::Error> {
                Ok(Self {
                    // SAFETY: the function of this name has this signature in every version since `OLDEST`. The pointer is used only
                    // while the library is loaded, which it stays.
                    $($name: *unsafe {
                        loaded.get::<unsafe extern "C" fn($($argument),*) -> $answer>($symbol.as_bytes())
                    }?,)*
                    _loaded: loaded,
                })
            }
        }
    };
}

functions! {
    fn version = "ncclGetVersion"(*mut c_int) -> c_int;
    fn unique_id = "ncclGetUniqueId"(*mut UniqueId) -> c_int;
    fn init_rank = "ncclCommInitRankConfig"(*mut Comm, c_int, UniqueId, c_int, *mut Config) -> c_int;
    fn async_error = "ncclCommGetAsyncError"(Comm, *mut c_int) -> c_int;
    fn last_error = "ncclGetLastError"(Comm) -> *const c_char;
    fn abort = "ncclCommAbort"(Comm) -> c_int;
    fn destroy = "ncclCommDestroy"(Comm) -> c_int;
    fn group_start = "ncclGroupStart"() -> c_int;
    fn group_end = "ncclGroupEnd"() -> c_int;
    fn all_reduce = "ncclAllReduce"(*const c_void, *mut c_void, usize, c_int, c_int, Comm, CudaStream) -> c_int;
    fn reduce_scatter = "ncclReduceScatter"(*const c_void, *mut c_void, usize, c_int, c_int, Comm, CudaStream) -> c_int;
    fn all_gather = "ncclAllGather"(*const c_void, *mut c_void, usize, c_int, Comm, CudaStream) -> c_int;
    fn broadcast = "ncclBroadcast"(*const c_void, *mut c_void, usize, c_int, c_int, Comm, CudaStream) -> c_int;
    fn send = "ncclSend"(*const c_void, usize, c_int, c_int, Comm, CudaStream) -> c_int;
    fn recv = "ncclRecv"(*mut c_void, usize, c_int, c_int, Comm, CudaStream) -> c_int;
}

impl Library {
    /// The library, loaded already or loaded now.
    pub(super) fn load() -> Result<&'static Library, DeviceError> {
        static LOADED: OnceLock<Library> = OnceLock::new();
        if let Some(library) = LOADED.get() {
            return Ok(library);
        }
        let mut refusals = Vec::new();
        for name in NAMES {
            // SAFETY: loads NCCL by its well-known name and runs its initialisers, as any program that uses it does.
            match unsafe { libloading::Library::new(name) }.and_then(Self::of) {
                Ok(library) => {
                    library.check_version()?;
                    return Ok(LOADED.get_or_init(|| library));
                }
                // Its source has the words of the system.
                Err(error) => {
                    refusals.push(error.source().map_or_else(|| error.to_string(), ToString::to_string));
                }
            }
        }
        Err(DeviceError::NoNccl { reason: refusals.join("; ") })
    }

    fn check_version(&self) -> Result<(), DeviceError> {
        let mut found: c_int = 0;
        // SAFETY: writes one integer through a valid pointer.
        let answer = unsafe { (self.version)(&raw mut found) };
        let found = u32::try_from(found).unwrap_or(0);
        if answer == 0 && found >= OLDEST {
            return Ok(());
        }
        Err(DeviceError::NcclTooOld { found, needed: OLDEST })
    }
}
