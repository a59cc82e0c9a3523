//! Names of threads.
//!
//! The standard library lets each thread it starts name itself. The function of the C library names
//! others, too, for which musl links in `printf` with its floating point: 11 KiB that nothing else
//! in an agent needs.

use std::ffi::{c_char, c_int};

use nix::libc::{EINVAL, PR_SET_NAME, prctl, pthread_self, pthread_t};

/// `pthread_setname_np(3)` for all that is linked into this binary, for threads that name themselves.
///
/// # Safety
/// `name` must be a C string, as for the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_setname_np(thread: pthread_t, name: *const c_char) -> c_int {
    // SAFETY: `pthread_self` has no conditions, and PR_SET_NAME reads a C string, which the caller
    // answers for. The kernel cuts it at 15 bytes.
    let named = unsafe { thread == pthread_self() && prctl(PR_SET_NAME, name) == 0 };
    if named { 0 } else { EINVAL }
}
