//! Writes the seeds of the fuzz targets, and what a log directory of this format looks like to
//! `tests/fixtures/FORMAT`: `cargo run -p klamm-log --example fixture -- FORMAT`.

#[expect(unreachable_pub, dead_code, reason = "shared with the fuzz targets")]
#[path = "../fuzz/harness/mod.rs"]
mod harness;

use std::path::Path;

use harness::{KINDS, sound_directory, sound_files};

fn bounded<T>(_len: usize, work: impl FnOnce() -> T) -> T {
    work()
}

#[expect(clippy::disallowed_methods, reason = "writes into the repository")]
fn main() -> std::io::Result<()> {
    let Some(format) = std::env::args().nth(1) else {
        return Err(std::io::Error::other("usage: fixture FORMAT"));
    };
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let seeds = here.join("fuzz/seeds");
    for (target, kind) in KINDS {
        let dir = seeds.join(target);
        std::fs::create_dir_all(&dir)?;
        for (n, content) in sound_files(kind).iter().enumerate() {
            std::fs::write(dir.join(n.to_string()), content)?;
        }
    }
    let fixture = here.join("tests/fixtures").join(format).join("klamm");
    for (path, content) in sound_directory() {
        let path = fixture.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(&fixture))?;
        std::fs::write(path, content)?;
    }
    Ok(())
}
