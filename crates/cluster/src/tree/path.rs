//! Paths of nodes: `/` or `/name/name`.

use super::TreeError;

/// Bytes of a path at most.
pub const PATH_BYTES_MAX: usize = 4096;

/// Refuses what ZooKeeper would refuse.
///
/// # Errors
/// [`TreeError::InvalidPath`].
pub fn check(path: &str) -> Result<(), TreeError> {
    match fault(path) {
        None => Ok(()),
        Some(reason) => Err(TreeError::InvalidPath { path: path.to_owned(), reason }),
    }
}

fn fault(path: &str) -> Option<&'static str> {
    let Some(rest) = path.strip_prefix('/') else { return Some("it does not begin with a slash") };
    if path.len() > PATH_BYTES_MAX {
        return Some("it is too long");
    }
    if rest.is_empty() {
        return None;
    }
    for name in rest.split('/') {
        match name {
            "" => return Some("it has an empty name"),
            "." | ".." => return Some("it has a relative name"),
            _ => {}
        }
    }
    if rest.chars().any(is_refused) {
        return Some("it has a character that ZooKeeper does not take");
    }
    None
}

/// ZooKeeper looks at units of UTF-16: what needs two of them is refused like private characters.
fn is_refused(c: char) -> bool {
    c.is_control() || matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..)
}

/// The node above; `None` for the root.
pub fn parent(path: &str) -> Option<&str> {
    match path.rfind('/')? {
        0 if path.len() == 1 => None,
        0 => Some("/"),
        slash => Some(&path[..slash]),
    }
}

/// The last name; empty for the root.
pub fn name(path: &str) -> &str {
    path.rfind('/').map_or(path, |slash| &path[slash + 1..])
}

/// The child `name` of `path`.
pub fn join(path: &str, name: &str) -> String {
    if path == "/" { format!("/{name}") } else { format!("{path}/{name}") }
}

/// Whether `path` is `root` or lies below it.
pub fn is_within(path: &str, root: &str) -> bool {
    match path.strip_prefix(root) {
        Some(rest) => rest.is_empty() || root == "/" || rest.starts_with('/'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_paths() {
        for path in ["/", "/a", "/a/b.c_d-e", "/config/brokers/<default>", "/ä"] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn illegal_paths() {
        let long = format!("/{}", "x".repeat(PATH_BYTES_MAX));
        for path in [
            "",
            "a",
            "/a/",
            "//",
            "/a//b",
            "/.",
            "/a/../b",
            "/a\0",
            "/a\nb",
            "/\u{e000}",
            "/\u{1f600}",
            &long,
        ] {
            assert!(check(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn parts_of_a_path() {
        assert_eq!(parent("/"), None);
        assert_eq!(parent("/a"), Some("/"));
        assert_eq!(parent("/a/b"), Some("/a"));
        assert_eq!((name("/"), name("/a/b")), ("", "b"));
        assert_eq!((join("/", "a"), join("/a", "b")), ("/a".into(), "/a/b".into()));
    }

    #[test]
    fn a_sibling_with_the_same_beginning_is_not_within() {
        assert!(is_within("/a/b", "/a") && is_within("/a", "/a") && is_within("/a", "/"));
        assert!(!is_within("/ab", "/a") && !is_within("/", "/a"));
    }
}
