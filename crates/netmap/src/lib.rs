//! The machine stream: what both halves share ([`records`]).

pub mod records;
