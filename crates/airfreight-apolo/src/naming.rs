//! Names of things on the platform as people write them: URIs of storage, secrets and disks, volumes, images.

use percent_encoding::percent_decode_str;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Value, json};
use url::Url;

use crate::place::Platform;
use crate::{ApoloError, Place, Result};

/// As the SDK's URLs are written: RFC 3986's characters of a path stay.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// What of a volume leads where.
pub(crate) enum Mount {
    Storage(Value),
    Secret(Value),
    Disk(Value),
}

/// The full URI for one that may leave out cluster, organisation and project: `storage:data`,
/// `storage:/other-project/data`, `storage://cluster/org/project/data`.
///
/// # Errors
/// - [`ApoloError::Spec`]: it is none of the scheme `storage`, `secret` or `disk` that is wanted.
pub fn resource_uri(text: &str, scheme: &str, place: &Place) -> Result<String> {
    let refuse = |reason: &str| ApoloError::spec(format!("`{text}` is no URI of {scheme}: {reason}"));
    let rest = match text.split_once(':') {
        Some((found, rest)) if found == scheme => rest,
        Some((found, _)) => return Err(refuse(&format!("it begins with `{found}:` and not with `{scheme}:`"))),
        None => return Err(refuse(&format!("it must begin with `{scheme}:`"))),
    };
    if rest.contains(['?', '#']) {
        return Err(refuse("`?` and `#` must be written as %3F and %23"));
    }
    if rest.trim_start_matches('/').starts_with('~') {
        return Err(refuse("`~` has no meaning there"));
    }
    if let Some(absolute) = rest.strip_prefix("//").filter(|absolute| !absolute.starts_with('/')) {
        let host = absolute.split('/').next().unwrap_or_default();
        if host.contains(['@', ':']) {
            return Err(refuse("a cluster's name has neither user nor port"));
        }
        if host.is_empty() {
            return Err(refuse("it names no cluster"));
        }
        return Ok(format!("{scheme}://{}", encoded(absolute)));
    }
    let path = if rest.starts_with('/') {
        rest.trim_start_matches('/').to_owned()
    } else if rest.is_empty() {
        place.project.clone()
    } else {
        format!("{}/{rest}", place.project)
    };
    let org = place.org.as_ref().map(|org| format!("/{org}")).unwrap_or_default();
    Ok(format!("{scheme}://{}{org}/{}", place.cluster.name, encoded(&path)))
}

/// What is encoded stays encoded, what isn't and must be is.
fn encoded(path: &str) -> String {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    utf8_percent_encode(&decoded, PATH).to_string()
}

/// `storage:…:/path[:ro|rw]`, `disk:…:/path[:ro|rw]` or `secret:…:/path`.
pub(crate) fn volume(text: &str, place: &Place) -> Result<Mount> {
    let refuse = || {
        ApoloError::spec(format!(
            "`{text}` is no volume: write storage:PATH:/MOUNT[:ro], disk:NAME:/MOUNT[:ro] or secret:NAME:/MOUNT"
        ))
    };
    let (rest, mode) = match text.rsplit_once(':') {
        Some((rest, "ro")) => (rest, Some(true)),
        Some((rest, "rw")) => (rest, Some(false)),
        _ => (text, None),
    };
    let (uri, path) = rest.rsplit_once(':').ok_or_else(refuse)?;
    let scheme = uri.split(':').next().unwrap_or_default();
    if uri.matches(':').count() != 1 || (scheme == "secret" && mode.is_some()) {
        return Err(refuse());
    }
    mount(uri, path, mode.unwrap_or(false), place)
}

/// A volume whose parts are given.
pub(crate) fn mount(uri: &str, path: &str, read_only: bool, place: &Place) -> Result<Mount> {
    let scheme = uri.split(':').next().unwrap_or_default();
    Ok(match scheme {
        "secret" => Mount::Secret(json!({"src_secret_uri": resource_uri(uri, "secret", place)?, "dst_path": path})),
        "disk" => Mount::Disk(
            json!({"src_disk_uri": resource_uri(uri, "disk", place)?, "dst_path": path, "read_only": read_only}),
        ),
        _ => Mount::Storage(
            json!({"src_storage_uri": resource_uri(uri, "storage", place)?, "dst_path": path, "read_only": read_only}),
        ),
    })
}

/// The name by which a container runtime fetches an image: `image:…` is one of the platform's own registry, anything
/// else stays as it is.
///
/// # Errors
/// - [`ApoloError::Spec`], [`ApoloError::Place`].
pub fn docker_image(text: &str, place: &Place) -> Result<String> {
    let text = text.trim();
    let refuse = |reason: &str| ApoloError::spec(format!("cannot use the image `{text}`: {reason}"));
    if text.is_empty() {
        return Err(refuse("it is empty"));
    }
    if text.contains(char::is_whitespace) {
        return Err(refuse("there is a blank in it"));
    }
    let own = format!("{}/", place.cluster.registry());
    let Some(rest) = text.strip_prefix("image:") else {
        check_name(text).map_err(|reason| refuse(&reason))?;
        return Ok(tagged(text));
    };
    if let Some(absolute) = rest.strip_prefix("//").filter(|absolute| !absolute.starts_with('/')) {
        let (cluster, path) = absolute.split_once('/').unwrap_or((absolute, ""));
        if cluster != place.cluster.name {
            return Err(refuse(&format!("it is on cluster `{cluster}`, and the job runs on `{}`", place.cluster.name)));
        }
        check_name(path).map_err(|reason| refuse(&reason))?;
        return Ok(tagged(&format!("{own}{path}")));
    }
    let path = match rest.strip_prefix('/') {
        Some(path) => path.trim_start_matches('/').to_owned(),
        None => format!("{}/{rest}", place.project),
    };
    check_name(&path).map_err(|reason| refuse(&reason))?;
    let org = place.org.as_ref().map(|org| format!("{org}/")).unwrap_or_default();
    Ok(tagged(&format!("{own}{org}{path}")))
}

