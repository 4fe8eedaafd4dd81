//! An image that follows the tree within one session.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracing::error;

use super::{Changes, Image, ImageError};
use crate::nodes::ROOTS;
use crate::tree::{EventKind, Op, OpResult, Tree, TreeError, WatchEvent, Watcher};

/// Reads the whole tree once and then what changes. The watch stands before the first read (R13).
pub(crate) struct ImageReader {
    tree: Arc<dyn Tree>,
    watcher: Watcher,
    image: Image,
}

impl ImageReader {
    pub(crate) async fn load(tree: Arc<dyn Tree>) -> Result<ImageReader, ImageError> {
        let watcher = tree.watch(ROOTS).await?;
        let image = read_all(&*tree).await?;
        Ok(ImageReader { tree, watcher, image })
    }

    pub(crate) fn image(&self) -> &Image {
        &self.image
    }

    /// Waits for events; `None` once the session is over. Cancelling loses nothing.
    pub(crate) async fn events(&mut self) -> Option<Vec<WatchEvent>> {
        self.watcher.next_batch().await
    }

    /// Reads again what `events` are about.
    pub(crate) async fn refresh(&mut self, events: &[WatchEvent]) -> Result<Changes, ImageError> {
        if events.iter().any(|event| event.kind == EventKind::Missed) {
            self.image = read_all(&*self.tree).await?;
            return Ok(Changes { everything: true, ..Changes::default() });
        }
        let paths = once(events.iter().map(|event| event.path.as_str()));
        Ok(self.read_again(paths).await?)
    }

    /// Reads again what `ops` are about, whatever became of them.
    pub(crate) async fn refresh_ops(&mut self, ops: &[Op]) -> Result<Changes, ImageError> {
        Ok(self.read_again(once(ops.iter().map(Op::path))).await?)
    }

    /// Takes over what this session itself has written.
    pub(crate) fn wrote(
        &mut self,
        ops: &[Op],
        results: &[OpResult],
    ) -> Result<Changes, ImageError> {
        let mut changes = Changes::default();
        self.image.apply_written(ops, results, &mut changes)?;
        Ok(changes)
    }

    async fn read_again(&mut self, paths: Vec<String>) -> Result<Changes, TreeError> {
        let nodes = self.tree.find_all(&paths).await?;
        let mut changes = Changes::default();
        for (path, node) in paths.iter().zip(&nodes) {
            if let Err(error) = self.image.apply(path, node.as_ref(), &mut changes) {
                error!(%error, "keeping what was known of the node before");
            }
        }
        Ok(changes)
    }
}

/// Each path once, in order.
fn once<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<String> {
    let paths: BTreeSet<&str> = paths.collect();
    paths.into_iter().map(str::to_owned).collect()
}

async fn read_all(tree: &dyn Tree) -> Result<Image, ImageError> {
    let mut image = Image::default();
    let mut changes = Changes::default();
    for root in ROOTS {
        for (path, node) in tree.subtree(root).await? {
            image.apply(&path, Some(&node), &mut changes)?;
        }
    }
    Ok(image)
}
