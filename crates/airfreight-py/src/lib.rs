//! The Python door to the store.
