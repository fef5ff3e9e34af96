-- The request of the quick start, and one line of JSON at the end.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"vector": [1.2, 1.0, 1.1, 0.9]}'

done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('{"requests_per_s": %.1f, "p50_ms": %.3f, "p99_ms": %.3f, "failed": %d}\n',
    summary.requests / (summary.duration / 1e6), latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    e.status + e.connect + e.read + e.write + e.timeout))
end
