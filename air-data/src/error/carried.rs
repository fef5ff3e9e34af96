//! Our errors' way through the engine, which only carries boxed errors, and back.

use std::fmt;
use std::sync::Arc;

use datafusion::common::{DataFusionError, SchemaError};

use super::DataError;

/// Our own error on its way through the engine, which only carries boxed errors.
#[derive(Debug)]
struct Carried(Arc<DataError>);

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Carried {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl DataError {
    /// As an error of the system, for those who write for the engine.
    pub(crate) fn into_io(self) -> std::io::Error {
        std::io::Error::other(Carried(self.shared()))
    }
}

impl From<DataError> for DataFusionError {
    fn from(error: DataError) -> Self {
        match error {
            DataError::Engine(inner) => *inner,
            other => Self::External(Box::new(Carried(other.shared()))),
        }
    }
}

impl From<DataFusionError> for DataError {
    fn from(error: DataFusionError) -> Self {
        if let Some(carried) = carried(&error) {
            return Self::Shared(carried);
        }
        if let DataFusionError::SchemaError(inner, _) = error.find_root()
            && let SchemaError::FieldNotFound { field, valid_fields } = inner.as_ref()
        {
            let known = valid_fields.iter().map(|column| column.name.clone()).collect();
            return Self::unknown_column(&field.name, known);
        }
        Self::Engine(Box::new(error))
    }
}

impl From<arrow::error::ArrowError> for DataError {
    fn from(error: arrow::error::ArrowError) -> Self {
        DataFusionError::from(error).into()
    }
}

/// Finds our own error inside an engine error.
fn carried(error: &DataFusionError) -> Option<Arc<DataError>> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = next {
        // Some name what is inside of them as their source, and some only its source.
        let inside =
            match (current.downcast_ref::<DataFusionError>(), current.downcast_ref::<std::io::Error>()) {
                (Some(DataFusionError::External(inner)), _) => inner.downcast_ref::<Carried>(),
                (_, Some(system)) => system.get_ref().and_then(|inner| inner.downcast_ref::<Carried>()),
                _ => current.downcast_ref::<Carried>(),
            };
        if let Some(found) = inside {
            return Some(found.0.clone());
        }
        next = current.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_error_survives_the_way_through_the_engine() {
        let inner = DataError::NotFound { path: "x.csv".to_owned() };
        let engine = DataFusionError::from(inner).context("while scanning");
        let engine = DataFusionError::Shared(Arc::new(engine));
        let back = DataError::from(engine);
        assert!(matches!(back.root(), DataError::NotFound { path } if path == "x.csv"), "{back:?}");
    }

    #[test]
    fn our_error_survives_the_way_through_a_writer_of_the_system_s_kind() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull).into();
        let spill = DataError::Spill {
            path: "/t/x".to_owned(),
            file_bytes: 5 << 20,
            spilled_bytes: 1 << 30,
            source: full,
        };
        let system = spill.into_io();
        let arrow = arrow::error::ArrowError::IoError(system.to_string(), system);
        let back = DataError::from(DataFusionError::from(arrow));
        assert!(matches!(back.root(), DataError::Spill { path, .. } if path == "/t/x"), "{back:?}");
        assert!(
            back.to_string().starts_with(
                "cannot spill to /t/x with 5.0 MiB of this file written and 1.0 GiB on disk in all; "
            ),
            "{back}"
        );
    }
}
