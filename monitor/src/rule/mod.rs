//! Rules: parse → check → compile → eval.

pub mod spec;
