//! Sorts, shuffles, groups and joins a data set several times the memory budget, each in a process of its own, and tells the time and the most
//! memory that was resident.
//!
//! `cargo run --release -p air-data --example out_of_core -- [--budget-mib 512] [--times 4] [--work sort|shuffle|group|join] [--json]`

mod work;

use std::process::Command;
use std::time::Instant;

use air_core::BoxError;
use air_data::{Session, SessionConfig};
use work::{ROW_BYTES, Work};

/// A line of `/proc/self/status` in bytes, such as the most that was resident.
fn status(line: &str) -> Result<u64, BoxError> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let found =
        text.lines().find_map(|text| text.strip_prefix(line)?.split_whitespace().next()?.parse::<u64>().ok());
    Ok(found.ok_or_else(|| format!("no {line} in /proc/self/status"))? * 1024)
}

fn main() -> Result<(), BoxError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let given = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let number = |name: &str, default: u64| given(name).map_or(Ok(default), |text| text.parse());
    let (budget, times) = (number("--budget-mib", 512)? << 20, number("--times", 4)?);
    let Some(name) = given("--work") else {
        let me = std::env::current_exe()?;
        for work in Work::ALL {
            let ended = Command::new(&me).args(&args).args(["--work", work.name()]).status()?;
            if !ended.success() {
                return Err(format!("{} failed", work.name()).into());
            }
        }
        return Ok(());
    };
    let work =
        Work::ALL.into_iter().find(|work| work.name() == name).ok_or_else(|| format!("no work `{name}`"))?;
    let rows = budget * times / ROW_BYTES;
    let session = Session::new(SessionConfig { memory_limit_bytes: budget, ..SessionConfig::default() })?;
    let before = status("VmHWM:")?;
    let began = Instant::now();
    let checksum = work.run(&session, rows)?;
    let (seconds, peak) = (began.elapsed().as_secs_f64(), status("VmHWM:")?);
    let counted = session.budget().usage().peak_bytes;
    let of_budget = peak as f64 / budget as f64;
    if args.iter().any(|arg| arg == "--json") {
        let measured = serde_json::json!({
            "work": name, "rows": rows, "data_bytes": rows * ROW_BYTES, "budget_bytes": budget, "seconds": seconds,
            "peak_rss_bytes": peak, "rss_before_bytes": before, "counted_peak_bytes": counted, "of_budget": of_budget, "checksum": checksum,
        });
        println!("{measured}");
    } else {
        println!(
            "{name}: {rows} rows, {times} times the budget, in {seconds:.1} s; at most {} MiB resident, {of_budget:.2} of the budget; {} MiB counted",
            peak >> 20,
            counted >> 20
        );
    }
    Ok(())
}
