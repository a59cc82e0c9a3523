//! The wall clock of this process.
//!
//! A device may believe in 1970 or in 2040, and libraries ask it for the time by themselves: russh
//! compares user certificates with `SystemTime::now()` before anybody else is asked. So the
//! function at the end takes the place of the C library's `clock_gettime` in this binary. It gives
//! the wall clock by the rule of [`protocol::clock`], and all other clocks as they are. The system's
//! clock is not set, and programs that the agent starts see it.
//!
//! With that, one trap is gone as well: on 32-bit musl, Rust's standard library asks for times of
//! 32 bits, is told from 2038-01-19 on that there are none, and panics. Here such a time ends at
//! the last second that fits; [`now`] itself goes on.
//!
//! It may run at any moment, in any thread, between fork and exec: it takes no lock, allocates
//! nothing, and what it reads is two atomics, each whole by itself. Seconds in 32 bits last until
//! 2106, and need no 64-bit atomics, which MIPS has not.
#![allow(
    clippy::useless_conversion,
    reason = "C's types have 32 bits on some CPUs"
)]

use std::ffi::{c_int, c_long};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::libc::{CLOCK_BOOTTIME, CLOCK_REALTIME, clockid_t, timespec};
use protocol::clock::Clock;

/// Not before this time.
static FLOOR: AtomicU32 = AtomicU32::new(crate::clock::BUILT.as_secs() as u32);
/// The cluster's time when the device was started; zero if not known.
static START: AtomicU32 = AtomicU32::new(0);

/// Lets the process live by this clock from now on.
pub(crate) fn follow(clock: &Clock) {
    FLOOR.store(seconds(clock.floor()), Ordering::Relaxed);
    START.store(clock.start().map_or(0, seconds), Ordering::Relaxed);
}

/// The time since the Unix epoch, by the clock that the process follows.
pub(crate) fn now() -> Duration {
    let floor = Duration::from_secs(FLOOR.load(Ordering::Relaxed).into());
    let start = Some(START.load(Ordering::Relaxed)).filter(|&start| start > 0);
    let start = start.map(|start| Duration::from_secs(start.into()));
    Clock::from_parts(floor, start).now(system(), since_boot())
}

/// What the system takes for the time since the Unix epoch; zero if it believes in 1969.
pub(crate) fn system() -> Duration {
    reading(CLOCK_REALTIME)
}