/// As the SDK has it; the platform would not add a tag.
fn tagged(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or_default();
    if name.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

/// The container runtime's rule; the platform's own answer to a bad name comes only when a node pulls it.
fn check_name(image: &str) -> Result<(), String> {
    let (image, digest) = image.split_once('@').map_or((image, None), |(image, digest)| (image, Some(digest)));
    if digest.is_some_and(|digest| !digest.contains(':') || digest.ends_with(':')) {
        return Err("what stands behind `@` must be a digest, such as sha256:…".into());
    }
    let (path, last) = image.rsplit_once('/').map_or(("", image), |(path, last)| (path, last));
    let (name, tag) = last.split_once(':').map_or((last, None), |(name, tag)| (name, Some(tag)));
    if tag.is_some_and(|tag| {
        tag.is_empty()
            || tag.len() > 128
            || tag.starts_with(['.', '-'])
            || !tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    }) {
        return Err("its tag must be letters, digits, `_`, `.` and `-`".into());
    }
    // The first part may be a registry's host, for which hosts' rules hold.
    let mut parts: Vec<_> = path.split('/').filter(|_| !path.is_empty()).collect();
    if parts.first().is_some_and(|first| first.contains(['.', ':']) || *first == "localhost") {
        parts.remove(0);
    }
    parts.push(name);
    let is_good = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
            && !part.starts_with(['.', '_', '-'])
            && !part.ends_with(['.', '_', '-'])
    };
    if parts.iter().all(|part| is_good(part)) {
        Ok(())
    } else {
        Err("the parts of its name must be lower case letters and digits with `.`, `_` and `-` between them".into())
    }
}

impl Platform {
    /// Whether an URL may be sent our token: the platform itself named it, over TLS unless it was spoken to without.
    pub(crate) fn trusts(api_url: &str, other: &str) -> bool {
        match (Url::parse(api_url), Url::parse(other)) {
            (Ok(api), Ok(other)) => other.scheme() == "https" || api.scheme() == "http",
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        let cluster = serde_json::from_value(json!({
            "name": "main", "registry_url": "https://registry.main.org", "monitoring_url": "https://m", "orgs": ["org"],
        }));
        Place { cluster: cluster.unwrap(), org: Some("org".into()), project: "proj".into() }
    }

    #[test]
    fn uris_lead_to_the_project_unless_they_say_otherwise() {
        for (given, full) in [
            ("storage:", "storage://main/org/proj"),
            ("storage:data", "storage://main/org/proj/data"),
            ("storage:/other/data", "storage://main/org/other/data"),
            ("storage://c/o/p/data", "storage://c/o/p/data"),
            ("storage:a b/%20c", "storage://main/org/proj/a%20b/%20c"),
        ] {
            assert_eq!(resource_uri(given, "storage", &place()).unwrap(), full, "{given}");
        }
        for given in ["data", "disk:data", "storage:a?b", "storage:a#b", "storage:~x", "storage://u@c/x"] {
            assert!(resource_uri(given, "storage", &place()).is_err(), "{given}");
        }
    }

    #[test]
    fn images_keep_their_registry_and_digest() {
        for (given, docker) in [
            ("ubuntu", "ubuntu:latest"),
            ("ubuntu:24.04", "ubuntu:24.04"),
            ("host:5000/team/img:1", "host:5000/team/img:1"),
            ("ghcr.io/a/b@sha256:abc", "ghcr.io/a/b@sha256:abc"),
            ("image:img:1", "registry.main.org/org/proj/img:1"),
            ("image:img", "registry.main.org/org/proj/img:latest"),
            ("image:/other/img:1", "registry.main.org/org/other/img:1"),
            ("image://main/other/p/img:1", "registry.main.org/other/p/img:1"),
            ("registry.main.org/org/proj/img", "registry.main.org/org/proj/img:latest"),
        ] {
            assert_eq!(docker_image(given, &place()).unwrap(), docker, "{given}");
        }
        for given in ["", "Ubuntu", "a b", "ubuntu:", "image:Img", "image://elsewhere/o/p/img", "a@b", "-a"] {
            assert!(docker_image(given, &place()).is_err(), "{given}");
        }
    }

    #[test]
    fn volumes_are_three_or_four_parts() {
        for given in ["storage:a:/b", "storage:a:/b:ro", "disk:d:/d:rw", "secret:s:/s", "storage://c/o/p:/b"] {
            assert!(volume(given, &place()).is_ok(), "{given}");
        }
        for given in ["storage:a", "a:/b", "storage:a:/b:xx", "secret:s:/s:ro", "/b"] {
            assert!(volume(given, &place()).is_err(), "{given}");
        }
    }
}
