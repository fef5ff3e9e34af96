//! Where the program `air-tune` is.

use std::path::{Path, PathBuf};

use air_core::cli::CliError;

const NAME: &str = "air-tune";

/// The program: what is given, `$AIR_TUNE`, the one beside this program, or the one in PATH.
pub(super) fn find(given: Option<&Path>) -> Result<PathBuf, CliError> {
    let own = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned));
    let told = std::env::var_os("AIR_TUNE").filter(|program| !program.is_empty());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::env::split_paths(&path).collect::<Vec<_>>();
    choose(given.map(Path::to_owned).or(told.map(Into::into)), own.as_deref(), &paths)
}

fn choose(given: Option<PathBuf>, own: Option<&Path>, paths: &[PathBuf]) -> Result<PathBuf, CliError> {
    if let Some(program) = given {
        let found = if program.components().count() > 1 {
            runs(&program).then_some(program.clone())
        } else {
            paths.iter().map(|dir| dir.join(&program)).find(|file| runs(file))
        };
        return found.ok_or_else(|| {
            let program = program.display();
            CliError::usage(format!("`{program}`, which --air-tune or $AIR_TUNE names, is no program"))
        });
    }
    let mut places = own.into_iter().chain(paths.iter().map(PathBuf::as_path)).map(|dir| dir.join(NAME));
    places.find(|file| runs(file)).ok_or_else(|| {
        let beside = own.map_or_else(String::new, |dir| format!("neither in {} nor ", dir.display()));
        CliError::failed(format!(
            "a sweep is run by the program {NAME}, which is {beside}in PATH: install it, or name it with --{NAME} or \
             $AIR_TUNE (--print shows the command line that it would be given)"
        ))
    })
}

fn runs(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_given_goes_before_what_lies_beside_and_that_before_path() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let at = |i: usize| dirs[i].path().join(NAME);
        let (own, paths) = (Some(dirs[0].path()), [dirs[1].path().to_owned()]);
        let says = |given: Option<&str>| match choose(given.map(Into::into), own, &paths) {
            Err(CliError::Usage(why)) => why,
            Err(CliError::Failed(why)) => why.to_string(),
            other => format!("{other:?}"),
        };
        assert!(says(None).contains(&format!("neither in {} nor in PATH", dirs[0].path().display())));
        // A file that cannot be run is none.
        std::fs::write(at(1), "").unwrap();
        assert!(says(None).contains("is run by the program air-tune"), "{}", says(None));
        for i in [1, 0] {
            std::fs::write(at(i), "").unwrap();
            std::fs::set_permissions(at(i), std::fs::Permissions::from_mode(0o755)).unwrap();
            assert_eq!(choose(None, own, &paths).unwrap(), at(i));
        }
        assert_eq!(
            choose(Some(NAME.into()), own, &paths).unwrap(),
            at(1),
            "a bare name is looked for in PATH"
        );
        assert_eq!(choose(Some(at(1)), own, &paths).unwrap(), at(1));
        assert!(says(Some("./not/there")).contains("`./not/there`, which --air-tune or $AIR_TUNE names"));
    }
}
