#![allow(clippy::unwrap_used)]

use super::*;

const SOURCE: &str = r#"extern "C" __global__ void fill(float *x, unsigned long long n, float value) {
    for (unsigned long long i = threadIdx.x; i < n; i += blockDim.x) x[i] = value;
}"#;

fn fill(source: &'static str) -> Kernel {
    // SAFETY: it is never launched.
    unsafe { Kernel::new("fill", source, "x: &mut f32[n], n: u64, value: f32") }.unwrap()
}

/// Whether the compiler is there; where it is not, that is asserted.
fn compiler() -> bool {
    match cuda::compiler_version("fill") {
        Ok(version) => version.contains('.'),
        Err(error) => {
            assert_eq!(error, DeviceError::NoCompiler);
            assert_eq!(fill(SOURCE).compile("sm_90"), Err(DeviceError::NoCompiler));
            println!("no kernel compiler here, so its absence is asserted");
            false
        }
    }
}

#[test]
fn a_kernel_is_compiled_once_and_then_read_from_disk() {
    if !compiler() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cache = ModuleCache::new(folder.path().to_owned(), 1 << 20);
    let kernel = fill(SOURCE);
    let compiled = code_in(Some(&cache), &kernel, "sm_90").unwrap();
    assert!(!compiled.from_cache && compiled.bytes.starts_with(b"\x7fELF"));
    // Another kernel of the same text, as another process would have.
    let kept = code_in(Some(&cache), &fill(SOURCE), "sm_90").unwrap();
    assert!(kept.from_cache);
    assert_eq!(kept.bytes, compiled.bytes);
    for other in [
        kernel.clone().option("--use_fast_math"),
        fill(concat!("#define X\n", "extern \"C\" __global__ void fill() {}")),
    ] {
        assert!(!code_in(Some(&cache), &other, "sm_90").unwrap().from_cache, "{other:?}");
    }
    assert!(!code_in(Some(&cache), &kernel, "sm_80").unwrap().from_cache);
    // A damaged file is made again.
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let file = entry.unwrap().path();
        let half = std::fs::read(&file).unwrap();
        std::fs::write(&file, &half[..half.len() / 2]).unwrap();
    }
    assert!(!code_in(Some(&cache), &kernel, "sm_90").unwrap().from_cache);
    assert!(code_in(Some(&cache), &kernel, "sm_90").unwrap().from_cache);
    // Where nothing can be kept, it is compiled all the same.
    let nowhere = ModuleCache::new("/dev/null/kernels".into(), 1 << 20);
    assert!(!code_in(Some(&nowhere), &kernel, "sm_90").unwrap().from_cache);
}

#[test]
fn errors_carry_the_compilers_words() {
    if !compiler() {
        return;
    }
    let broken = fill("extern \"C\" __global__ void fill() { nonsense; }");
    let error = code_in(None, &broken, "sm_90").err().unwrap();
    assert!(
        matches!(&error, DeviceError::Compile { kernel, log } if kernel == "fill" && log.contains("nonsense"))
    );
    for (kernel, says) in [
        (fill(SOURCE).option("--no-such-option"), "no-such-option"),
        (fill(SOURCE).option("a\0b"), "zero byte"),
        (fill("a\0b"), "zero byte"),
    ] {
        let error = code_in(None, &kernel, "sm_90").err().unwrap();
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn a_kernel_that_cannot_be_is_refused_when_it_is_made() {
    // SAFETY: none of them is launched.
    let name = unsafe { Kernel::new("fill<float>", SOURCE, "") }.unwrap_err();
    assert_eq!(
        name.to_string(),
        "kernel fill<float> has no usable signature: a kernel's name consists of letters, digits and `_`"
    );
    // SAFETY: as above.
    let signature = unsafe { Kernel::new("fill", SOURCE, "n") }.unwrap_err();
    assert!(signature.to_string().contains("`n` is not an argument"), "{signature}");
}

#[test]
fn a_launch_is_checked_before_any_device_is_asked() {
    let kernel = fill(SOURCE);
    let x = Shown::Tensor { dtype: crate::tensor::DType::F32, shape: &[3], contiguous: true, written: true };
    let arguments = |n: u64| [x, Shown::Scalar(n.into()), Shown::Scalar(0.5_f32.into())];
    assert_eq!(kernel.check(&Launch::cover(3), &arguments(3)), Ok(()));
    let error = kernel.check(&Launch::cover(3), &arguments(4)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "argument `n` of kernel fill is not 3, the length of the axis of `x` with its name"
    );
    let launch = Launch { block: [2000, 1, 1], ..Launch::cover(3) };
    let error = kernel.check(&launch, &arguments(3)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "kernel fill cannot be launched on a block of 2000 x 1 x 1 threads; it may have 1 to 1024"
    );
}

/// Where the compiler is, with or without a device, our own kernels compile.
#[test]
fn our_kernels_compile() {
    let kernel = axpy().unwrap();
    if compiler() {
        assert!(code_in(None, kernel, "sm_90").unwrap().bytes.starts_with(b"\x7fELF"));
    }
}
