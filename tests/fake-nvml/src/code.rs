//! Return codes by name, as nvml.h has them without the prefix `NVML_ERROR_`.

use std::ffi::CStr;

use nvml_wrapper_sys::bindings::nvmlReturn_t;

/// Why a call did not succeed: a code of nvml.h other than zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code(pub(crate) nvmlReturn_t);

/// What a call comes to.
pub(crate) type Answer<T = ()> = Result<T, Code>;

macro_rules! codes {
    ($($name:ident = $code:literal, $text:literal;)+) => {
        impl Code {
            $(pub(crate) const $name: Self = Self($code);)+

            /// The code with this name.
            pub(crate) fn from_name(name: &str) -> Option<Self> {
                match name { $(stringify!($name) => Some(Self::$name),)+ _ => None }
            }

            /// The text that `nvmlErrorString` gives.
            pub(crate) fn text(code: nvmlReturn_t) -> &'static CStr {
                match code {
                    0 => c"The operation was successful",
                    $($code => $text,)+
                    _ => c"Unknown Error",
                }
            }
        }
    };
}

codes! {
    UNINITIALIZED = 1, c"Uninitialized";
    INVALID_ARGUMENT = 2, c"Invalid Argument";
    NOT_SUPPORTED = 3, c"Not Supported";
    NO_PERMISSION = 4, c"Insufficient Permissions";
    NOT_FOUND = 6, c"Not Found";
    INSUFFICIENT_SIZE = 7, c"Insufficient Size";
    DRIVER_NOT_LOADED = 9, c"Driver Not Loaded";
    TIMEOUT = 10, c"Timeout";
    FUNCTION_NOT_FOUND = 13, c"Function Not Found";
    GPU_IS_LOST = 15, c"GPU is lost";
    RESET_REQUIRED = 16, c"GPU requires reset";
    OPERATING_SYSTEM = 17, c"The operating system has blocked the request";
    LIB_RM_VERSION_MISMATCH = 18, c"Driver/library version mismatch";
    ARGUMENT_VERSION_MISMATCH = 25, c"Argument version mismatch";
    UNKNOWN = 999, c"Unknown Error";
}
