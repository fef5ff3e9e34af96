use std::sync::LazyLock;

use super::Kernel;
use crate::device::DeviceError;

/// `y = alpha * x + y` over f32.
pub(crate) fn axpy() -> Result<&'static Kernel, DeviceError> {
    static AXPY: LazyLock<Result<Kernel, DeviceError>> = LazyLock::new(|| {
        const SIGNATURE: &str = "n: u64, alpha: f32, x: &f32[n], y: &mut f32[n]";
        // SAFETY: the function in `axpy.cu` has this signature. On any grid it reads `x` and touches `y` only below `n`, the length
        // of both.
        unsafe { Kernel::new("axpy_f32", include_str!("axpy.cu"), SIGNATURE) }
    });
    AXPY.as_ref().map_err(Clone::clone)
}
