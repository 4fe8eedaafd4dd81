//! Reading many nodes over one session.
//!
//! A session's requests are answered in order, so the next read need not wait for the answer to the
//! last one: a whole tree costs few round trips, not one a node. How many are under way at a time is
//! bounded, so that whoever else asks something in the session waits for few of them.

use std::future::Future;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::{Node, Tree, TreeError, path};

/// A node as found on the way.
pub(super) struct Visited {
    pub(super) path: String,
    pub(super) node: Node,
    /// Names of its children.
    pub(super) children: Vec<String>,
}

/// `root` with all below it, parents first, siblings by name. Level by level, `in_flight_max` calls of
/// `visit` under way at a time; it answers `None` where the node has gone meanwhile.
pub(super) async fn walk<F>(
    root: &str,
    in_flight_max: usize,
    visit: impl Fn(String) -> F,
) -> Result<Vec<(String, Node)>, TreeError>
where
    F: Future<Output = Result<Option<Visited>, TreeError>>,
{
    let mut found = Vec::new();
    let mut level = vec![root.to_owned()];
    while !level.is_empty() {
        let visits = stream::iter(level.into_iter().map(&visit)).buffered(in_flight_max);
        let visited: Vec<Option<Visited>> = visits.try_collect().await?;
        level = Vec::new();
        for Visited { path, node, children } in visited.into_iter().flatten() {
            level.extend(children.iter().map(|name| path::join(&path, name)));
            found.push((path, node));
        }
    }
    found.sort_unstable_by(|(a, _), (b, _)| a.split('/').cmp(b.split('/')));
    Ok(found)
}

/// A node and its children's names, by two reads.
pub(super) async fn visit<T: Tree + ?Sized>(
    tree: &T,
    path: String,
) -> Result<Option<Visited>, TreeError> {
    let Some(node) = tree.find(&path).await? else { return Ok(None) };
    match tree.children(&path).await {
        Ok(children) => Ok(Some(Visited { path, node, children })),
        Err(TreeError::NoNode { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;

    use super::{Visited, walk};
    use crate::tree::{Node, Stat, TreeError};

    const FOLDERS: usize = 3;
    const BELOW: usize = 100;
    const WINDOW: usize = 16;

    fn visited(path: &str) -> Visited {
        let children = match path.split('/').count() {
            2 => (0..FOLDERS).map(|n| n.to_string()).collect(),
            3 => (0..BELOW).map(|n| format!("{n:02}")).collect(),
            _ => Vec::new(),
        };
        let node = Node { data: Bytes::new(), stat: Stat { version: 0, owner: None } };
        Visited { path: path.to_owned(), node, children }
    }

    #[tokio::test]
    async fn as_many_visits_are_under_way_as_may_be_and_no_more() {
        let (now, most, all) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let visit = async |path: String| {
            all.fetch_add(1, Ordering::Relaxed);
            most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            now.fetch_sub(1, Ordering::Relaxed);
            // One folder is gone once its turn comes.
            Ok((path != "/r/1").then(|| visited(&path)))
        };
        let found = walk("/r", WINDOW, visit).await.unwrap();
        assert_eq!(found.len(), 1 + (FOLDERS - 1) * (1 + BELOW));
        assert_eq!(all.load(Ordering::Relaxed), found.len() + 1);
        assert_eq!(most.load(Ordering::Relaxed), WINDOW);
        assert!(found.is_sorted_by(|(a, _), (b, _)| a < b), "parents first, siblings by name");
    }

    #[tokio::test]
    async fn the_first_failure_ends_it() {
        let visits = AtomicUsize::new(0);
        let visit = async |path: String| {
            let at = visits.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            if at == 20 { Err(TreeError::SessionExpired) } else { Ok(Some(visited(&path))) }
        };
        assert_eq!(walk("/r", WINDOW, visit).await, Err(TreeError::SessionExpired));
        assert!(visits.load(Ordering::Relaxed) <= 20 + 2 * WINDOW, "it does not go on");
    }
}
