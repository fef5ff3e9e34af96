//! The metrics' text, after the gauges that show what is now were set.

use crate::device::{self, Device, MemoryUse};
use crate::error::Result;
use crate::metrics::Metrics;
use crate::resource::{ResourceState, Resources};
use crate::runtime::RuntimeHandle;

/// All metrics of a runtime as text for Prometheus.
pub(crate) fn scrape(runtime: &RuntimeHandle) -> String {
    let metrics = runtime.metrics();
    let workers = runtime.workers();
    let queued: usize = workers.iter().map(|worker| worker.queued).sum();
    let set = |name, help, value: usize| metrics.gauge(name, help, &[]).map(|gauge| gauge.set(value as f64));
    let shown = set("air_core_workers", "Workers that have not ended for good", workers.len())
        .and_then(|()| set("air_core_queued_messages", "Messages that wait in mailboxes", queued))
        .and_then(|()| {
            let (tasks, objects) = (runtime.task_stats(), runtime.objects());
            set("air_core_tasks", "Tasks started and not ended", tasks.pending)?;
            set("air_core_task_threads", "Threads that run tasks", tasks.threads)?;
            set("air_core_object_memory_bytes", "Bytes of objects in memory", objects.in_memory_bytes)?;
            set("air_core_object_disk_bytes", "Bytes of objects on disk", objects.spilled_bytes)
        })
        .and_then(|()| resources(metrics, &runtime.resources()))
        .and_then(|()| devices(metrics, &device::memory_in_use()));
    if let Err(error) = shown {
        // A user's metric has one of our names, or there are very many custom kinds.
        tracing::warn!(%error, "some gauges of the runtime are not shown");
    }
    metrics.render()
}

fn devices(metrics: &Metrics, in_use: &[(Device, MemoryUse)]) -> Result<()> {
    for (device, memory) in in_use {
        let device = device.to_string();
        for (what, bytes) in
            [("in_use", memory.in_use_bytes), ("cached", memory.cached_bytes), ("peak", memory.peak_bytes)]
        {
            let labels = [("device", device.as_str()), ("what", what)];
            let help = "Memory of a device: held by tensors, kept for later use, the most held at once";
            metrics.gauge("air_core_device_memory_bytes", help, &labels)?.set(bytes as f64);
        }
    }
    Ok(())
}

fn resources(metrics: &Metrics, state: &ResourceState) -> Result<()> {
    let show = |what: &str, resources: &Resources| -> Result<()> {
        let custom = resources.custom.iter().map(|(kind, amount)| (kind.as_str(), *amount));
        let fixed =
            [("cpu", resources.cpu), ("gpu", resources.gpu), ("memory_bytes", resources.memory_bytes as f64)];
        for (kind, amount) in custom.chain(fixed) {
            let labels = [("kind", kind), ("what", what)];
            metrics
                .gauge("air_core_resources", "Resources by kind: all there is, and what is free", &labels)?
                .set(amount);
        }
        Ok(())
    };
    show("all", &state.total)?;
    show("free", &state.free)?;
    let help = "Requests for resources that wait";
    metrics.gauge("air_core_resource_requests", help, &[])?.set(state.waiting_requests as f64);
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_open_devices_is_shown() {
        let metrics = Metrics::new();
        let mut memory = MemoryUse::default();
        (memory.in_use_bytes, memory.cached_bytes, memory.peak_bytes) = (10, 20, 30);
        devices(&metrics, &[(Device::Cuda(1), memory)]).unwrap();
        let text = metrics.render();
        for (what, bytes) in [("in_use", 10), ("cached", 20), ("peak", 30)] {
            let line = format!("air_core_device_memory_bytes{{device=\"cuda:1\",what=\"{what}\"}} {bytes}");
            assert!(text.contains(&line), "{text}");
        }
    }
}
