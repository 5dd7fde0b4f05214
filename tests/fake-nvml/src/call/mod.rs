//! The exported calls, by subject.

mod activity;
mod device;
mod event;
mod health;
mod instance;
mod process;
mod rest;
mod system;

use crate::abi::Handle;
use crate::code::{Answer, Code};
use crate::state::{self, Target, View};

/// Lets a call on a GPU or instance in.
fn on(call: &str, handle: Handle) -> Answer<(View, Target)> {
    let target = handle.target()?;
    let view = state::enter(call, Some(target.device))?;
    view.instance(target)?;
    Ok((view, target))
}

/// Lets a call in that instances do not have.
fn on_gpu(call: &str, handle: Handle) -> Answer<(View, Target)> {
    let (view, target) = on(call, handle)?;
    if target.instance.is_some() { Err(Code::NOT_SUPPORTED) } else { Ok((view, target)) }
}
