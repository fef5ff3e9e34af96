//! `air-serve run llm://DIR`.

use std::sync::Arc;

use air_core::cli::CliError;

use super::run::Run;
use crate::config::Registry;

#[cfg(not(feature = "llm"))]
pub(super) fn run(_command: &Run, _directory: &str, _registry: &Arc<Registry>) -> Result<(), CliError> {
    Err(CliError::usage(crate::config::NO_LLM))
}

/// Serves the language model of a directory, by the directory's name.
#[cfg(feature = "llm")]
pub(super) fn run(command: &Run, directory: &str, registry: &Arc<Registry>) -> Result<(), CliError> {
    use crate::admin::Source;
    use crate::config::{LLM, Place};
    use crate::llm::Llm;
    use crate::{App, Deployment, ServeError};

    command.is_of_llm()?;
    let (settings, gives) = command.settings()?;
    let limits = serde_json::from_value(settings.llm.into())
        .map_err(|error| CliError::usage(format!("the table [llm]: {error}")))?;
    let llm = Llm::load_with(directory, limits).map_err(ServeError::from)?;
    let path = std::path::Path::new(directory);
    let name =
        path.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned());
    let scheme = settings.http.scheme();
    let place = Place {
        name: name.clone(),
        route: "/v1".to_owned(),
        import_path: format!("{LLM}{directory}"),
        deployment: name.clone(),
    };
    let source = Source { registry: Arc::clone(registry), places: vec![place], ..Source::default() };
    let deployment = Deployment::llm(&*name, llm).with(|config| {
        let most = config.max_batch_size;
        *config = settings.deployment;
        if !gives("max_batch_size") {
            config.max_batch_size = most;
        }
    });
    let server = crate::run(App::new().http(settings.http).deploy(deployment).source(source))?;
    air_core::outln!("serving `{name}` of {directory} at {scheme}://{}/v1", server.addr())?;
    Ok(server.wait()?)
}
