//! Named members of a `.tar.gz`, written only to the places asked for: no path inside an archive is ever followed.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use ibhost_framework::storage::{StorageError, inside};

use crate::download::{Broken, Cause};
use crate::verify::md5_hex;

/// Most unpacked bytes read from an archive.
const MAX_UNPACKED: u64 = 1 << 30;

/// One member to take out of an archive.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Name inside the archive.
    pub(crate) member: String,
    /// File to write.
    pub(crate) target: PathBuf,
    /// Published size in bytes.
    pub(crate) bytes: Option<u64>,
    /// Published md5.
    pub(crate) md5: Option<String>,
}

/// Writes each member of `wanted` to its target and removes it from the list; what is left after an error has not been written.
pub(crate) fn extract(archive: impl Read, wanted: &mut Vec<Wanted>) -> Result<(), Broken> {
    let mut archive = tar::Archive::new(GzDecoder::new(archive).take(MAX_UNPACKED));
    let unreadable = |e: std::io::Error| Broken::Mirror(Cause::Archive(format!("it cannot be read: {e}")));
    for entry in archive.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = name.strip_prefix("./").unwrap_or(&name);
        let Some(index) = wanted.iter().position(|w| w.member == name) else { continue };
        let item = &wanted[index];
        if !entry.header().entry_type().is_file() {
            return Err(Cause::Archive(format!("its member `{name}` is not a regular file")).into());
        }
        let size = entry.size();
        if item.bytes.map_or(size > MAX_UNPACKED, |bytes| bytes != size) {
            let expected = item.bytes.map_or_else(|| format!("at most {MAX_UNPACKED}"), |bytes| bytes.to_string());
            return Err(Cause::Archive(format!("its member `{name}` has {size} bytes, expected {expected}")).into());
        }
        write_member(&mut entry, item)?;
        wanted.remove(index);
        if wanted.is_empty() {
            return Ok(());
        }
    }
    match wanted.first() {
        None => Ok(()),
        Some(missing) => Err(Cause::Archive(format!("it has no member `{}`", missing.member)).into()),
    }
}

fn write_member(source: &mut impl Read, item: &Wanted) -> Result<(), Broken> {
    let part = part_of(&item.target);
    let mut file = open_part(&part).map_err(Broken::Disk)?;
    file.set_len(0).map_err(Broken::Disk)?;
    let written = copy_and_check(source, &mut file, item);
    drop(file);
    match written {
        Ok(()) => publish(&part, &item.target).map_err(Broken::Disk),
        Err(e) => {
            // The error that led here matters more than a leftover that the next attempt truncates anyway.
            let _ = fs::remove_file(&part);
            Err(e)
        }
    }
}

fn copy_and_check(source: &mut impl Read, file: &mut File, item: &Wanted) -> Result<(), Broken> {
    let mut buffer = vec![0; 1 << 16];
    let mut written = 0;
    loop {
        let read = source
            .read(&mut buffer)
            .map_err(|e| Cause::Archive(format!("its member `{}` breaks off after {written} bytes: {e}", item.member)))?;
        if read == 0 {
            break;
        }
        file.write_all(&buffer[..read]).map_err(Broken::Disk)?;
        written += read as u64;
    }
    // A tar reader reports the end of the stream inside a member as the end of the member.
    if let Some(expected) = item.bytes.filter(|&bytes| bytes != written) {
        return Err(Cause::Archive(format!("its member `{}` breaks off after {written} of {expected} bytes", item.member)).into());
    }
    file.sync_all().map_err(Broken::Disk)?;
    check(file, item.md5.as_deref())
}

/// Compares the whole of `file` with the published `md5`.
pub(crate) fn check(file: &mut File, md5: Option<&str>) -> Result<(), Broken> {
    let Some(expected) = md5 else { return Ok(()) };
    file.rewind().map_err(Broken::Disk)?;
    let found = md5_hex(file).map_err(Broken::Disk)?;
    if found.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(Cause::Checksum { expected: expected.to_owned(), found }.into())
}

/// Opens the file that is written until it is complete: a plain file, whatever lies there under its name is not reached through it.
pub(crate) fn open_part(part: &Path) -> std::io::Result<File> {
    inside::open_in_place(part).map_err(|error| match error {
        StorageError::Io { source, .. } => source,
        other => std::io::Error::other(other.to_string()),
    })
}

