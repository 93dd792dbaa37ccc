//! Pictures of runs. A template may come from somebody else, so it names nothing but pictures that lie in the runs themselves.

use std::fs;
use std::io::Read;
use std::path::{Component, Path};

use ibhost_framework::storage::inside;

use crate::exit::Failure;
use crate::paths::show;

/// How every PNG file begins.
const PNG: [u8; 8] = *b"\x89PNG\r\n\x1a\n";
/// Largest picture that is put into a page.
const LARGEST: u64 = 32 << 20;

/// What is wrong with `file` as the name of a picture below a run's folder, if something is.
pub fn check_name(file: &str) -> Result<(), String> {
    let plain = Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
    if file.is_empty() || !plain || file.contains('\\') {
        return Err(format!("`{file}` is no place below the folder of a run, expected a name such as plots/latent-representation.png"));
    }
    if !Path::new(file).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png")) {
        return Err(format!("`{file}` is no picture, expected a PNG file such as plots/latent-representation.png"));
    }
    Ok(())
}

/// The picture `file` of the run in `run`; nothing when it has none there, or something else, which is said.
pub fn read(run: &Path, file: &str) -> Result<Option<Vec<u8>>, Failure> {
    check_name(file).map_err(Failure::usage)?;
    let mut path = run.to_path_buf();
    for part in Path::new(file).components() {
        path.push(part);
        match fs::symlink_metadata(&path) {
            Ok(kind) if kind.is_dir() || kind.is_file() => {}
            Ok(_) => return Ok(passed_over(&path, "it is a link or no plain file")),
            Err(_) => return Ok(None),
        }
    }
    let failed = |e: std::io::Error| Failure::failed(format!("cannot read `{}`: {e}", show(&path)));
    if !fs::symlink_metadata(&path).map_err(failed)?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    inside::open(&path)?.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Ok(passed_over(&path, "it is larger than 32 MiB"));
    }
    if !bytes.starts_with(&PNG) {
        return Ok(passed_over(&path, "its content is no PNG picture"));
    }
    Ok(Some(bytes))
}

fn passed_over<T>(path: &Path, reason: &str) -> Option<T> {
    tracing::warn!("the picture `{}` is left out: {reason}", show(path));
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pictures_below_the_run_are_named() {
        assert_eq!(check_name("plots/a.png").and(check_name("A.PNG")), Ok(()));
        for wrong in
            ["/etc/a.png", "../a.png", "plots/../../a.png", "./a.png", "plots\\a.png", "", "..", "config.yml", "plots/a.svg", "png"]
        {
            assert!(check_name(wrong).is_err(), "{wrong}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_pipes_and_what_is_no_picture_are_left_out() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        fs::create_dir_all(run.join("plots/folder.png")).unwrap();
        let secret = folder.path().join("secret.png");
        fs::write(&secret, [&PNG[..], b"secret"].concat()).unwrap();
        fs::write(run.join("plots/real.png"), [&PNG[..], b"real"].concat()).unwrap();
        fs::write(run.join("plots/text.png"), "no picture").unwrap();
        symlink(&secret, run.join("plots/link.png")).unwrap();
        symlink(folder.path(), run.join("outside")).unwrap();
        symlink("/dev/zero", run.join("plots/endless.png")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(run.join("plots/pipe.png")).status().unwrap().success());
        assert!(read(&run, "plots/real.png").unwrap().unwrap().ends_with(b"real"));
        for other in ["text", "link", "endless", "pipe", "folder", "absent"] {
            assert_eq!(read(&run, &format!("plots/{other}.png")).unwrap(), None, "{other}");
        }
        assert_eq!(read(&run, "outside/secret.png").unwrap(), None);
        assert!(read(&run, "../secret.png").is_err());
    }
}
