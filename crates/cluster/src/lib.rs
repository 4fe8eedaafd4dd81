//! The coordination tree, its homes, the metadata image and the controller's decisions.
