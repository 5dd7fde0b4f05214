//! The border to C: raw arguments become checked ones, answers become return codes.
//!
//! All `unsafe` of this crate is here. A caller of NVML promises that each pointer is null or
//! valid for what nvml.h says is read or written there; `exported!` passes that promise on. Null
//! and misaligned pointers and unknown handles are refused with `NVML_ERROR_INVALID_ARGUMENT`.

use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlEventSet_t, nvmlGpmMetric_t, nvmlGpmMetricsGet_t, nvmlGpmSample_t,
    nvmlReturn_t,
};

use crate::code::{Answer, Code};
use crate::state::Target;

/// Device handles are this, plus 4096 for each GPU, plus 16 for each MIG instance: never pointers
/// to anything.
const DEVICE_HANDLES: usize = 0x0d00_0000;
const DEVICE_STEP: usize = 4_096;
const INSTANCE_STEP: usize = 16;

/// A checked argument and the C type it comes from.
pub(crate) trait Argument {
    /// The C type.
    type C;

    /// # Safety
    /// A pointer must be null, or valid for the reads and writes nvml.h states, for as long as
    /// the call runs.
    unsafe fn from_c(raw: Self::C) -> Self;
}

macro_rules! plain {
    ($($type:ty),+) => {$(
        impl Argument for $type {
            type C = Self;

            unsafe fn from_c(raw: Self) -> Self {
                raw
            }
        }
    )+};
}
plain!(u32, i32, u64);

/// A device handle.
#[derive(Clone, Copy)]
pub(crate) struct Handle(usize);

impl Argument for Handle {
    type C = nvmlDevice_t;

    unsafe fn from_c(raw: nvmlDevice_t) -> Self {
        Self(raw.addr())
    }
}

impl Handle {
    /// The GPU or instance the handle stands for; whether it exists is for the scenario to say.
    pub(crate) fn target(self) -> Answer<Target> {
        let offset = self.0.checked_sub(DEVICE_HANDLES).ok_or(Code::INVALID_ARGUMENT)?;
        let (device, rest) = (offset / DEVICE_STEP, offset % DEVICE_STEP);
        if !rest.is_multiple_of(INSTANCE_STEP) || device > 0xff {
            return Err(Code::INVALID_ARGUMENT);
        }
        Ok(Target { device, instance: (rest / INSTANCE_STEP).checked_sub(1) })
    }
}

/// The handle of a GPU or instance.
pub(crate) fn handle_of(target: Target) -> nvmlDevice_t {
    let instance = target.instance.map_or(0, |at| (at + 1) * INSTANCE_STEP);
    ptr::without_provenance_mut(DEVICE_HANDLES + target.device * DEVICE_STEP + instance)
}

/// A handle of a GPM sample or event set.
#[derive(Clone, Copy)]
pub(crate) struct Token<T>(pub(crate) usize, std::marker::PhantomData<T>);

macro_rules! tokens {
    ($($type:ty),+) => {$(
        impl Argument for Token<$type> {
            type C = $type;

            unsafe fn from_c(raw: $type) -> Self {
                Self(raw.addr(), std::marker::PhantomData)
            }
        }

        impl From<usize> for Token<$type> {
            fn from(handle: usize) -> Self {
                Self(handle, std::marker::PhantomData)
            }
        }

        impl Token<$type> {
            /// The handle as C sees it.
            pub(crate) fn to_c(self) -> $type {
                ptr::without_provenance_mut(self.0)
            }
        }
    )+};
}
tokens!(nvmlGpmSample_t, nvmlEventSet_t);

/// A place to read from and write to.
pub(crate) struct Out<T>(*mut T);

impl<T> Argument for Out<T> {
    type C = *mut T;

    unsafe fn from_c(raw: *mut T) -> Self {
        Self(raw)
    }
}

impl<T> Out<T> {
    fn checked(&self) -> Answer<*mut T> {
        if self.0.is_null() || !self.0.is_aligned() {
            return Err(Code::INVALID_ARGUMENT);
        }
        Ok(self.0)
    }

    /// Writes the value.
    pub(crate) fn put(&self, value: T) -> Answer {
        let place = self.checked()?;
        // SAFETY: needed because the place belongs to C. It is not null, aligned, and valid for a
        // write of `T` by the promise of `Argument::from_c`.
        unsafe { place.write(value) };
        Ok(())
    }

    /// Reads the value.
    pub(crate) fn get(&self) -> Answer<T>
    where
        T: Copy,
    {
        let place = self.checked()?;
        // SAFETY: needed because the place belongs to C. It is not null, aligned, and holds a `T`
        // by the promise of `Argument::from_c`; every `T` used is valid for any bits.
        Ok(unsafe { place.read() })
    }
}

/// Writes a list the way NVML does: with too little room the answer is the size that is needed.
pub(crate) fn put_list<T: Copy>(count: &Out<u32>, places: &Out<T>, items: &[T]) -> Answer {
    let room = count.get()?;
    let needed = u32::try_from(items.len()).map_err(|_| Code::UNKNOWN)?;
    count.put(needed)?;
    if needed == 0 {
        return Ok(());
    }
    if places.0.is_null() || room < needed {
        return Err(Code::INSUFFICIENT_SIZE);
    }
    let place = places.checked()?;
    // SAFETY: needed because the array belongs to C. It is not null, aligned, and valid for writes
    // of `room` elements by the promise of `Argument::from_c`; `items` is not longer, and is ours,
    // so the two do not overlap.
    unsafe { ptr::copy_nonoverlapping(items.as_ptr(), place, items.len()) };
    Ok(())
}

