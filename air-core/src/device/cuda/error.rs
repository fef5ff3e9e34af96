//! Driver errors as ours. Nothing here calls the driver, so that it works, and is tested, without one.

use cudarc::driver::sys::CUresult;

use crate::device::{Device, DeviceError};

/// What an error of the driver means for the device.
pub(super) fn translate(device: Device, operation: &'static str, result: CUresult) -> DeviceError {
    let cause = format!("{result:?}");
    match result {
        CUresult::CUDA_ERROR_NO_DEVICE => DeviceError::NoDevice,
        // These destroy the context ("sticky"): the driver answers every later call with the same error.
        CUresult::CUDA_ERROR_DEINITIALIZED
        | CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
        | CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE
        | CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
        | CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
        | CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED
        | CUresult::CUDA_ERROR_ASSERT
        | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR
        | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
        | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
        | CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE
        | CUresult::CUDA_ERROR_INVALID_PC
        | CUresult::CUDA_ERROR_LAUNCH_FAILED
        | CUresult::CUDA_ERROR_EXTERNAL_DEVICE
        | CUresult::CUDA_ERROR_UNKNOWN => DeviceError::Lost { device, cause, operation },
        _ => DeviceError::Driver { device, cause, operation },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sticky_errors_lose_the_device() {
        let lost = translate(Device::Cuda(1), "axpy", CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
        assert!(lost.is_lost());
        assert_eq!(
            lost.to_string(),
            "cuda:1 is lost after CUDA_ERROR_ILLEGAL_ADDRESS during axpy; a new process can use it again, this one where the driver allows it"
        );
        assert!(translate(Device::Cuda(0), "axpy", CUresult::CUDA_ERROR_LAUNCH_FAILED).is_lost());
        assert!(translate(Device::Cuda(0), "axpy", CUresult::CUDA_ERROR_ECC_UNCORRECTABLE).is_lost());
    }

    #[test]
    fn passing_errors_do_not() {
        let bad = translate(Device::Cuda(0), "upload", CUresult::CUDA_ERROR_INVALID_VALUE);
        assert!(!bad.is_lost());
        assert_eq!(bad.to_string(), "upload failed on cuda:0: CUDA_ERROR_INVALID_VALUE");
    }
}