/// Time since the device was started, asleep or not.
pub(crate) fn since_boot() -> Duration {
    reading(CLOCK_BOOTTIME)
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

fn reading(clock: clockid_t) -> Duration {
    let mut time = Time::default();
    // A clock that the kernel does not know leaves it at zero.
    unmodified::read(clock, &mut time);
    let seconds = u64::try_from(time.seconds).unwrap_or(0);
    let nanos = u32::try_from(time.nanos).unwrap_or(0);
    Duration::new(seconds, nanos.min(999_999_999))
}

/// A time in 64 bits, whatever the CPU, if zero before it is filled: the C library writes the
/// nanoseconds of a 32-bit CPU where their low half is here, in both byte orders.
#[derive(Default)]
#[repr(C)]
struct Time {
    seconds: i64,
    nanos: i64,
}

/// The C library's clock. In a static binary, as all builds with musl are, its own name for it can be
/// linked to. (Whether `crt-static` is set says nothing: on MIPS it is not, and `dlsym` would crash.)
#[cfg(target_env = "musl")]
mod unmodified {
    use super::{Time, c_int, clockid_t};

    unsafe extern "C" {
        /// On 32-bit CPUs, too, this is the function for times of 64 bits.
        fn __clock_gettime(clock: clockid_t, time: *mut Time) -> c_int;
    }

    pub(super) fn read(clock: clockid_t, time: &mut Time) -> c_int {
        // SAFETY: the function is musl's, of this signature, and writes to nothing but `time`.
        unsafe { __clock_gettime(clock, time) }
    }
}

/// The next clock after this binary's own: the C library's, or that of whoever stands before it.
/// It is looked up once, at the program's start, when nothing else runs yet.
#[cfg(not(target_env = "musl"))]
mod unmodified {
    use std::mem::transmute;
    use std::ptr::null_mut;
    use std::sync::atomic::{AtomicPtr, Ordering};

    use nix::libc::{RTLD_NEXT, c_void, dlsym, timespec};

    use super::{Time, c_int, clockid_t};

    type Read = unsafe extern "C" fn(clockid_t, *mut timespec) -> c_int;

    static FOUND: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

    pub(super) fn read(clock: clockid_t, time: &mut Time) -> c_int {
        let mut found = FOUND.load(Ordering::Relaxed);
        if found.is_null() {
            // SAFETY: the name is a C string, and `dlsym` may be called at any time but between
            // fork and exec; whoever forks has looked at a clock before.
            found = unsafe { dlsym(RTLD_NEXT, c"clock_gettime".as_ptr()) };
            FOUND.store(found, Ordering::Relaxed);
        }
        if found.is_null() {
            return -1;
        }
        let mut native = timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: a symbol of this name is the function of POSIX, with its signature; it writes to
        // nothing but `native`.
        let result = unsafe { transmute::<*mut c_void, Read>(found)(clock, &raw mut native) };
        time.seconds = native.tv_sec.into();
        time.nanos = native.tv_nsec.into();
        result
    }
}

/// `clock_gettime(2)` for all that is linked into this binary.
///
/// # Safety
/// `time` must be valid for a write, as for the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    let mut read = Time::default();
    let result = unmodified::read(clock, &mut read);
    if result != 0 {
        return result;
    }
    if clock == CLOCK_REALTIME {
        let now = now();
        read.seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        read.nanos = now.subsec_nanos().into();
    }
    let fitting = native(&read);
    // SAFETY: the caller gives a place for one `timespec`.
    unsafe { time.write(fitting) };
    0
}

/// The nearest time that the C types of this CPU can hold. Where a time is not a long, the standard
/// library would ask another function than this one; a build for such a target ends here.
fn native(time: &Time) -> timespec {
    let long = |value: i64| c_long::try_from(value).unwrap_or(c_long::MAX);
    timespec {
        tv_sec: long(time.seconds),
        tv_nsec: long(time.nanos),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    /// What russh would see.
    fn asked_by_others() -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
    }

    #[test]
    fn whoever_asks_for_the_time_is_told_the_clusters() {
        let before = asked_by_others();
        assert!(before.abs_diff(system()) < Duration::from_secs(60));
        let mut clock = Clock::new(before);
        clock.learn(system() + Duration::from_secs(1000), since_boot());
        follow(&clock);
        let ahead = asked_by_others();
        // Other tests of this process live by the same clock.
        follow(&Clock::new(crate::clock::BUILT));
        let difference = ahead.saturating_sub(before).as_secs();
        assert!((999..1060).contains(&difference), "{difference}");
    }

    #[test]
    fn other_clocks_are_as_they_were() {
        let mut uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        uptime.truncate(uptime.find('.').unwrap());
        let uptime = Duration::from_secs(uptime.parse().unwrap());
        assert!(since_boot().abs_diff(uptime) < Duration::from_secs(60));
        let start = std::time::Instant::now();
        std::thread::sleep(Duration::from_millis(10));
        assert!((10..60_000).contains(&start.elapsed().as_millis()));
    }

    #[test]
    fn a_time_beyond_the_c_types_is_the_last_one_that_fits() {
        let fitting = native(&Time {
            seconds: i64::MAX,
            nanos: 7,
        });
        assert_eq!((fitting.tv_sec, fitting.tv_nsec), (c_long::MAX, 7));
        assert_eq!(seconds(Duration::MAX), u32::MAX);
    }
}