/// Writes a text with its final zero.
pub(crate) fn put_text(place: &Out<c_char>, room_bytes: u32, text: &str) -> Answer {
    let start = place.checked()?;
    let room = usize::try_from(room_bytes).map_err(|_| Code::INVALID_ARGUMENT)?;
    if room <= text.len() {
        return Err(Code::INSUFFICIENT_SIZE);
    }
    // SAFETY: needed because the buffer belongs to C. It is not null and valid for writes of
    // `room` bytes by the promise of `Argument::from_c`; text and zero fit, and do not overlap.
    unsafe {
        ptr::copy_nonoverlapping(text.as_ptr().cast(), start, text.len());
        start.add(text.len()).write(0);
    }
    Ok(())
}

/// A text in a fixed array.
pub(crate) fn text_array<const N: usize>(text: &str) -> [c_char; N] {
    let mut array = [0; N];
    for (place, byte) in array.iter_mut().take(N - 1).zip(text.bytes()) {
        *place = c_char::from_ne_bytes([byte]);
    }
    array
}

/// A text to read.
pub(crate) struct TextIn(*const c_char);

impl Argument for TextIn {
    type C = *const c_char;

    unsafe fn from_c(raw: *const c_char) -> Self {
        Self(raw)
    }
}

impl TextIn {
    /// The text.
    pub(crate) fn get(&self) -> Answer<&str> {
        if self.0.is_null() {
            return Err(Code::INVALID_ARGUMENT);
        }
        // SAFETY: needed because the text belongs to C. It is not null and ends with a zero by the
        // promise of `Argument::from_c`, and is not written during the call.
        let text = unsafe { CStr::from_ptr(self.0) };
        text.to_str().map_err(|_| Code::INVALID_ARGUMENT)
    }
}

/// An array of places to read from and write to, of a length that another argument gives.
pub(crate) struct Array<T>(Out<T>);

impl<T> Argument for Array<T> {
    type C = *mut T;

    unsafe fn from_c(raw: *mut T) -> Self {
        Self(Out(raw))
    }
}

impl<T> Array<T> {
    /// Works on each of the `count` elements.
    pub(crate) fn each(&self, count: i32, mut work: impl FnMut(&mut T)) -> Answer {
        let count = usize::try_from(count).ok().filter(|count| *count > 0);
        let first = self.0.checked()?;
        for at in 0..count.ok_or(Code::INVALID_ARGUMENT)? {
            // SAFETY: needed because the array belongs to C. It is not null, aligned, and holds
            // `count` initialised elements by the promise of `Argument::from_c`; nobody else
            // touches element `at` during the call.
            work(unsafe { &mut *first.add(at) });
        }
        Ok(())
    }
}

/// A request for GPM metrics. The array at its end has grown from release to release, so only the
/// entries that the caller announces are touched, never the whole structure.
pub(crate) struct GpmRequest(Out<nvmlGpmMetricsGet_t>);

impl Argument for GpmRequest {
    type C = *mut nvmlGpmMetricsGet_t;

    unsafe fn from_c(raw: *mut nvmlGpmMetricsGet_t) -> Self {
        Self(Out(raw))
    }
}

impl GpmRequest {
    /// Version, number of entries, and the two samples.
    pub(crate) fn head(
        &self,
    ) -> Answer<(u32, u32, Token<nvmlGpmSample_t>, Token<nvmlGpmSample_t>)> {
        let request = self.0.checked()?;
        // SAFETY: needed because the request belongs to C. It is not null, aligned, and its first
        // fields are initialised by the promise of `Argument::from_c`; no reference is made.
        let (version, count, first, second) = unsafe {
            ((*request).version, (*request).numMetrics, (*request).sample1, (*request).sample2)
        };
        Ok((version, count, first.addr().into(), second.addr().into()))
    }

    /// Works on each announced entry.
    pub(crate) fn each(&self, count: u32, mut work: impl FnMut(&mut nvmlGpmMetric_t)) -> Answer {
        let request = self.0.checked()?;
        // SAFETY: needed because the request belongs to C. The address of a field is taken without
        // a reference or a read.
        let metrics: *mut nvmlGpmMetric_t = unsafe { (&raw mut (*request).metrics).cast() };
        for at in 0..count as usize {
            // SAFETY: needed because the array belongs to C. The caller announced `count` entries,
            // so entry `at` is there, initialised, and touched by nobody else during the call.
            work(unsafe { &mut *metrics.add(at) });
        }
        Ok(())
    }
}

/// Turns an answer into a return code. A panic must not cross into C.
pub(crate) fn answer(work: impl FnOnce() -> Answer) -> nvmlReturn_t {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => 0,
        Ok(Err(code)) => code.0,
        Err(_) => Code::UNKNOWN.0,
    }
}

/// Exports calls. Each argument is given by its checked type; `call` names the call's own name in
/// the body.
macro_rules! exported {
    (call: $call:ident; $(fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block)+) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(
            $($arg: <$type as $crate::abi::Argument>::C),*
        ) -> nvml_wrapper_sys::bindings::nvmlReturn_t {
            // SAFETY: needed to accept C's arguments. The caller of this function makes the very
            // promise that `Argument::from_c` asks for.
            $(let $arg = unsafe { <$type as $crate::abi::Argument>::from_c($arg) };)*
            $crate::abi::answer(move || {
                let $call = stringify!($name);
                let _ = $call;
                $body
            })
        }
    )+};
}
pub(crate) use exported;
