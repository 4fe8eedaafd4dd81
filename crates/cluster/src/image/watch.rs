//! The current image for everybody, and who is told when it changes.

use std::sync::{Arc, Mutex, MutexGuard, Weak};

use arc_swap::ArcSwap;
use klamm_env::Loop;
use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};

use super::{Changes, Image, ImageError, ImageReader};
use crate::tree::Tree;

/// The current [`Image`]; clones share it.
#[derive(Clone, Debug)]
pub struct ImageWatch {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    current: ArcSwap<Image>,
    revision: watch::Sender<u64>,
    subscribers: Mutex<Vec<Weak<Pending>>>,
}

/// What one subscriber has not seen yet.
#[derive(Debug, Default)]
struct Pending {
    changes: Mutex<Option<Changes>>,
    ready: Notify,
}

impl Default for ImageWatch {
    fn default() -> Self {
        ImageWatch::of(Image::default())
    }
}

impl ImageWatch {
    /// Shows `image` until [`ImageWatch::follow`] is called.
    pub fn of(image: Image) -> ImageWatch {
        let shared = Shared {
            current: ArcSwap::from_pointee(image),
            revision: watch::Sender::new(0),
            subscribers: Mutex::default(),
        };
        ImageWatch { shared: Arc::new(shared) }
    }

    /// Reads the tree, then follows it on `on` for as long as the session lives.
    ///
    /// # Errors
    /// When the tree cannot be read.
    pub async fn start(tree: Arc<dyn Tree>, on: &Loop) -> Result<ImageWatch, ImageError> {
        let watch = ImageWatch::default();
        watch.follow(tree, on).await?;
        Ok(watch)
    }

    /// Goes over to another session: reads everything anew (R6), then follows it on `on`.
    ///
    /// # Errors
    /// When the tree cannot be read; what was shown before stays.
    pub async fn follow(&self, tree: Arc<dyn Tree>, on: &Loop) -> Result<(), ImageError> {
        let reader = ImageReader::load(tree).await?;
        let all = Changes { everything: true, ..Changes::default() };
        self.publish(reader.image().clone(), all);
        on.spawn(follow(Arc::downgrade(&self.shared), reader));
        Ok(())
    }

    /// The image as it is now.
    pub fn current(&self) -> Arc<Image> {
        self.shared.current.load_full()
    }

    /// Waits until `holds` of the image, and returns that image.
    pub async fn wait_for(&self, mut holds: impl FnMut(&Image) -> bool) -> Arc<Image> {
        let mut revision = self.shared.revision.subscribe();
        loop {
            revision.mark_unchanged();
            let image = self.current();
            if holds(&image) {
                return image;
            }
            revision.changed().await.expect("the sender lives as long as this watch");
        }
    }

    /// Tells of every change from now on. The first update comes at once and says that everything
    /// may have changed.
    pub fn subscribe(&self) -> ImageUpdates {
        let all = Changes { everything: true, ..Changes::default() };
        let pending = Arc::new(Pending { changes: Mutex::new(Some(all)), ready: Notify::new() });
        self.shared.subscribers().push(Arc::downgrade(&pending));
        ImageUpdates { watch: self.clone(), pending }
    }

    /// Shows `image` from now on: for tests and simulations that have no tree.
    pub fn publish(&self, image: Image, changes: Changes) {
        self.shared.publish(image, &changes);
    }
}

impl Shared {
    fn publish(&self, image: Image, changes: &Changes) {
        self.current.store(Arc::new(image));
        self.revision.send_modify(|revision| *revision += 1);
        self.subscribers().retain(|subscriber| {
            let Some(pending) = subscriber.upgrade() else { return false };
            pending.lock().get_or_insert_default().merge(changes.clone());
            pending.ready.notify_one();
            true
        });
    }

    fn subscribers(&self) -> MutexGuard<'_, Vec<Weak<Pending>>> {
        self.subscribers.lock().expect("no panic while the subscribers are locked")
    }
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, Option<Changes>> {
        self.changes.lock().expect("no panic while the changes are locked")
    }
}

async fn follow(shared: Weak<Shared>, mut reader: ImageReader) {
    while let Some(events) = reader.events().await {
        let changes = match reader.refresh(&events).await {
            Ok(changes) => changes,
            Err(ImageError::Tree(error)) => {
                warn!(%error, "the image stays as it is until the next session");
                return;
            }
            Err(ImageError::Node(error)) => {
                error!(%error, "the image stays as it was before");
                continue;
            }
        };
        if changes.everything {
            let topics = reader.image().topics().count();
            info!(topics, "the whole tree is read again: changes may have been missed");
        }
        let Some(shared) = shared.upgrade() else { return };
        shared.publish(reader.image().clone(), &changes);
    }
}

/// A subscription to the changes of an [`ImageWatch`].
#[derive(Debug)]
pub struct ImageUpdates {
    watch: ImageWatch,
    pending: Arc<Pending>,
}

/// The newest image and what changed since the update before.
#[derive(Clone, Debug)]
pub struct ImageUpdate {
    /// At least as new as the changes.
    pub image: Arc<Image>,
    /// Since the last update of this subscription.
    pub changes: Changes,
}

impl ImageUpdates {
    /// The next change, coalesced with all that came before this call. Cancelling loses nothing.
    pub async fn next(&mut self) -> ImageUpdate {
        loop {
            let changes = self.pending.lock().take();
            if let Some(changes) = changes {
                return ImageUpdate { image: self.watch.current(), changes };
            }
            self.pending.ready.notified().await;
        }
    }
}
