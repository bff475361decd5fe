//! Single cases, in words.
