//! faultctl as a library.
