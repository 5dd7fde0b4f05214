//! The exporter and the metrics against receivers that are not ours: rsyslog, an HTTP server that
//! comes and goes, the OCSF schema, promtool.

mod ocsf;
mod promtool;
mod support;
mod syslog;
mod webhook;
