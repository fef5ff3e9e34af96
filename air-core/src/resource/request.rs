//! [`Resources`]: what is asked for, and what there is.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::amount::Amount;
use super::error::ResourceError;

/// The most custom kinds in one request, and the longest name of one, in bytes.
const MAX_CUSTOM: usize = 64;

/// Amounts of what work needs: what a request asks for, or what a machine has. Plain data.
///
/// Amounts are counted in ten-thousandths, so shares add up exactly; finer ones are rounded to the nearest.
///
/// ```
/// use air_core::resource::Resources;
///
/// let needs = Resources::new().cpu(2.0).gpu(0.25).memory_bytes(1 << 30).custom("licence", 1.0);
/// assert_eq!(needs.to_string(), "2 cpu, 0.25 gpu, 1.0 GiB of memory, 1 licence");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Resources {
    /// Processors. A share is a promise between requests, not a limit that the system enforces.
    pub cpu: f64,
    /// GPUs: a share of one device (at most 1), or a whole number of devices. A share is never split over two devices.
    pub gpu: f64,
    /// Memory, in bytes; a promise between requests too.
    pub memory_bytes: u64,
    /// Anything else there is a limited amount of, by name.
    pub custom: BTreeMap<String, f64>,
}

impl Resources {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the processors.
    pub fn cpu(mut self, processors: f64) -> Self {
        self.cpu = processors;
        self
    }

    /// Sets the GPUs: a share of one (at most 1), or a whole number.
    pub fn gpu(mut self, devices: f64) -> Self {
        self.gpu = devices;
        self
    }

    /// Sets the memory, in bytes.
    pub fn memory_bytes(mut self, bytes: u64) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// Sets the amount of a kind of your own.
    pub fn custom(mut self, kind: impl Into<String>, amount: f64) -> Self {
        self.custom.insert(kind.into(), amount);
        self
    }

