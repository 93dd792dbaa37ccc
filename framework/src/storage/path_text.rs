//! Paths as text: what is none is shown as escapes, so that two names stay two.

use std::path::Path;

/// Text of `path`, with bytes that are no text as `\xff`.
pub fn path_text(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_shown_one_by_one() {
        let name = std::ffi::OsStr::from_bytes(b"runs/\xff\xfe\xc3\xa9");
        assert_eq!(path_text(Path::new(name)), "runs/\\xff\\xfe\u{e9}");
    }
}
