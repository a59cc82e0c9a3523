//! What gets flashed.