    /// Checks every amount; the error names the first that cannot be asked for.
    pub fn validate(&self) -> Result<(), ResourceError> {
        Demand::new(self).map(drop)
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let named = [("cpu", self.cpu), ("gpu", self.gpu)];
        parts.extend(named.iter().filter(|(_, n)| *n != 0.0).map(|(kind, n)| format!("{n} {kind}")));
        if self.memory_bytes != 0 {
            parts.push(format!("{} of memory", Bytes(self.memory_bytes)));
        }
        parts.extend(self.custom.iter().filter(|(_, n)| **n != 0.0).map(|(kind, n)| format!("{n} {kind}")));
        f.write_str(if parts.is_empty() { "nothing" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

/// A number of bytes as people write it.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 30 => write!(f, "{:.1} GiB", bytes as f64 / (1_u64 << 30) as f64),
            bytes if bytes >= 1 << 20 => write!(f, "{:.1} MiB", bytes as f64 / (1_u64 << 20) as f64),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

/// What a request asks of one node, checked and counted in parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Demand {
    /// At most one, or whole.
    pub(super) gpu: Amount,
    pub(super) plain: Plain,
}

/// What one unit of is as good as any other: everything but devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Plain {
    pub(super) cpu: Amount,
    pub(super) memory_bytes: u64,
    pub(super) custom: BTreeMap<Arc<str>, Amount>,
}

impl Demand {
    pub(super) fn new(resources: &Resources) -> Result<Self, ResourceError> {
        let invalid = |kind: &str, value: f64, reason: &str| {
            let kind = kind.chars().take(MAX_CUSTOM).collect();
            ResourceError::Invalid { kind, value: value.to_string(), reason: reason.into() }
        };
        let amount =
            |kind: &str, value: f64| Amount::new(value).map_err(|reason| invalid(kind, value, reason));
        let gpu = amount("gpu", resources.gpu)?;
        if gpu > Amount::ONE && gpu.as_whole().is_none() {
            let reason = "more than one device must be a whole number, as a share is never split";
            return Err(invalid("gpu", resources.gpu, reason));
        }
        let mut custom = BTreeMap::new();
        for (kind, &value) in &resources.custom {
            let reserved = ["cpu", "gpu", "memory_bytes"].contains(&kind.as_str());
            let printable = !kind.is_empty() && !kind.contains(char::is_control);
            if reserved || !printable || kind.len() > MAX_CUSTOM || custom.len() == MAX_CUSTOM {
                let reason = "a custom kind has a name of 1 to 64 bytes that is not a field's, and there are at most 64";
                return Err(invalid(kind, value, reason));
            }
            let value = amount(kind, value)?;
            if !value.is_zero() {
                custom.insert(Arc::from(kind.as_str()), value);
            }
        }
        let plain =
            Plain { cpu: amount("cpu", resources.cpu)?, memory_bytes: resources.memory_bytes, custom };
        Ok(Self { gpu, plain })
    }

    pub(super) fn resources(&self) -> Resources {
        self.plain.with_gpu(self.gpu)
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.gpu = self.gpu.plus(other.gpu);
        self.plain.add(&other.plain);
    }

    pub(super) fn sub(&mut self, other: &Self) {
        self.gpu = self.gpu.minus(other.gpu);
        self.plain.sub(&other.plain);
    }
}

impl Plain {
    pub(super) fn with_gpu(&self, gpu: Amount) -> Resources {
        let custom = self.custom.iter().map(|(kind, amount)| (kind.to_string(), amount.get())).collect();
        Resources { cpu: self.cpu.get(), gpu: gpu.get(), memory_bytes: self.memory_bytes, custom }
    }

    pub(super) fn of(&self, kind: &str) -> Amount {
        self.custom.get(kind).copied().unwrap_or(Amount::ZERO)
    }

    pub(super) fn covers(&self, other: &Self) -> bool {
        self.cpu >= other.cpu
            && self.memory_bytes >= other.memory_bytes
            && other.custom.iter().all(|(kind, amount)| self.of(kind) >= *amount)
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.cpu = self.cpu.plus(other.cpu);
        self.memory_bytes = self.memory_bytes.saturating_add(other.memory_bytes);
        for (kind, amount) in &other.custom {
            let held = self.custom.entry(Arc::clone(kind)).or_default();
            *held = held.plus(*amount);
        }
    }

    pub(super) fn sub(&mut self, other: &Self) {
        self.cpu = self.cpu.minus(other.cpu);
        self.memory_bytes = self.memory_bytes.saturating_sub(other.memory_bytes);
        for (kind, amount) in &other.custom {
            if let Some(held) = self.custom.get_mut(kind) {
                *held = held.minus(*amount);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_asked_for_is_named() {
        let refuse = |resources: Resources| resources.validate().unwrap_err().to_string();
        assert_eq!(
            refuse(Resources::new().cpu(-1.0)),
            "cannot ask for -1 cpu: not a number from 0 to 1000000000"
        );
        assert!(refuse(Resources::new().gpu(1.5)).contains("must be a whole number"));
        assert!(refuse(Resources::new().gpu(f64::NAN)).contains("NaN gpu"));
        assert!(refuse(Resources::new().custom("gpu", 1.0)).contains("not a field's"));
        assert!(refuse(Resources::new().custom("", 1.0)).contains("1 to 64 bytes"));
        let many = (0..65).fold(Resources::new(), |all, n| all.custom(format!("kind-{n}"), 1.0));
        assert!(many.validate().is_err());
        assert!(Resources::new().gpu(2.0).custom("licence", 0.5).validate().is_ok());
    }

    #[test]
    fn a_request_is_plain_data() {
        let text = r#"{"cpu":1.5,"custom":{"tpu":2.0}}"#;
        let read: Resources = serde_json::from_str(text).unwrap();
        assert_eq!(read, Resources::new().cpu(1.5).custom("tpu", 2.0));
        assert!(serde_json::from_str::<Resources>(r#"{"cpus":1}"#).is_err());
        assert_eq!(Demand::new(&read).unwrap().resources(), read);
        assert_eq!(Resources::new().to_string(), "nothing");
    }
}
