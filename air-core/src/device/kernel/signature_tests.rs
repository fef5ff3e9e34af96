#![allow(clippy::unwrap_used)]

use half::f16;
use proptest::prelude::*;

use super::*;

fn read(dtype: DType, shape: &[usize]) -> Shown<'_> {
    Shown::Tensor { dtype, shape, contiguous: true, written: false }
}

fn write(dtype: DType, shape: &[usize]) -> Shown<'_> {
    Shown::Tensor { dtype, shape, contiguous: true, written: true }
}

fn scalar(value: impl Into<Scalar>) -> Shown<'static> {
    Shown::Scalar(value.into())
}

#[test]
fn a_signature_is_written_as_it_is_read() {
    for text in [
        "",
        "n: u64",
        "n: u64, alpha: f32, x: &f32[n], y: &mut f32[n]",
        "x: &bf16[batch, 3, 224], any: &mut bool[..], one: &i8[]",
        "a: f64, b: f16, c: bf16, d: i8, e: i32, f: i64, g: u8, h: u32, i: bool",
    ] {
        assert_eq!(Signature::parse(text).unwrap().to_string(), text);
    }
    let loose = Signature::parse(" n :i64,  x:& f32 [ n,2 ] , ").unwrap();
    assert_eq!(loose.to_string(), "n: i64, x: &f32[n, 2]");
}

#[test]
fn what_is_no_signature_is_named() {
    for (text, says) in [
        ("n", "`n` is not an argument; write `n: u64`"),
        ("n: int", "`n: int` is not"),
        ("n: &f32", "`n: &f32` is not"),
        ("x: &f32[n", "`x: &f32[n` is not"),
        ("x: &f32[n,]", "is not an argument"),
        ("x: &f32[-1]", "is not an argument"),
        ("2x: f32", "is not an argument"),
        ("x: f32,, y: f32", "`` is not an argument"),
        ("x: f32, x: f32", "two arguments are called `x`"),
        ("x: &u64[n]", "is not an argument"),
        ("x: &f32[1,1,1,1,1,1,1,1,1]", "more than 8 axes"),
    ] {
        let error = Signature::parse(text).unwrap_err();
        assert!(error.contains(says), "{text}: {error}");
    }
    let many = (0..513).map(|at| format!("a{at}: f32")).collect::<Vec<_>>().join(",");
    assert_eq!(Signature::parse(&many).unwrap_err(), "513 arguments, at most 512 are supported");
}

#[test]
fn arguments_that_fit_pass() {
    let axpy = Signature::parse("n: u64, alpha: f32, x: &f32[n], y: &mut f32[n]").unwrap();
    for n in [0, 1, 1000] {
        let (x, y) = ([n], [n]);
        let arguments = [scalar(n as u64), scalar(2.0_f32), read(DType::F32, &x), write(DType::F32, &y)];
        assert_eq!(axpy.check(&arguments), Ok(()));
    }
    let any = Signature::parse("a: f16, x: &i64[..], y: &mut u8[2, 3]").unwrap();
    let arguments = [scalar(f16::ONE), read(DType::I64, &[7, 1, 4]), write(DType::U8, &[2, 3])];
    assert_eq!(any.check(&arguments), Ok(()));
}

#[test]
fn an_argument_that_does_not_fit_is_named_and_why() {
    let signature = Signature::parse("n: u64, by: f32, x: &f32[n, 3], y: &mut f32[n, 3]").unwrap();
    let (x, y) = (read(DType::F32, &[4, 3]), write(DType::F32, &[4, 3]));
    let (n, by) = (scalar(4_u64), scalar(1.0_f32));
    assert_eq!(signature.check(&[n, by, x, y]), Ok(()));
    let gaps = Shown::Tensor { dtype: DType::F32, shape: &[4, 3], contiguous: false, written: false };
    for (arguments, argument, reason) in [
        (vec![n, by, x], "y", "3 arguments were given, it takes 4"),
        (vec![n, by, x, y, y], "", "5 arguments were given, it takes 4"),
        (vec![n, scalar(1.0_f64), x, y], "by", "is a f64, not f32"),
        (vec![scalar(4_i64), by, x, y], "n", "is a i64, not u64"),
        (vec![n, x, x, y], "by", "is a tensor of f32, not f32"),
        (vec![n, by, by, y], "x", "is a f32, not &f32[n, 3]"),
        (vec![n, by, read(DType::F64, &[4, 3]), y], "x", "is a tensor of f64, not of f32"),
        (vec![n, by, x, x], "y", "is written, so it must be given as `&mut`"),
        (vec![n, by, y, y], "x", "is only read, so it must be given as `&`"),
        (
            vec![n, by, gaps, y],
            "x",
            "is not contiguous; call `contiguous()` to copy it before it goes to the device",
        ),
        (vec![n, by, read(DType::F32, &[12]), y], "x", "has shape [12], which is not 2 long"),
        (vec![n, by, read(DType::F32, &[4, 2]), y], "x", "has shape [4, 2], whose axis 1 is not 3"),
        (
            vec![n, by, x, write(DType::F32, &[5, 3])],
            "y",
            "has shape [5, 3], whose axis 0 is not 4, the `n` of `x`",
        ),
        (vec![scalar(5_u64), by, x, y], "n", "is not 4, the length of the axis of `x` with its name"),
    ] {
        assert_eq!(signature.check(&arguments), Err((argument.to_owned(), reason.to_owned())));
    }
    let signed = Signature::parse("x: &f32[n], n: i32").unwrap();
    assert!(signed.check(&[read(DType::F32, &[4]), scalar(-4_i32)]).is_err());
    assert_eq!(signed.check(&[read(DType::F32, &[4]), scalar(4_i32)]), Ok(()));
}

proptest! {
    /// Whatever the lengths: it passes exactly where all axes of one name, and the number of that name, are one length.
    #[test]
    fn lengths_pass_exactly_where_they_agree(a in 0..3_usize, b in 0..3_usize, c in 0..3_usize, d in 0..3_usize, n in 0..3_u32) {
        let signature = Signature::parse("n: u32, x: &f32[n, m], y: &mut f32[m, n]").unwrap();
        let (x, y) = ([a, b], [c, d]);
        let passes = signature.check(&[scalar(n), read(DType::F32, &x), write(DType::F32, &y)]).is_ok();
        prop_assert_eq!(passes, a == n as usize && d == a && b == c);
    }

    /// No text makes the reader panic, and what it reads it reads again.
    #[test]
    fn any_text_is_read_or_refused(text in "[a-z0-9_:&\\[\\],. ]{0,40}") {
        if let Ok(signature) = Signature::parse(&text) {
            prop_assert_eq!(Signature::parse(&signature.to_string()).unwrap(), signature);
        }
    }
}
