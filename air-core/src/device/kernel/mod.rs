//! Kernels: CUDA C++ that is compiled when it is first launched, with a declared signature that every launch is checked against.
//!
//! | file | idea |
//! |---|---|
//! | `signature` | what a kernel takes, and whether arguments are that |
//! | `argument` | what it is given |
//! | `launch` | on how many threads |
//! | `cache` | machine code, kept on disk |
//!
//! Nothing here needs a device: compiling needs the compiler, checking needs nothing.
#![allow(unsafe_code)]

mod argument;
mod axpy;
mod cache;
mod launch;
mod signature;

use std::borrow::Cow;
use std::sync::{Arc, Weak};

pub use argument::{Arg, Scalar};
pub(crate) use axpy::axpy;
pub use launch::Launch;
pub(crate) use signature::Shown;
use signature::Signature;

use self::cache::{Key, ModuleCache};
use super::{DeviceError, cuda};

/// A function of the device, in CUDA C++. Cheap to clone; compiled for each kind of device when it is first launched there, and
/// then kept on disk (see [`Kernel::new`]).
#[derive(Clone)]
pub struct Kernel {
    text: Arc<Text>,
}

/// What makes a kernel.
pub(crate) struct Text {
    name: String,
    source: Cow<'static, str>,
    options: Vec<String>,
    signature: Signature,
}

impl Kernel {
    /// The function `name` of `source`, which declares it `extern "C" __global__`, with arguments as `signature` says, in order:
    ///
    /// ```
    /// use air_core::device::Kernel;
    ///
    /// let source = r#"
    /// extern "C" __global__ void scale(float by, const float *x, float *y, long long n) {
    ///     long long step = (long long)gridDim.x * blockDim.x;
    ///     for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) y[i] = by * x[i];
    /// }"#;
    /// // SAFETY: it has this signature, reads `x` and writes `y` below `n`, which is their length.
    /// let scale = unsafe { Kernel::new("scale", source, "by: f32, x: &f32[n], y: &mut f32[n], n: i64") }?;
    /// # Ok::<(), air_core::device::DeviceError>(())
    /// ```
    ///
    /// A number is one of `f32 f64 f16 bf16 i8 i32 i64 u8 u32 u64 bool`. A tensor is `&` (read) or `&mut` (written, by this kernel
    /// alone), its element type, and its shape: lengths, names, or `[..]` for any. It is a pointer to its elements in row-major order.
    /// Axes of one name have one length, and an integer argument of that name must be that length.
    ///
    /// Machine code is kept in the folder `AIR_KERNEL_CACHE` (empty for none), else in `air/kernels` of the user's cache folder
    /// (`XDG_CACHE_HOME`, `~/.cache`), up to 256 MiB.
    ///
    /// # Safety
    ///
    /// A kernel can write anywhere. For arguments that fit the signature, and any [`Launch`] it is used with, this one must not write but
    /// to tensors that are `&mut`, nor read but from its tensors, within their elements. Booleans it writes are 0 or 1.
    pub unsafe fn new(
        name: impl Into<String>,
        source: impl Into<Cow<'static, str>>,
        signature: &str,
    ) -> Result<Kernel, DeviceError> {
        let name = name.into();
        let wrong = |reason: String| DeviceError::Signature { kernel: name.clone(), reason };
        if !signature::is_name(&name) {
            return Err(wrong("a kernel's name consists of letters, digits and `_`".to_owned()));
        }
        let signature = Signature::parse(signature).map_err(wrong)?;
        let text = Text { name, source: source.into(), options: Vec::new(), signature };
        Ok(Kernel { text: Arc::new(text) })
    }

    /// The same kernel, compiled with one more option, such as `--use_fast_math`.
    #[must_use]
    pub fn option(self, option: impl Into<String>) -> Kernel {
        let Text { name, source, options, signature } = &*self.text;
        let options = options.iter().cloned().chain([option.into()]).collect();
        let (name, source, signature) = (name.clone(), source.clone(), signature.clone());
        Kernel { text: Arc::new(Text { name, source, options, signature }) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.text.name
    }

    /// Compiles it for an architecture, such as `sm_90`, as a launch would, and keeps the machine code for launches to come. Needs the
    /// compiler and no device; returns the size of the machine code in bytes.
    pub fn compile(&self, architecture: &str) -> Result<usize, DeviceError> {
        code(self, architecture).map(|code| code.bytes.len())
    }

    /// Whether these arguments and this grid are what the kernel takes; the error names what is not.
    pub(crate) fn check(&self, launch: &Launch, arguments: &[Shown<'_>]) -> Result<(), DeviceError> {
        let kernel = || self.text.name.clone();
        launch.check().map_err(|reason| DeviceError::Launch { kernel: kernel(), reason })?;
        let wrong = |(argument, reason)| DeviceError::Argument { kernel: kernel(), argument, reason };
        self.text.signature.check(arguments).map_err(wrong)
    }

    pub(crate) fn weak(&self) -> Weak<Text> {
        Arc::downgrade(&self.text)
    }

    pub(crate) fn is(&self, text: &Weak<Text>) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.text), text.as_ptr())
    }
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kernel({}({}))", self.text.name, self.text.signature)
    }
}

/// Machine code, and whether it was kept from before.
pub(crate) struct Code {
    pub(crate) bytes: Vec<u8>,
    pub(crate) from_cache: bool,
}

/// The machine code of a kernel, kept or made now.
pub(crate) fn code(kernel: &Kernel, architecture: &str) -> Result<Code, DeviceError> {
    code_in(ModuleCache::of_user().as_ref(), kernel, architecture)
}

fn code_in(cache: Option<&ModuleCache>, kernel: &Kernel, architecture: &str) -> Result<Code, DeviceError> {
    let key = key(kernel, architecture)?;
    if let Some(bytes) = cache.and_then(|cache| cache.get(&key)) {
        return Ok(Code { bytes, from_cache: true });
    }
    compiled(cache, kernel, architecture, &key)
}

/// The machine code of a kernel, made now; it takes the place of what is kept.
pub(crate) fn fresh_code(kernel: &Kernel, architecture: &str) -> Result<Code, DeviceError> {
    compiled(ModuleCache::of_user().as_ref(), kernel, architecture, &key(kernel, architecture)?)
}

fn key(kernel: &Kernel, architecture: &str) -> Result<Key, DeviceError> {
    let compiler = cuda::compiler_version(&kernel.text.name)?;
    Ok(Key::new(&compiler, architecture, &kernel.text.options, &kernel.text.source))
}

fn compiled(
    cache: Option<&ModuleCache>,
    kernel: &Kernel,
    architecture: &str,
    key: &Key,
) -> Result<Code, DeviceError> {
    let text = &kernel.text;
    let bytes = cuda::machine_code(&text.name, &text.source, &text.options, architecture)?;
    if let Some(cache) = cache
        && let Err(error) = cache.put(key, &bytes)
    {
        tracing::warn!(kernel = text.name, %error, "the machine code of a kernel is not kept, so it is compiled again next time");
    }
    Ok(Code { bytes, from_cache: false })
}

#[cfg(test)]
mod tests;
