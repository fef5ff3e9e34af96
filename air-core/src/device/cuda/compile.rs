//! CUDA C++ to machine code for one architecture, by the run-time compiler (NVRTC). Needs no device and no driver.
//!
//! Machine code rather than PTX: a driver refuses the PTX of a compiler newer than itself, but loads the machine
//! code of any compiler of its major version.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int};

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

/// The version of the compiler that `kernel` would be compiled with, such as `13.0`.
pub(crate) fn compiler_version(kernel: &str) -> Result<String, DeviceError> {
    check_compiler()?;
    let (mut major, mut minor): (c_int, c_int) = (0, 0);
    // SAFETY: the library is there, and the call writes two integers through valid pointers.
    unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) }
        .result()
        .map_err(|error| DeviceError::Compile { kernel: kernel.to_owned(), log: format!("{:?}", error.0) })?;
    Ok(format!("{major}.{minor}"))
}

/// Machine code of `source` for `architecture`, such as `sm_90`.
pub(crate) fn machine_code(
    kernel: &str,
    source: &str,
    options: &[String],
    architecture: &str,
) -> Result<Vec<u8>, DeviceError> {
    check_compiler()?;
    let error = |log: String| DeviceError::Compile { kernel: kernel.to_owned(), log };
    let failed = |found: result::NvrtcError| error(format!("{:?}", found.0));
    let source = CString::new(source).map_err(|_| error("the source contains a zero byte".to_owned()))?;
    let options: Vec<String> =
        options.iter().cloned().chain([format!("--gpu-architecture={architecture}")]).collect();
    // cudarc panics at one.
    if options.iter().any(|option| option.contains('\0')) {
        return Err(error("an option contains a zero byte".to_owned()));
    }
    // `source` lives until the end of this function, longer than the program.
    let program = Program(result::create_program(&source, None).map_err(failed)?);
    // SAFETY: the program was created above and not destroyed.
    if let Err(found) = unsafe { result::compile_program(program.0, &options) } {
        // SAFETY: as above.
        let log = unsafe { result::get_program_log(program.0) };
        return Err(error(log.map_or_else(|_| format!("{:?}", found.0), |log| text(&log))));
    }
    let mut size = 0;
    // SAFETY: the program is compiled; the call writes one integer through a valid pointer.
    unsafe { sys::nvrtcGetCUBINSize(program.0, &raw mut size) }.result().map_err(failed)?;
    let mut code = vec![0u8; size];
    // SAFETY: the call writes the `size` bytes that it announced, and `code` has room for as many.
    unsafe { sys::nvrtcGetCUBIN(program.0, code.as_mut_ptr().cast::<c_char>()) }.result().map_err(failed)?;
    Ok(code)
}

fn check_compiler() -> Result<(), DeviceError> {
    // SAFETY: loads the compiler's library by its well-known name and runs its initialisers; calls nothing.
    if unsafe { sys::is_culib_present() } { Ok(()) } else { Err(DeviceError::NoCompiler) }
}

/// The compiler's words, up to their terminating zero.
fn text(log: &[c_char]) -> String {
    let bytes: Vec<u8> = log.iter().map(|&c| c as u8).take_while(|&byte| byte != 0).collect();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}
