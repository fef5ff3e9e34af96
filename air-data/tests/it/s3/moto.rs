//! moto's S3, a stranger's idea of the protocol: only where a Python has it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{numbers, sum, with};

/// Starts the server with 10 000 keys in it, tells its port, and ends with its standard input.
const PROGRAM: &str = r#"
import sys
from moto.server import ThreadedMotoServer
from moto.s3.models import s3_backends
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
store = s3_backends["123456789012"]["aws"]
store.create_bucket("bucket", "us-east-1")
for n in range(10_000):
    store.put_object("bucket", f"logs/{n:05}.csv", f"n\n{n}\n".encode())
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"#;

/// A Python with moto's server: `$AIR_BENCH_PYTHON`, the benchmarks' environment, or the system's.
fn python() -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let candidates = [
        std::env::var_os("AIR_BENCH_PYTHON").map(PathBuf::from),
        Some(root.join(".venv-bench/bin/python")),
        Some(PathBuf::from("python3")),
    ];
    let found = candidates.into_iter().flatten().find(|python| {
        let import = Command::new(python).args(["-c", "import moto.server, flask, flask_cors"]).output();
        import.is_ok_and(|output| output.status.success())
    });
    if found.is_none() {
        eprintln!("nothing was checked: no Python with moto[server] (set AIR_BENCH_PYTHON)");
    }
    found
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn moto_lists_reads_and_writes() {
    let Some(python) = python() else { return };
    let child = Command::new(python)
        .args(["-c", PROGRAM])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut server = Server(child);
    let mut port = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let endpoint = format!("http://127.0.0.1:{}", port.trim());
    let options = [
        ("aws_endpoint", endpoint.as_str()),
        ("aws_access_key_id", "key"),
        ("aws_secret_access_key", "secret"),
    ];
    let session = with(&options, 3);

    let text = session.read_text("s3://bucket/logs/*").unwrap();
    let files = text.input_files().unwrap();
    assert_eq!((files.len(), files[9_999].as_str()), (10_000, "s3://bucket/logs/09999.csv"));
    assert_eq!(sum(&session.read_csv("s3://bucket/logs/0123?.csv").unwrap()), (1230..1240).sum::<i64>());

    // Several parts, several files, ranges of Parquet.
    let ds = session.from_batches(numbers(2_000_000)).unwrap();
    ds.write_ipc("s3://bucket/large.arrow").unwrap();
    assert_eq!(sum(&session.read_ipc("s3://bucket/large.arrow").unwrap()), sum(&ds));
    assert_eq!(ds.repartition(3).write_parquet("s3://bucket/out").unwrap().len(), 3);
    assert_eq!(sum(&session.read_parquet("s3://bucket/out/*.parquet").unwrap()), sum(&ds));
    let bad = ds.map_batches(|batch| if batch.num_rows() == 0 { Ok(batch) } else { Err("no".into()) });
    assert!(bad.write_parquet("s3://bucket/bad").is_err());
    assert!(session.read_parquet("s3://bucket/bad").is_err());
    assert!(session.read_parquet("s3://no-such-bucket/x.parquet").is_err());
}
