//! Goal: what a job's runtime environment names on this machine arrives as Ray expects it, no more than once, and what
//! cannot is refused with what to do. Method: directories of every kind, packed for a fake dashboard and unpacked.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{Cursor, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use airfreight_core::ErrorKind;
use airfreight_ray::{Client, RayError};
use airfreight_testkit::dashboard::{Dashboard, Options};
use fs_err as fs;
use serde_json::{Map, Value, json};
use support::{object, start};

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    add(folder.path(), files);
    folder
}

fn add(folder: &Path, files: &[(&str, &str)]) {
    for (name, content) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

async fn resolve(client: &Client, env: Value, base: &Path) -> airfreight_ray::Result<Map<String, Value>> {
    client.resolve_runtime_env(object(env), Some(base)).await
}

/// What is in the package that a URI names: names, contents and modes.
fn unpacked(dashboard: &Dashboard, uri: &Value) -> BTreeMap<String, (String, u32)> {
    let name = uri.as_str().unwrap().strip_prefix("gcs://").unwrap();
    let package = dashboard.packages().into_iter().find(|package| package.name == name).unwrap();
    let mut zip = zip::ZipArchive::new(Cursor::new(package.content)).unwrap();
    (0..zip.len())
        .map(|index| {
            let mut entry = zip.by_index(index).unwrap();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            (entry.name().unwrap().into_owned(), (content, entry.unix_mode().unwrap() & 0o777))
        })
        .collect()
}

fn names(dashboard: &Dashboard, uri: &Value) -> Vec<String> {
    unpacked(dashboard, uri).into_keys().collect()
}

#[tokio::test]
async fn a_working_dir_has_its_files_at_the_root_and_a_module_its_own_directory() {
    let (dashboard, client) = start(Options::default()).await;
    let folder =
        folder(&[("main.py", "1"), ("lib/helper/__init__.py", "2"), ("lib/helper/a/b.py", "3"), ("one.py", "4")]);
    let env =
        json!({"working_dir": "lib", "py_modules": ["lib/helper", "one.py"], "env_vars": {"A": "1"}, "pip": null});
    let resolved = resolve(&client, env, folder.path()).await.unwrap();
    assert_eq!(names(&dashboard, &resolved["working_dir"]), ["helper/__init__.py", "helper/a/b.py"]);
    assert_eq!(names(&dashboard, &resolved["py_modules"][0]), ["helper/__init__.py", "helper/a/b.py"]);
    assert_eq!(names(&dashboard, &resolved["py_modules"][1]), ["one.py"]);
    assert_eq!(resolved["working_dir"], resolved["py_modules"][0], "the same content is one package");
    assert_eq!(resolved["env_vars"], json!({"A": "1"}));
    assert!(!resolved.contains_key("pip"));
}

#[tokio::test]
async fn a_package_is_asked_for_each_time_and_uploaded_when_missing() {
    let (dashboard, client) = start(Options::default()).await;
    let folder = folder(&[("a.py", "1")]);
    let env = json!({"working_dir": "."});
    let first = resolve(&client, env.clone(), folder.path()).await.unwrap();
    let again = resolve(&client, env.clone(), folder.path()).await.unwrap();
    assert_eq!(first, again);
    let [package] = dashboard.packages().try_into().unwrap();
    assert_eq!(package.uploads, 1);
    let requests = dashboard.traffic().requests;
    let methods: Vec<_> = requests.iter().map(|request| request.method.as_str()).collect();
    assert_eq!(methods, ["GET", "PUT", "GET"], "asking keeps it from being collected");
    dashboard.forget_package(&package.name);
    resolve(&client, env, folder.path()).await.unwrap();
    assert_eq!(dashboard.packages()[0].uploads, 1, "Ray collects packages that no job uses");
}

#[tokio::test]
async fn the_same_files_are_the_same_package_and_others_are_not() {
    let (_dashboard, client) = start(Options::default()).await;
    let files = [("b.py", "1"), ("a/c.sh", "2")];
    let (first, second) = (folder(&files), folder(&[("a/c.sh", "2"), ("b.py", "1")]));
    let uri = async |folder: &Path| resolve(&client, json!({"working_dir": "."}), folder).await.unwrap();
    let one = uri(first.path()).await;
    assert_eq!(one, uri(second.path()).await);
    fs::set_permissions(second.path().join("a/c.sh"), Permissions::from_mode(0o755)).unwrap();
    assert_ne!(one, uri(second.path()).await, "a script must stay executable");
    add(first.path(), &[("b.py", "2")]);
    assert_ne!(one, uri(first.path()).await);
}

#[tokio::test]
async fn what_is_excluded_anywhere_stays_here() {
    let (dashboard, client) = start(Options::default()).await;
    let folder = folder(&[
        ("kept.py", ""),
        ("data/big.bin", ""),
        ("data/kept.txt", ""),
        ("deep/down/secret.key", ""),
        ("deep/down/kept.py", ""),
        ("deep/.rayignore", "*.key\n/only_here\n"),
        ("deep/only_here", ""),
        ("deep/down/only_here", ""),
        ("logs/a.log", ""),
        ("logs/kept.log", ""),
        ("build/out.o", ""),
        (".gitignore", "build/\n# a comment\nlogs/*\n!logs/kept.log\n"),
        (".rayignore", "*.bin\n"),
        (".git/config", ""),
        (".venv/bin/python", ""),
        ("sub/__pycache__/a.pyc", ""),
        ("sub/by_hand/a", ""),
        ("sub/kept", ""),
    ]);
    let env = json!({"working_dir": ".", "excludes": ["by_hand", "/kept"]});
    let resolved = resolve(&client, env, folder.path()).await.unwrap();
    assert!(!resolved.contains_key("excludes"), "it was applied here");
    let expected = [
        ".gitignore",
        ".rayignore",
        "data/kept.txt",
        "deep/.rayignore",
        "deep/down/kept.py",
        "deep/down/only_here",
        "kept.py",
        "logs/kept.log",
        "sub/kept",
    ];
    assert_eq!(names(&dashboard, &resolved["working_dir"]), expected);
}

#[tokio::test]
async fn links_modes_and_empty_directories_arrive() {
    let (dashboard, client) = start(Options::default()).await;
    let outside = folder(&[("shared.py", "shared")]);
    let inside = folder(&[("run.sh", "#!/bin/sh"), ("plain", "1")]);
    let at = |name: &str| inside.path().join(name);
    fs::set_permissions(at("run.sh"), Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(at("empty")).unwrap();
    symlink(outside.path(), at("linked")).unwrap();
    symlink(outside.path().join("shared.py"), at("shared.py")).unwrap();
    symlink(inside.path(), at("circle")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    let resolved = resolve(&client, json!({"working_dir": "."}), inside.path()).await.unwrap();
    let entry = |content: &str, mode| (content.to_owned(), mode);
    let expected = BTreeMap::from([
        ("empty/".to_owned(), entry("", 0o755)),
        ("linked/shared.py".to_owned(), entry("shared", 0o644)),
        ("plain".to_owned(), entry("1", 0o644)),
        ("run.sh".to_owned(), entry("#!/bin/sh", 0o755)),
        ("shared.py".to_owned(), entry("shared", 0o644)),
    ]);
    assert_eq!(unpacked(&dashboard, &resolved["working_dir"]), expected);
}

#[tokio::test]
async fn archives_and_addresses_pass_as_they_are() {
    let (dashboard, client) = start(Options::default()).await;
    let folder =
        folder(&[("code.zip", "PK\u{3}\u{4}zip"), ("pkg-1.0-py3-none-any.whl", "PKwheel"), ("a.tar.gz", "tar")]);
    let env = json!({
        "working_dir": "code.zip",
        "py_modules": ["s3://bucket/a.zip", "pkg-1.0-py3-none-any.whl", "a.tar.gz", "gcs://_ray_pkg_1.zip", "local:///opt/x"],
        "excludes": ["a"],
    });
    let resolved = resolve(&client, env, folder.path()).await.unwrap();
    let name = resolved["working_dir"].as_str().unwrap();
    assert!(name.starts_with("gcs://_ray_pkg_") && name.ends_with("zip"), "{name}");
    let modules = resolved["py_modules"].as_array().unwrap();
    assert_eq!(modules[1], "gcs://pkg-1.0-py3-none-any.whl", "pip reads a wheel's name");
    assert!(modules[2].as_str().unwrap().ends_with(".tar.gz"));
    assert_eq!((&modules[0], &modules[3]), (&json!("s3://bucket/a.zip"), &json!("gcs://_ray_pkg_1.zip")));
    assert_eq!(modules[4], "local:///opt/x");
    assert_eq!(dashboard.packages().len(), 3);
    let env = json!({"working_dir": "https://example.com/a.zip", "excludes": ["a"]});
    assert_eq!(resolve(&client, env.clone(), folder.path()).await.unwrap(), object(env));
}

#[tokio::test]
async fn requirements_are_read_here() {
    let (_dashboard, client) = start(Options::default()).await;
    let folder = folder(&[("r.txt", "# ours\nnumpy==2.0 # pinned\n\npandas\n"), ("nested.txt", "-r r.txt\n")]);
    let resolved = resolve(&client, json!({"pip": "r.txt"}), folder.path()).await.unwrap();
    assert_eq!(resolved["pip"], json!(["numpy==2.0", "pandas"]));
    assert!(resolve(&client, json!({"uv": "nested.txt"}), folder.path()).await.is_err());
    let as_they_are = json!({"pip": {"packages": ["a"]}, "conda": "an-environment"});
    assert_eq!(resolve(&client, as_they_are.clone(), folder.path()).await.unwrap(), object(as_they_are));
}

#[tokio::test]
async fn what_cannot_be_packed_is_named() {
    let (dashboard, client) = start(Options::default()).await;
    let folder = folder(&[("file.txt", ""), ("all/ignored", ""), ("all/.rayignore", "*"), ("garbled.zip", "no zip")]);
    fs::create_dir(folder.path().join("empty")).unwrap();
    for (env, words) in [
        (json!({"working_dir": "missing"}), "`working_dir` of the runtime environment: `"),
        (json!({"working_dir": "file.txt"}), "neither a directory nor an archive"),
        (json!({"working_dir": "empty"}), "there is no file in it"),
        (json!({"working_dir": "all"}), "there is no file in it"),
        (json!({"working_dir": "garbled.zip"}), "it is no zip"),
        (json!({"working_dir": 5}), "must be a path or a URI"),
        (json!({"py_modules": "all"}), "must be a list"),
        (json!({"py_modules": ["a.zip", 1]}), "`py_modules[0]`"),
        (json!({"py_modules": ["file.txt"]}), "neither a directory nor a .py"),
        (json!({"working_dir": ".", "excludes": "a"}), "must be a list of patterns"),
        (json!({"env_vars": {"A": 1}}), "the value of `A` must be a string"),
        (json!({"conda": "env.yaml"}), "a file is not read"),
        (json!({"pip": "missing.txt"}), "missing.txt"),
    ] {
        let error = resolve(&client, env.clone(), folder.path()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{env}: {error:?}");
        let text = airfreight_core::chain(&error);
        assert!(text.contains(words), "{env}: {text}");
    }
    assert!(dashboard.packages().is_empty());
}

#[tokio::test]
async fn a_package_that_is_too_large_names_its_largest_files() {
    let (dashboard, client) = start(Options::default()).await;
    let folder = folder(&[("small.py", "1")]);
    for (index, mib) in [60_usize, 45, 1, 2, 3, 4].into_iter().enumerate() {
        let mut noise = vec![0; mib << 20];
        getrandom::fill(&mut noise).unwrap();
        fs::create_dir_all(folder.path().join("data")).unwrap();
        fs::write(folder.path().join(format!("data/{index}.bin")), noise).unwrap();
    }
    let error = resolve(&client, json!({"working_dir": "."}), folder.path()).await.unwrap_err();
    let RayError::PackageTooLarge { largest, .. } = &error else { panic!("{error:?}") };
    let names: Vec<_> = largest.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["data/0.bin", "data/1.bin", "data/5.bin", "data/4.bin", "data/3.bin"]);
    assert_eq!(largest[0].1, 60 << 20);
    assert!(error.to_string().contains("larger than the 104857600 bytes"), "{error}");
    assert!(error.hint().unwrap().contains(".rayignore"));
    assert!(dashboard.packages().is_empty());
    let mut exactly = vec![0; 100 << 20];
    exactly[..2].copy_from_slice(b"PK");
    client.upload(exactly.clone()).await.unwrap();
    exactly.push(0);
    assert!(matches!(client.upload(exactly).await.unwrap_err(), RayError::PackageTooLarge { .. }));
}