/// Where a file is written until it is complete.
pub(crate) fn part_of(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

/// Gives the complete, synced `part` its name and makes the name durable. A file that was there and is not the published one may be somebody's
/// own, so it is kept under another name.
pub(crate) fn publish(part: &Path, target: &Path) -> std::io::Result<()> {
    if inside::is_file(target) {
        let old = free_name(target);
        fs::rename(target, &old)?;
        tracing::warn!("`{}` was not what is published and is kept as `{}`", target.display(), old.display());
    }
    fs::rename(part, target)?;
    // Elsewhere folders cannot be opened as files and a rename is durable by itself.
    #[cfg(unix)]
    if let Some(folder) = target.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// `<target>.old`, or the first of `.old-2`, `.old-3` ... that nothing has yet.
fn free_name(target: &Path) -> PathBuf {
    let named = |end: &str| {
        let mut name = target.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let numbered = (2..).map(|number| named(&format!(".old-{number}")));
    std::iter::once(named(".old")).chain(numbered).find(|path| fs::symlink_metadata(path).is_err()).unwrap_or_else(|| named(".old"))
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tar::{Builder, EntryType, Header};

    use super::*;

    /// A `.tar.gz` of members given as type, name and contents.
    fn archive(members: &[(EntryType, &str, &[u8])]) -> Vec<u8> {
        let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        for (kind, name, data) in members {
            let mut header = Header::new_ustar();
            // The builder refuses names that leave the folder, a hostile archive does not.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append(&header, *data).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap()
    }

    fn want(folder: &Path, member: &str, bytes: Option<u64>, md5: Option<&str>) -> Wanted {
        Wanted { member: member.to_owned(), target: folder.join("out.bin"), bytes, md5: md5.map(str::to_owned) }
    }

    fn cause(result: Result<(), Broken>) -> Cause {
        match result {
            Err(Broken::Mirror(cause)) => cause,
            other => panic!("expected a cause, got {other:?}"),
        }
    }

    const HELLO: &str = "5d41402abc4b2a76b9719d911017c592";

    #[test]
    fn only_the_named_member_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let packed = archive(&[
            (EntryType::Regular, "../escaped", b"evil"),
            (EntryType::Directory, "d/", b""),
            (EntryType::Regular, "./d/a", b"hello"),
            (EntryType::Regular, "d/b", b"other"),
        ]);
        let mut wanted = vec![want(&inner, "d/a", Some(5), Some(HELLO))];
        extract(&packed[..], &mut wanted).unwrap();
        assert!(wanted.is_empty());
        assert_eq!(fs::read(inner.join("out.bin")).unwrap(), b"hello");
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 1);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn wrong_members_are_refused_and_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let packed = archive(&[(EntryType::Regular, "a", b"hello"), (EntryType::Symlink, "l", b"")]);
        let try_one = |member: &str, bytes, md5| cause(extract(&packed[..], &mut vec![want(folder.path(), member, bytes, md5)]));
        assert!(matches!(try_one("a", Some(6), None), Cause::Archive(text) if text.contains("has 5 bytes, expected 6")));
        assert!(matches!(try_one("a", Some(5), Some("00")), Cause::Checksum { found, .. } if found == HELLO));
        assert!(matches!(try_one("l", None, None), Cause::Archive(text) if text.contains("not a regular file")));
        assert!(matches!(try_one("z", None, None), Cause::Archive(text) if text.contains("no member `z`")));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_place_of_a_part_is_refused_and_a_file_of_somebody_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("document"), "text").unwrap();
        std::os::unix::fs::symlink(at("document"), at("data.bin.part")).unwrap();
        let error = open_part(&at("data.bin.part")).unwrap_err().to_string();
        assert!(error.contains("a link to") && error.contains("hint: remove it"), "{error}");
        assert_eq!(fs::read_to_string(at("document")).unwrap(), "text");
        for (content, old) in [("mine", "data.bin.old"), ("first", "data.bin.old-2")] {
            fs::write(at("data.bin"), content).unwrap();
            fs::write(at("part"), "first").unwrap();
            publish(&at("part"), &at("data.bin")).unwrap();
            assert_eq!(
                (fs::read_to_string(at("data.bin")).unwrap(), fs::read_to_string(at(old)).unwrap()),
                ("first".into(), content.into())
            );
        }
    }

    #[test]
    fn a_cut_archive_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let noise: Vec<u8> = (0..50_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let packed = archive(&[(EntryType::Regular, "a", &noise)]);
        let mut wanted = vec![want(folder.path(), "a", Some(50_000), None)];
        assert!(matches!(cause(extract(&packed[..packed.len() / 2], &mut wanted)), Cause::Archive(_)));
        assert_eq!(wanted.len(), 1);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
