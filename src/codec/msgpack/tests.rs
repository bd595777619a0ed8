//! What the wire promises.
