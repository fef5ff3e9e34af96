//! Parameters as text: `lr=loguniform(1e-4,1e-1)`.

use serde_json::Value;

use super::domain::{
    Domain, choice, fixed, grid, int_uniform, log_int_uniform, log_uniform, normal, uniform,
};
use crate::error::{Result, TuneError};

const FORMS: &str = "grid(a,b,…), choice(a,b,…), uniform(low,high), loguniform(low,high), quniform(low,high,step), \
                     randint(low,high), lograndint(low,high), qrandint(low,high,step), \
                     normal(mean,deviation), qnormal(mean,deviation,step), or a constant";

/// Reads `name=domain` with Ray's names for the domains.
///
/// `randint` leaves out its upper bound, as Ray's does. Values of `grid` and `choice` are JSON, or bare words.
///
/// ```
/// use air_tune::space::{choice, parse_param};
/// assert_eq!(parse_param("units=choice(16,32)")?, ("units".to_owned(), choice([16, 32])));
/// # Ok::<(), air_tune::TuneError>(())
/// ```
///
/// # Errors
/// [`TuneError::InvalidSpace`] with the parameter's name and what was expected.
pub fn parse_param(text: &str) -> Result<(String, Domain)> {
    let Some((name, form)) = text.split_once('=') else {
        return Err(TuneError::space(
            text.trim(),
            format!("expected `name=domain`, where domain is {FORMS}"),
        ));
    };
    let (name, form) = (name.trim(), form.trim());
    let domain = parse_domain(form).map_err(|reason| TuneError::space(name, reason))?;
    domain.check().map_err(|reason| TuneError::space(name, reason))?;
    Ok((name.to_owned(), domain))
}

fn parse_domain(form: &str) -> Result<Domain, String> {
    let Some(open) = form.find('(').filter(|_| !form.starts_with(['"', '[', '{'])) else {
        return if form.is_empty() { Err(format!("expected {FORMS}")) } else { Ok(fixed(scalar(form))) };
    };
    let Some(inner) = form[open + 1..].strip_suffix(')') else {
        return Err(format!("`{form}` has no closing parenthesis"));
    };
    let kind = form[..open].trim();
    let args = split(inner)?;
    let floats = |n: usize| -> Result<Vec<f64>, String> {
        arity(kind, &args, n)?;
        args.iter().map(|a| a.parse().map_err(|_| format!("`{a}` in `{form}` is not a number"))).collect()
    };
    let ints = |n: usize| -> Result<Vec<i64>, String> {
        arity(kind, &args, n)?;
        args.iter().map(|a| a.parse().map_err(|_| format!("`{a}` in `{form}` is not an integer"))).collect()
    };
    Ok(match kind {
        "grid" | "grid_search" => grid(args.iter().map(|a| scalar(a))),
        "choice" => choice(args.iter().map(|a| scalar(a))),
        "uniform" => floats(2).map(|v| uniform(v[0], v[1]))?,
        "loguniform" => floats(2).map(|v| log_uniform(v[0], v[1]))?,
        "quniform" => floats(3).map(|v| uniform(v[0], v[1]).step(v[2]))?,
        "normal" | "randn" => floats(2).map(|v| normal(v[0], v[1]))?,
        "qnormal" | "qrandn" => floats(3).map(|v| normal(v[0], v[1]).step(v[2]))?,
        "randint" => ints(2).map(|v| int_uniform(v[0]..v[1]))?,
        "lograndint" => ints(2).map(|v| log_int_uniform(v[0]..v[1]))?,
        "qrandint" => ints(3).map(|v| int_uniform(v[0]..=v[1]).step(v[2] as f64))?,
        _ => return Err(format!("`{kind}` is no domain; expected {FORMS}")),
    })
}

fn arity(kind: &str, args: &[&str], expected: usize) -> Result<(), String> {
    if args.len() == expected {
        Ok(())
    } else {
        Err(format!("`{kind}` takes {expected} arguments, found {}", args.len()))
    }
}

fn scalar(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

/// Splits at commas outside quotes and brackets.
fn split(inner: &str) -> Result<Vec<&str>, String> {
    let (mut parts, mut start, mut depth, mut quoted, mut escaped) = (Vec::new(), 0, 0_i32, false, false);
    for (at, c) in inner.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '[' | '{' | '(' if !quoted => depth += 1,
            ']' | '}' | ')' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                parts.push(inner[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if quoted || depth != 0 {
        return Err(format!("`{inner}` has an open quote or bracket"));
    }
    let last = inner[start..].trim();
    if !(parts.is_empty() && last.is_empty()) {
        parts.push(last);
    }
    if parts.iter().any(|part| part.is_empty()) {
        Err(format!("`{inner}` has an empty value"))
    } else {
        Ok(parts)
    }
}
