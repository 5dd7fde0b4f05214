//! A `libnvidia-ml.so.1` for tests: the C interface of NVML over a scenario file.
//!
//! The scenario is the file named by the environment variable `FAKE_NVML_SCENARIO`, else
//! `scenario.json` beside this library. It is read again whenever it changes, so a test can change
//! the weather while a client runs. A copy of the library under another path is another library
//! with another scenario: that is how tests run side by side in one process.
//!
//! | file | what it owns |
//! |---|---|
//! | `scenario` | the file's format |
//! | `signal` | values that change with time |
//! | `state` | the loaded scenario, its clock, reference counts, handles |
//! | `abi` | the border: pointers in, return codes out; the only `unsafe` |
//! | `call` | the exported calls, by subject |
#![deny(unsafe_op_in_unsafe_fn)]

mod abi;
mod call;
mod code;
mod scenario;
mod signal;
mod state;
