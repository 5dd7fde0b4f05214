//! Rules: parse → check → compile → eval.
//!
//! | module | what it owns |
//! |---|---|
//! | `source` | files below the given paths, bounded |
//! | `yaml` | text to a tree that knows where everything stands |
//! | `file` | the envelope: keys to raw parts |
//! | `cel` | conditions: typed against the field catalogue, evaluated over facts |
//! | `clause` | the parts of a `when`, for failed tests |
//! | `template` | messages |
//! | `correlation` | the `correlate:` block |
//! | `trial` | the `tests:` of a rule |
//! | `assembly` | a raw rule to a [`spec::Rule`] |
//! | [`profile`] | what a class of workload is and may do |
//! | `demand` | what the rules need of the kernel side |
//! | `scope` | which workloads they can be about |
//! | `reference`, `schema` | what people and editors read of the language |
//! | `page` | what people read of the rules |
//! | `set` | every rule of a load, or every mistake |

mod assembly;
mod cel;
mod clause;
mod correlation;
mod demand;
mod diagnostic;
mod file;
mod net;
mod outline;
mod page;
mod ported;
pub mod profile;
mod quantity;
mod reference;
mod schema;
mod scope;
mod set;
mod shipped;
mod source;
pub mod spec;
mod template;
mod trial;
mod yaml;

pub use cel::{Guard, Part};
pub use clause::Clause;
pub use demand::{Demand, Spared, port_words};
pub(crate) use diagnostic::nearest;
pub use diagnostic::{Diagnostic, Diagnostics};
pub use file::API_VERSION;
pub use net::NetSet;
pub use outline::{Outline, Response};
pub use page::rules_markdown;
pub use profile::{Budget, Profile, ProfileSet, Role};
pub use quantity::{format_span, parse_span};
pub use reference::{fields_markdown, kind_words};
pub use schema::schema;
pub use scope::{KindScope, Scopes, who_clauses};
pub use set::{RuleSet, is_gpu, speaks_of_gpus};
pub use shipped::{is_shipped, shipped};
pub use source::Source;
pub use trial::parse_rows;

#[cfg(test)]
mod tests;
