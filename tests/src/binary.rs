//! Where the `quipu` binary is, and whether it is the one that these sources make.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;
use std::{env, fs};

/// The binary under test.
///
/// `cargo test --workspace` builds it into the directory above the tests'
/// own; `QUIPU_BINARY` names another one.
///
/// # Panics
/// When it is missing, or older than its sources: a test over yesterday's
/// binary proves nothing.
pub fn quipu() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| match env::var_os("QUIPU_BINARY") {
        Some(path) => path.into(),
        None => {
            let path = artifacts().join("quipu");
            if let Err(reason) = fresh(&path) {
                panic!(
                    "{}: {reason}; build it with `make build`, or run the tests by `make test`, \
                     or name another binary in QUIPU_BINARY",
                    path.display()
                );
            }
            path
        }
    })
}

/// The directory of the profile under which this test was built, where cargo
/// puts binaries: `target/release`, say.
pub(crate) fn artifacts() -> PathBuf {
    let test = env::current_exe().expect("the running test's path");
    test.ancestors().nth(2).expect("a test lies in PROFILE/deps").to_owned()
}

/// A directory for what tests leave behind: on the disk that holds the build,
/// since a memory file system has neither O_DIRECT nor anything to lose.
pub(crate) fn scratch() -> PathBuf {
    let path = artifacts().parent().expect("a profile lies in the target directory").join("tmp");
    fs::create_dir_all(&path).expect("the target directory can be written");
    path
}

/// Cargo writes beside a binary which sources it was made of.
fn fresh(binary: &Path) -> Result<(), String> {
    let built = modified(binary)?;
    // `cargo build` leaves the list; `cargo test`, which has just made the
    // binary itself, does not. One of another checkout says nothing here.
    let Ok(listed) = fs::read_to_string(binary.with_extension("d")) else { return Ok(()) };
    let Some((_, sources)) = listed.split_once(": ") else { return Ok(()) };
    // Spaces within a path are escaped.
    let sources: Vec<PathBuf> =
        sources.replace("\\ ", "\0").split_whitespace().map(|path| PathBuf::from(path.replace('\0', " "))).collect();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository");
    for source in sources.into_iter().filter(|source| source.starts_with(repository)) {
        if modified(&source)? > built {
            return Err(format!("it is older than {}", source.display()));
        }
    }
    Ok(())
}

fn modified(path: &Path) -> Result<SystemTime, String> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).map_err(|error| format!("{}: {error}", path.display()))
}

/// The variables of this process that `quipu` would look at, or refuse: no test
/// passes them on.
pub(crate) fn variables_of_quipu() -> impl Iterator<Item = OsString> {
    env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("QUIPU_"))
}
