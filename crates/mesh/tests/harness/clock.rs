//! The clocks that gotatun reads by itself stand still in this program unless a test moves them, so that
//! minutes pass in no time and at known instants. Each thread has its own.
#![allow(unsafe_code)] // A function of the C library is replaced.

use std::cell::Cell;
use std::time::Duration;

/// What the clocks tell at the start, in nanoseconds.
const START: u64 = 1_000_000_000_000;

thread_local! {
    static CLOCK: Cell<u64> = const { Cell::new(START) };
}

/// Stands for the C library's: this thread's clocks of the day and of the time since boot tell what
/// [`CLOCK`] holds, the others what the system says.
///
/// # Safety
/// As clock_gettime(2): `out` can be written to.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(
    clock: libc::clockid_t,
    out: *mut libc::timespec,
) -> libc::c_int {
    if clock != libc::CLOCK_BOOTTIME && clock != libc::CLOCK_REALTIME {
        // SAFETY: the arguments are the caller's, who promises what the system call asks for.
        let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, out) };
        return libc::c_int::try_from(result).unwrap_or(-1);
    }
    let nanos = CLOCK.get() + 1;
    CLOCK.set(nanos);
    let time = libc::timespec {
        tv_sec: libc::time_t::try_from(nanos / 1_000_000_000).unwrap_or(0),
        tv_nsec: libc::c_long::try_from(nanos % 1_000_000_000).unwrap_or(0),
    };
    // SAFETY: the caller promises that `out` can be written to.
    unsafe { out.write(time) };
    0
}

/// Sets this thread's clocks to the start.
pub fn start() {
    CLOCK.set(START);
}

/// Lets time pass on this thread's clocks.
pub fn pass(span: Duration) {
    CLOCK.set(CLOCK.get() + u64::try_from(span.as_nanos()).unwrap_or(u64::MAX - START));
}
