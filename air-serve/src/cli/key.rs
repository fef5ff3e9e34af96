//! `air-serve key`: API keys.

use air_core::cli::CliError;
use air_core::outln;
use clap::Subcommand;

use crate::auth::{KeyHash, fresh};

#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Make a new key: prints it, and what the configuration keeps of it.
    New {
        /// Whose key it is.
        #[arg(long, default_value = "app")]
        name: String,
    },
    /// Print the hash of a key that is read from stdin.
    Hash,
}

pub(super) fn run(command: Key) -> Result<(), CliError> {
    match command {
        Key::New { name } => {
            let key = fresh()?;
            let hash = KeyHash::of(key.as_bytes());
            outln!("# Give this to whoever calls; it is kept nowhere:\n# {key}")?;
            outln!("[[http.auth.keys]]\nname = {}\nsha256 = \"{hash}\"", toml::Value::from(name))?;
            outln!("scopes = [\"predict\"]   # predict, metrics, admin\n# rate_per_s = 100")
        }
        Key::Hash => {
            let mut key = String::new();
            std::io::stdin().read_line(&mut key)?;
            let key = key.trim();
            if key.is_empty() {
                return Err(CliError::usage("there is no key on stdin"));
            }
            outln!("{}", KeyHash::of(key.as_bytes()))
        }
    }
}
