//! Every socket of a rare family or type, whatever road made it.

use super::twin;
use crate::hook::socket::{self, Made};

twin! {
    /// match-proto:v6.18:include/linux/lsm_hook_defs.h:
    /// `socket_create(int family, int type, int protocol, int kern)`
    socket_lsm socket_fentry "socket_create" "security_socket_create" making
}

#[inline(always)]
fn making(arg: impl Fn(usize) -> u64) {
    if arg(3) as u32 != 0 {
        // The kernel's own.
        return;
    }
    let made = Made {
        family: arg(0) as u16,
        socket_type: arg(1) as u16,
        protocol: arg(2) as u16,
        path: 0,
    };
    socket::judge(&made);
}
