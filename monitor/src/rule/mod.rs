//! Rules: parse → check → compile → eval.
//!
//! | module | what it owns |
//! |---|---|
//! | `source` | files below the given paths, bounded |
//! | `yaml` | text to a tree that knows where everything stands |
//! | `file` | the envelope: keys to raw parts |
//! | `cel` | conditions: typed against the field catalogue, evaluated over facts |
//! | `template` | messages |
//! | `correlation` | the `correlate:` block |
//! | `trial` | the `tests:` of a rule |
//! | `assembly` | a raw rule to a [`spec::Rule`] |
//! | [`profile`] | what a class of workload is and may do |
//! | `set` | every rule of a load, or every mistake |

mod assembly;
mod cel;
mod correlation;
mod diagnostic;
mod file;
mod net;
mod outline;
pub mod profile;
mod quantity;
mod set;
mod source;
pub mod spec;
mod template;
mod trial;
mod yaml;

pub use diagnostic::{Diagnostic, Diagnostics};
pub use file::API_VERSION;
pub use net::NetSet;
pub use outline::{Outline, Response};
pub use profile::{Profile, ProfileSet, Role};
pub use quantity::format_span;
pub use set::{RuleSet, is_gpu};
pub use source::Source;
pub use trial::parse_rows;

#[cfg(test)]
mod tests;
