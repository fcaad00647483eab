//! The program's calls of the C library about time, chance and waiting, answered by the simulation.
//!
//! Three functions stand in front of the C library's, for the thread that called [`begin`] and no other:
//!
//! - `clock_gettime`: the virtual time. So every clock in the process follows it: tokio's, std's, hyper's date header.
//! - `getrandom`: numbers from the seed. So hash maps, `tokio::select!`, `rand` and openraft's election timeouts repeat.
//! - `epoll_wait`: a runtime that has nothing to do calls it to sleep until its next timer. Here it notes when that is,
//!   and wakes [`Turn`], so that the simulation may do something else first.
//!
//! Because of these the server needs no clock, randomness or executor of the simulation's: the shipped code runs.
//! They hold for a program that links them, as a definition in the program goes before one in a shared library; a test
//! (`one_seed_gives_one_trace`) would notice a source of chance that is missed.

#![expect(
    unsafe_code,
    reason = "functions of the C library are replaced, and the real ones called"
)]

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_int, c_uint, c_void};
use std::mem::transmute;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};

/// Where virtual time starts on the monotonic clock: not at zero, so that code may look back from the start.
const START_NANOS: u64 = 1_000_000 * NANOS;
/// And on the wall clock: the year 2030.
const WALL_START_NANOS: u64 = 1_893_456_000 * NANOS;
const NANOS: u64 = 1_000_000_000;

thread_local! {
    static IS_SIMULATED: Cell<bool> = const { Cell::new(false) };
    /// Virtual nanoseconds since the start.
    static NOW: Cell<u64> = const { Cell::new(0) };
    /// How far the wall clock of the host that has its turn is off.
    static SKEW: Cell<i64> = const { Cell::new(0) };
    static RANDOM: Cell<u64> = const { Cell::new(0) };
    /// When the runtime that last went to sleep wants to be woken; `u64::MAX` is never.
    static DEADLINE: Cell<u64> = const { Cell::new(u64::MAX) };
    static HAS_SLEPT: Cell<bool> = const { Cell::new(false) };
    static TURN: RefCell<Option<Waker>> = const { RefCell::new(None) };
}

/// Puts the calling thread under virtual time that starts now, and under the chance of `seed`.
pub fn begin(seed: u64) {
    RANDOM.set(seed);
    NOW.set(0);
    IS_SIMULATED.set(true);
}

/// Virtual nanoseconds since the start.
pub fn now() -> u64 {
    NOW.get()
}

/// The same, for people.
pub fn seconds() -> String {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let seconds = now() as f64 / 1e9;
    format!("{seconds:.6}")
}

/// Moves virtual time. It never goes back.
pub fn advance(to: u64) {
    debug_assert!(to >= NOW.get(), "time goes forward");
    NOW.set(to);
}

/// The wall clock as the next turn sees it.
pub fn skew(nanos: i64) {
    SKEW.set(nanos);
}

/// One turn of a runtime: everything it can do now. To be given to `block_on`; returns when it wants to be woken next.
pub struct Turn {
    has_begun: bool,
    wakers: Vec<Waker>,
}

impl Turn {
    /// A turn that begins with waking these.
    pub fn new(wakers: Vec<Waker>) -> Self {
        Self {
            has_begun: false,
            wakers,
        }
    }
}

impl Future for Turn {
    type Output = u64;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u64> {
        if !self.has_begun {
            self.has_begun = true;
            HAS_SLEPT.set(false);
            TURN.replace(Some(cx.waker().clone()));
            for waker in self.wakers.drain(..) {
                waker.wake();
            }
            return Poll::Pending;
        }
        if HAS_SLEPT.get() {
            TURN.replace(None);
            return Poll::Ready(DEADLINE.get());
        }
        Poll::Pending
    }
}

/// SplitMix64: one step.
pub fn next_random(state: &Cell<u64>) -> u64 {
    let next = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    state.set(next);
    let mixed = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The C library's own function of this name.
fn real(name: &'static CStr) -> *mut c_void {
    // SAFETY: the name is a C string, and the answer is only used as the function that the name stands for.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    assert!(!found.is_null(), "the C library has {name:?}");
    found
}

struct Function(*mut c_void);
// SAFETY: the address of a function is good on every thread.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

type GetRandom = unsafe extern "C" fn(*mut c_void, usize, c_uint) -> isize;
type ClockGetTime = unsafe extern "C" fn(libc::clockid_t, *mut libc::timespec) -> c_int;
type EpollWait = unsafe extern "C" fn(c_int, *mut libc::epoll_event, c_int, c_int) -> c_int;

/// # Safety
/// As getrandom(2): `buffer` points to `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    static REAL: OnceLock<Function> = OnceLock::new();
    if !IS_SIMULATED.get() {
        let real = REAL.get_or_init(|| Function(real(c"getrandom"))).0;
        // SAFETY: it is the function of this name, with the caller's own arguments.
        return unsafe { transmute::<*mut c_void, GetRandom>(real)(buffer, length, flags) };
    }
    if length == 0 {
        return 0;
    }
    // SAFETY: the caller promises a buffer of `length` bytes.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    RANDOM.with(|state| {
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&next_random(state).to_le_bytes()[..part.len()]);
        }
    });
    isize::try_from(length).unwrap_or(isize::MAX)
}

/// # Safety
/// As clock_gettime(2): `time` points to a timespec.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    static REAL: OnceLock<Function> = OnceLock::new();
    if !IS_SIMULATED.get() {
        let real = REAL.get_or_init(|| Function(real(c"clock_gettime"))).0;
        // SAFETY: it is the function of this name, with the caller's own arguments.
        return unsafe { transmute::<*mut c_void, ClockGetTime>(real)(clock, time) };
    }
    let nanos = match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE | libc::CLOCK_TAI => {
            (WALL_START_NANOS + NOW.get()).saturating_add_signed(SKEW.get())
        }
        _ => START_NANOS + NOW.get(),
    };
    // SAFETY: the caller promises a timespec.
    unsafe {
        (*time).tv_sec = (nanos / NANOS).cast_signed();
        (*time).tv_nsec = (nanos % NANOS).cast_signed();
    }
    0
}

/// # Safety
/// As epoll_wait(2): `events` points to `capacity` events.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_wait(
    epoll: c_int,
    events: *mut libc::epoll_event,
    capacity: c_int,
    timeout_millis: c_int,
) -> c_int {
    static REAL: OnceLock<Function> = OnceLock::new();
    if !IS_SIMULATED.get() {
        let real = REAL.get_or_init(|| Function(real(c"epoll_wait"))).0;
        // SAFETY: it is the function of this name, with the caller's own arguments.
        return unsafe {
            transmute::<*mut c_void, EpollWait>(real)(epoll, events, capacity, timeout_millis)
        };
    }
    // Zero is only a look whether something happened: never, here.
    if timeout_millis != 0 {
        let wait = u64::try_from(timeout_millis).map_or(u64::MAX, |millis| millis * 1_000_000);
        DEADLINE.set(NOW.get().saturating_add(wait));
        HAS_SLEPT.set(true);
        TURN.with_borrow(|turn| {
            if let Some(turn) = turn {
                turn.wake_by_ref();
            }
        });
    }
    0
}

/// Seconds of a processor that this process has taken, for those who measure the simulation itself.
pub fn processor_seconds() -> f64 {
    let was = IS_SIMULATED.replace(false);
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: there is a timespec.
    let status = unsafe { clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    IS_SIMULATED.set(was);
    assert_eq!(status, 0, "this clock is always there");
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let seconds = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
    seconds
}
