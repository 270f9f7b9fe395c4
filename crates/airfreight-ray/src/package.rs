//! Directories and files as packages that Ray unpacks on its nodes.

use std::cell::Cell;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fs_err as fs;
use sha1::{Digest, Sha1};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::error::Source;
use crate::listing::{Entry, Listing};
use crate::{RayError, Result};

/// Ray takes a package of this size, and none larger.
pub(crate) const PACKAGE_BYTES_MAX: u64 = 100 << 20;
/// How many of the largest files an error names.
const LARGEST_MAX: usize = 5;

/// A package under the name that its content gives it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) bytes: Bytes,
}

impl Package {
    /// Packs a directory; the same files give the same package.
    ///
    /// A `working_dir` has its files at the root; a module keeps its directory, whose name is the module's.
    pub(crate) fn directory(root: &Path, excludes: &[String], keeps_name: bool) -> Result<Self> {
        let entries = Listing::new(root, excludes)?.entries()?;
        if entries.is_empty() {
            return Err(RayError::Pack {
                path: root.to_owned(),
                source: "there is no file in it that is not excluded".into(),
            });
        }
        let prefix = if keeps_name { format!("{}/", directory_name(root)?) } else { String::new() };
        let bytes = zipped(&entries, &prefix).map_err(|failure| failure.into_error(root, &entries))?;
        Ok(Self { name: zip_name(&bytes), bytes: bytes.into() })
    }

    /// Packs a module that is one file.
    pub(crate) fn module(path: &Path) -> Result<Self> {
        let entry = Entry::file(path)?;
        let entries = [entry];
        let bytes = zipped(&entries, "").map_err(|failure| failure.into_error(path, &entries))?;
        Ok(Self { name: zip_name(&bytes), bytes: bytes.into() })
    }

    /// Takes an archive as it is: a wheel under its own name, which pip reads, anything else under its content's.
    pub(crate) fn archive(path: &Path) -> Result<Self> {
        let unreadable = |source: io::Error| RayError::Pack { path: path.to_owned(), source: source.into() };
        if fs::metadata(path).map_err(unreadable)?.len() > PACKAGE_BYTES_MAX {
            return Err(too_large(path, &[]));
        }
        let bytes = fs::read(path).map_err(unreadable)?;
        let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if has_extension(path, "whl") {
            return Ok(Self { name: file.to_owned(), bytes: bytes.into() });
        }
        if let Some(extension) = tar_extension(file) {
            return Ok(Self { name: format!("_ray_pkg_{}.{extension}", hash(&bytes)), bytes: bytes.into() });
        }
        Self::from_zip(path.to_owned(), bytes)
    }

    /// Takes a zip that was made elsewhere.
    pub(crate) fn from_zip(path: PathBuf, bytes: Vec<u8>) -> Result<Self> {
        if bytes.len() as u64 > PACKAGE_BYTES_MAX {
            return Err(too_large(&path, &[]));
        }
        if !bytes.starts_with(b"PK") {
            return Err(RayError::Pack { path, source: "it is no zip".into() });
        }
        Ok(Self { name: zip_name(&bytes), bytes: bytes.into() })
    }
}

/// How Ray ends the name of such a package, if it is a tar that it takes.
pub(crate) fn tar_extension(name: &str) -> Option<&'static str> {
    let tars = [(".tar.gz", "tar.gz"), (".tgz", "tar.gz"), (".tar.xz", "tar.xz")];
    tars.iter().find(|(end, _)| name.ends_with(end)).map(|(_, extension)| *extension)
}

pub(crate) fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(wanted))
}

fn directory_name(root: &Path) -> Result<String> {
    let failed = |source: Source| RayError::Pack { path: root.to_owned(), source };
    // `.` and `..` have a name, too.
    let full = fs::canonicalize(root).map_err(|source| failed(source.into()))?;
    let name = if root.file_name().is_some() { root.file_name() } else { full.file_name() };
    let name =
        name.and_then(|name| name.to_str()).ok_or_else(|| failed("it has no name that a module may have".into()))?;
    Ok(name.to_owned())
}

fn hash(bytes: &[u8]) -> String {
    use std::fmt::Write;

    Sha1::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn zip_name(bytes: &[u8]) -> String {
    format!("_ray_pkg_{}.zip", hash(bytes))
}

fn too_large(path: &Path, entries: &[Entry]) -> RayError {
    let mut largest: Vec<_> = entries.iter().map(|entry| (entry.name.clone(), entry.bytes)).collect();
    largest.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    largest.truncate(LARGEST_MAX);
    RayError::PackageTooLarge { path: path.to_owned(), limit: PACKAGE_BYTES_MAX, largest }
}

enum Failure {
    TooLarge,
    /// Of the package itself.
    Archive(Source),
    /// Of one file.
    File(PathBuf, Source),
}

impl Failure {
    fn into_error(self, path: &Path, entries: &[Entry]) -> RayError {
        match self {
            Self::TooLarge => too_large(path, entries),
            Self::Archive(source) => RayError::Pack { path: path.to_owned(), source },
            Self::File(path, source) => RayError::Pack { path, source },
        }
    }
}

fn zipped(entries: &[Entry], prefix: &str) -> Result<Vec<u8>, Failure> {
    let overflowed = Cell::new(false);
    let mut zip = ZipWriter::new(Bounded { inner: Cursor::new(Vec::new()), overflowed: &overflowed });
    let mut buffer = vec![0; 64 << 10];
    for entry in entries {
        let failed = |source: Source| Failure::File(entry.path.clone(), source);
        // No times, no owners, and of the mode what matters: the package is the same wherever it is made.
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(DateTime::default())
            .unix_permissions(if entry.is_directory || entry.is_executable { 0o755 } else { 0o644 });
        let name = format!("{prefix}{}", entry.name);
        if entry.is_directory {
            zip.add_directory(name, options).map_err(|source| failed(source.into()))?;
            continue;
        }
        zip.start_file(name, options).map_err(|source| failed(source.into()))?;
        let mut file = fs::File::open(&entry.path).map_err(|source| failed(source.into()))?;
        loop {
            let count = file.read(&mut buffer).map_err(|source| failed(source.into()))?;
            if count == 0 {
                break;
            }
            zip.write_all(&buffer[..count]).map_err(|source| failed(source.into()))?;
            if overflowed.get() {
                return Err(Failure::TooLarge);
            }
        }
    }
    let bounded = zip.finish().map_err(|source| Failure::Archive(source.into()))?;
    if overflowed.get() { Err(Failure::TooLarge) } else { Ok(bounded.inner.into_inner()) }
}

/// Holds no more than Ray takes; what comes after that only counts, so that the archive can still be closed.
struct Bounded<'a> {
    inner: Cursor<Vec<u8>>,
    overflowed: &'a Cell<bool>,
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = self.inner.position() + bytes.len() as u64;
        if self.overflowed.get() || end > PACKAGE_BYTES_MAX {
            self.overflowed.set(true);
            self.inner.set_position(end);
            return Ok(bytes.len());
        }
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Bounded<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}
