//! Where the traces are: those that are here, and with `SAMOVAR_TRACES=dir` a folder with more.

use std::path::{Path, PathBuf};

/// A debug build leaves longer traces out.
pub const FEW_REQUESTS: usize = 150_000;

pub fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn find(trace: &str) -> Option<PathBuf> {
    let more = std::env::var_os("SAMOVAR_TRACES").map(PathBuf::from);
    let folders = [more, Some(here().join("data")), Some(here().join("../../examples/data"))];
    folders.into_iter().flatten().map(|folder| folder.join(format!("{trace}.txt.gz"))).find(|path| path.is_file())
}
