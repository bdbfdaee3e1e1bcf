//! Bytes <-> messages. Frames pass undecoded where nothing must be known.
