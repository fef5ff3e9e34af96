//! [`StorageError`]: what went wrong, with which location.

use std::io;

/// What went wrong with a file or object. `location` is always what the user wrote, with the name of the object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The text is not a path or URL.
    #[error("`{location}` is not a valid location: {reason}")]
    BadLocation {
        /// What the user wrote.
        location: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The URL's scheme is not one this build can reach.
    #[error("cannot open `{location}`: {reason}")]
    SchemeUnavailable {
        /// What the user wrote.
        location: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// The name of an object is empty, absolute, or leads outside of the storage.
    #[error("`{name}` is not a valid name in `{location}`: {reason}")]
    BadName {
        /// The storage.
        location: String,
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is nothing at the location.
    #[error("no such file: `{location}`")]
    NotFound {
        /// Where nothing is.
        location: String,
    },
    /// The location is a directory.
    #[error("`{location}` is a directory, not a file")]
    IsDirectory {
        /// The directory.
        location: String,
    },
    /// A pattern or directory with no file in it.
    #[error("no file matches `{pattern}`")]
    NoMatch {
        /// What the user wrote.
        pattern: String,
    },
    /// There is something already where something was to be created.
    #[error("`{location}` exists already")]
    AlreadyExists {
        /// Where it is.
        location: String,
    },
    /// The user may not do this.
    #[error("permission denied: cannot {verb} `{location}`")]
    Denied {
        /// What was tried.
        verb: &'static str,
        /// Where.
        location: String,
        /// What the store said.
        source: object_store::Error,
    },
    /// The object is larger than the caller allowed.
    #[error("`{location}` is larger than the limit of {limit_bytes} bytes")]
    TooLarge {
        /// The object.
        location: String,
        /// What was allowed.
        limit_bytes: u64,
    },
    /// A listing has more entries than any program wants.
    #[error("`{location}` holds more than {limit} files")]
    TooMany {
        /// The directory.
        location: String,
        /// The limit.
        limit: usize,
    },
    /// The store failed.
    #[error("cannot {verb} `{location}`")]
    Failed {
        /// What was tried.
        verb: &'static str,
        /// Where.
        location: String,
        /// What the store said.
        source: object_store::Error,
    },
    /// The local file system failed.
    #[error("cannot {verb} `{location}`")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// Where.
        location: String,
        /// What the system said.
        source: io::Error,
    },
}

impl StorageError {
    /// Tells apart what a user can act on.
    pub(super) fn from_store(verb: &'static str, location: String, source: object_store::Error) -> Self {
        use object_store::Error;
        match source {
            Error::NotFound { .. } => Self::NotFound { location },
            Error::AlreadyExists { .. } | Error::Precondition { .. } => Self::AlreadyExists { location },
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                Self::Denied { verb, location, source }
            }
            // The local store reports everything else of the system's errors as "generic".
            source => match io_kind(&source) {
                Some(io::ErrorKind::PermissionDenied) => Self::Denied { verb, location, source },
                Some(io::ErrorKind::IsADirectory) => Self::IsDirectory { location },
                _ => Self::Failed { verb, location, source },
            },
        }
    }
}

/// The kind of the first system error in the chain of causes.
fn io_kind(error: &object_store::Error) -> Option<io::ErrorKind> {
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |error| (*error).source())
        .take(16)
        .find_map(|error| error.downcast_ref::<io::Error>())
        .map(io::Error::kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_the_system_is_told_apart_from_a_failure() {
        let generic = |kind: io::ErrorKind| {
            let source =
                object_store::Error::Generic { store: "local", source: Box::new(io::Error::from(kind)) };
            StorageError::from_store("write", "/etc/x".into(), source)
        };
        let denied = generic(io::ErrorKind::PermissionDenied);
        assert!(matches!(denied, StorageError::Denied { .. }));
        assert_eq!(denied.to_string(), "permission denied: cannot write `/etc/x`");
        assert!(matches!(generic(io::ErrorKind::StorageFull), StorageError::Failed { .. }));
        assert!(matches!(generic(io::ErrorKind::IsADirectory), StorageError::IsDirectory { .. }));
    }
}
