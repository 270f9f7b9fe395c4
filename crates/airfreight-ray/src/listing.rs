//! Which files of a directory a job gets.

use std::path::{Path, PathBuf};

use fs_err as fs;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::error::Source;
use crate::{RayError, Result};

/// What Ray leaves out unless `RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES` says otherwise.
const DEFAULT_EXCLUDES: &str = ".git,.venv,venv,__pycache__";

/// One file of a package, or a directory that is empty.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its place in the package, with `/` between directories and after an empty one.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) is_directory: bool,
    pub(crate) is_executable: bool,
}

impl Entry {
    /// A file by itself.
    pub(crate) fn file(path: &Path) -> Result<Self> {
        let failed = |source: Source| RayError::Pack { path: path.to_owned(), source };
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| failed(not_utf8()))?;
        let metadata = fs::metadata(path).map_err(|source| failed(source.into()))?;
        Ok(Self {
            name: name.to_owned(),
            path: path.to_owned(),
            bytes: metadata.len(),
            is_directory: false,
            is_executable: is_executable(&metadata),
        })
    }
}

/// A directory's files without the excluded ones.
///
/// The rules are Ray's: the patterns of `excludes`, of each `.gitignore` and of each `.rayignore` are read as git reads
/// them, with or without a repository, and a path that any of these lists excludes stays out. Links are followed.
pub(crate) struct Listing {
    root: PathBuf,
    matchers: Vec<Gitignore>,
    reads_gitignore: bool,
    /// The real paths of the directories we are in, in which a link may lead in a circle.
    within: Vec<PathBuf>,
    entries: Vec<Entry>,
}

impl Listing {
    pub(crate) fn new(root: &Path, excludes: &[String]) -> Result<Self> {
        let mut builder = GitignoreBuilder::new(root);
        let defaults = std::env::var("RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES");
        let defaults = defaults.as_deref().unwrap_or(DEFAULT_EXCLUDES).split(',').map(str::trim);
        for pattern in defaults.chain(excludes.iter().map(String::as_str)) {
            builder.add_line(None, pattern).map_err(|source| RayError::RuntimeEnv {
                key: "excludes".to_owned(),
                reason: format!("`{pattern}` is no pattern: {source}"),
            })?;
        }
        let matcher = builder
            .build()
            .map_err(|source| RayError::RuntimeEnv { key: "excludes".to_owned(), reason: source.to_string() })?;
        Ok(Self {
            root: root.to_owned(),
            matchers: vec![matcher],
            reads_gitignore: std::env::var("RAY_RUNTIME_ENV_IGNORE_GITIGNORE").as_deref() != Ok("1"),
            within: Vec::new(),
            entries: Vec::new(),
        })
    }

    /// All of them, in an order that depends on nothing but their names.
    pub(crate) fn entries(mut self) -> Result<Vec<Entry>> {
        let root = self.root.clone();
        self.enter(&root, "")?;
        self.entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(self.entries)
    }

    fn enter(&mut self, directory: &Path, prefix: &str) -> Result<()> {
        let failed = |source: Source| RayError::Pack { path: directory.to_owned(), source };
        let real = fs::canonicalize(directory).map_err(|source| failed(source.into()))?;
        if self.within.contains(&real) {
            return Ok(());
        }
        let outside = self.matchers.len();
        for (name, reads) in [(".gitignore", self.reads_gitignore), (".rayignore", true)] {
            let path = directory.join(name);
            if reads && path.is_file() {
                let mut builder = GitignoreBuilder::new(directory);
                // A pattern that can't be read excludes nothing; git and Ray don't mind either.
                let _ = builder.add(&path);
                self.matchers.push(builder.build().map_err(|source| failed(source.into()))?);
            }
        }
        self.within.push(real);
        let mut is_empty = true;
        for child in fs::read_dir(directory).map_err(|source| failed(source.into()))? {
            is_empty = false;
            let path = child.map_err(|source| failed(source.into()))?.path();
            self.visit(path, prefix)?;
        }
        if is_empty && !prefix.is_empty() {
            self.entries.push(Entry {
                name: prefix.to_owned(),
                path: directory.to_owned(),
                bytes: 0,
                is_directory: true,
                is_executable: false,
            });
        }
        self.within.pop();
        self.matchers.truncate(outside);
        Ok(())
    }

    fn visit(&mut self, path: PathBuf, prefix: &str) -> Result<()> {
        // A link that leads nowhere is nothing to ship.
        let Ok(metadata) = fs::metadata(&path) else { return Ok(()) };
        if self.excludes(&path, metadata.is_dir()) {
            return Ok(());
        }
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(RayError::Pack { path, source: not_utf8() });
        };
        let name = format!("{prefix}{name}");
        if metadata.is_dir() {
            return self.enter(&path, &format!("{name}/"));
        }
        if metadata.is_file() {
            let is_executable = is_executable(&metadata);
            self.entries.push(Entry { name, path, bytes: metadata.len(), is_directory: false, is_executable });
        }
        Ok(())
    }

    fn excludes(&self, path: &Path, is_directory: bool) -> bool {
        self.matchers.iter().any(|matcher| {
            // As Ray does, look into a directory from which a later pattern takes something back.
            let as_directory = is_directory && matcher.num_whitelists() == 0;
            matcher.matched_path_or_any_parents(path, as_directory).is_ignore()
        })
    }
}

fn is_executable(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;

    metadata.permissions().mode() & 0o111 != 0
}

fn not_utf8() -> Source {
    "its name is not UTF-8".into()
}
