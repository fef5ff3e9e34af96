//! A file for models. Pure.

use std::path::PathBuf;

/// The file, in YAML, that serves these models, each at the path of its name.
pub(crate) fn template(models: &[PathBuf]) -> String {
    let mut text = String::from(
        "# air-serve run FILE\nhttp_options:\n  host: 127.0.0.1   # 0.0.0.0 for every network this machine is on\n  \
         port: 8000\nlogging_config:\n  encoding: TEXT\n  enable_access_log: false\napplications:\n",
    );
    for model in models {
        let name = model.file_stem().unwrap_or_default().to_string_lossy();
        // JSON's strings are YAML's.
        let quoted = |text: String| serde_json::Value::String(text).to_string();
        let lines = [
            format!("- name: {}", quoted(name.to_string())),
            format!("  route_prefix: {}", quoted(format!("/{name}"))),
            format!("  import_path: {}", quoted(format!("onnx://{}", model.display()))),
            "  # args:\n  #   labels: [names, of, classes]\n  #   scores: true".to_owned(),
            format!("  deployments:\n  - name: {}", quoted(name.to_string())),
            "    max_batch_size: 1\n    max_queued_requests: 1000\n    request_timeout_s: 30.0\n".to_owned(),
        ];
        text.push_str(&lines.join("\n"));
    }
    text
}
