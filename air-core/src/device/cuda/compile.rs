//! CUDA C++ to machine code for one architecture, by the run-time compiler (NVRTC). Needs no device and no driver.
//!
//! Machine code rather than PTX: a driver refuses the PTX of a compiler newer than itself, but loads the machine
//! code of any compiler of its major version.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char};

use cudarc::nvrtc::{result, sys};

use crate::device::DeviceError;

/// A program of the compiler, destroyed when dropped.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: the program was created once, in `machine_code`, and is destroyed here only. Nothing can be done
        // about a failure.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

/// Machine code of `source` for `architecture`, such as `sm_90`.
pub(super) fn machine_code(
    kernel: &'static str,
    source: &str,
    architecture: &str,
) -> Result<Vec<u8>, DeviceError> {
    // SAFETY: loads the compiler's library by its well-known name and runs its initialisers; calls nothing.
    if !unsafe { sys::is_culib_present() } {
        return Err(DeviceError::NoCompiler);
    }
    let failed = |error: result::NvrtcError| DeviceError::Compile { kernel, log: format!("{:?}", error.0) };
    let source = CString::new(source)
        .map_err(|_| DeviceError::Compile { kernel, log: "the source contains a zero byte".to_owned() })?;
    // `source` lives until the end of this function, longer than the program.
    let program = Program(result::create_program(&source, None).map_err(failed)?);
    let options = [format!("--gpu-architecture={architecture}")];
    // SAFETY: the program was created above and not destroyed.
    if let Err(error) = unsafe { result::compile_program(program.0, &options) } {
        // SAFETY: as above.
        let log = unsafe { result::get_program_log(program.0) };
        let log = log.map_or_else(|_| format!("{:?}", error.0), |log| text(&log));
        return Err(DeviceError::Compile { kernel, log });
    }
    let mut size = 0;
    // SAFETY: the program is compiled; the call writes one integer through a valid pointer.
    unsafe { sys::nvrtcGetCUBINSize(program.0, &raw mut size) }.result().map_err(failed)?;
    let mut code = vec![0u8; size];
    // SAFETY: the call writes the `size` bytes that it announced, and `code` has room for as many.
    unsafe { sys::nvrtcGetCUBIN(program.0, code.as_mut_ptr().cast::<c_char>()) }.result().map_err(failed)?;
    Ok(code)
}

/// The compiler's words, up to their terminating zero.
fn text(log: &[c_char]) -> String {
    let bytes: Vec<u8> = log.iter().map(|&c| c as u8).take_while(|&byte| byte != 0).collect();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn errors_carry_the_compilers_words() {
        match machine_code("broken", "extern \"C\" __global__ void broken() { nonsense; }", "sm_90") {
            Err(DeviceError::NoCompiler) => println!("no kernel compiler here, so its absence is asserted"),
            Err(DeviceError::Compile { kernel: "broken", log }) => assert!(log.contains("nonsense"), "{log}"),
            other => panic!("{other:?}"),
        }
    }
}
