//! Threads that stand by for many short parallel passes: a training step has hundreds of them, some of twenty
//! microseconds, and waking a sleeping thread takes longer than that.
//!
//! [`team`] calls the threads of the current rayon pool together; until it returns they wait for work on a shared
//! word instead of a queue. [`run`] hands out the tasks of one pass. Which thread does which task is left to
//! chance; a task writes only what is its own, so results do not depend on it.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use rayon::prelude::*;

type Job = *const (dyn Fn(usize) + Sync);

struct Team {
    /// Generation (32 bits), first task not taken (16), end of those not taken (16). The leader takes from the
    /// front, helpers from the back, so that with two threads each finds its part of a matrix in its own cache.
    ticket: AtomicU64,
    /// Tasks of this generation not finished yet.
    pending: AtomicUsize,
    /// Threads that may still join.
    places: AtomicUsize,
    closed: AtomicBool,
    panicked: AtomicBool,
    job: UnsafeCell<Job>,
}

// SAFETY: `job` is written by the leader alone, and only while no task is pending; a helper reads it only between
// taking a ticket (which was published after the write) and finishing its task (for which the leader waits before
// it writes again, or lets the closure go). The closure is `Sync`. All else is atomic.
unsafe impl Send for Team {}
// SAFETY: as for `Send`.
unsafe impl Sync for Team {}

fn parts(ticket: u64) -> (u64, u64, u64) {
    (ticket >> 32, ticket >> 16 & 0xFFFF, ticket & 0xFFFF)
}

impl Team {
    /// Takes a task of the current generation, if one is left.
    fn take(&self, from_front: bool) -> Option<usize> {
        let mut ticket = self.ticket.load(Ordering::Acquire);
        loop {
            let (generation, first, end) = parts(ticket);
            if first == end {
                return None;
            }
            let (task, first, end) = if from_front { (first, first + 1, end) } else { (end - 1, first, end - 1) };
            let next = generation << 32 | first << 16 | end;
            match self.ticket.compare_exchange_weak(ticket, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(task as usize),
                Err(now) => ticket = now,
            }
        }
    }

    fn work(&self, from_front: bool) {
        while let Some(task) = self.take(from_front) {
            // SAFETY: the ticket just taken keeps the generation pending until `fetch_sub` below, and the leader
            // neither overwrites the pointer nor ends the closure's life before nothing is pending.
            let job = unsafe { &**self.job.get() };
            if catch_unwind(AssertUnwindSafe(|| job(task))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.pending.fetch_sub(1, Ordering::Release);
        }
    }

    /// What a helper does until the team parts.
    fn serve(&self) {
        if INSIDE.get() || TEAM.with_borrow(Option::is_some) {
            return;
        }
        if self.places.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_err() {
            return;
        }
        INSIDE.set(true);
        let mut idle = 0;
        while !self.closed.load(Ordering::Acquire) {
            let (_, first, end) = parts(self.ticket.load(Ordering::Relaxed));
            if first != end {
                self.work(false);
                idle = 0;
            }
            wait(&mut idle);
        }
        INSIDE.set(false);
    }

    fn run(&self, tasks: usize, job: &(dyn Fn(usize) + Sync)) {
        let tickets = tasks.min(1 << 15);
        let many = |ticket: usize| (ticket..tasks).step_by(tickets).for_each(job);
        let many: &(dyn Fn(usize) + Sync) = if tickets == tasks { job } else { &many };
        // SAFETY: the pointer's lifetime is not in its type any more; this function does not return, nor unwind
        // (`work` catches panics), before `pending` is zero, and nobody follows the pointer after that.
        let many: Job = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Job>(many) };
        // SAFETY: nothing is pending: only this thread, the leader, can be in here (see `unsafe impl Sync`).
        unsafe { *self.job.get() = many };
        self.pending.store(tickets, Ordering::Relaxed);
        let generation = (parts(self.ticket.load(Ordering::Relaxed)).0 + 1) & 0xFFFF_FFFF;
        self.ticket.store(generation << 32 | tickets as u64, Ordering::Release);
        INSIDE.set(true);
        self.work(true);
        INSIDE.set(false);
        let mut idle = 0;
        while self.pending.load(Ordering::Acquire) > 0 {
            wait(&mut idle);
        }
        assert!(!self.panicked.load(Ordering::Relaxed), "a parallel task panicked");
    }
}

/// Waits a moment; after about a hundred microseconds lets other programs have the core.
fn wait(idle: &mut u32) {
    if *idle < 10_000 {
        *idle += 1;
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

thread_local! {
    /// The team that this thread leads.
    static TEAM: RefCell<Option<Arc<Team>>> = const { RefCell::new(None) };
    /// Whether this thread is inside a task (or waits for one), where further passes run on it alone.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Ends a team's duty, also when its leader panics.
struct Leading(Arc<Team>);

impl Drop for Leading {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        TEAM.with_borrow_mut(|team| *team = None);
    }
}

/// Calls `f` with the threads of the current rayon pool standing by for [`run`]. Without other threads, or within
/// another team, it is just `f()`.
pub fn team<R>(f: impl FnOnce() -> R) -> R {
    let threads = rayon::current_num_threads();
    if threads < 2 || INSIDE.get() || TEAM.with_borrow(Option::is_some) {
        return f();
    }
    let team = Arc::new(Team {
        ticket: AtomicU64::new(0),
        pending: AtomicUsize::new(0),
        places: AtomicUsize::new(threads - 1),
        closed: AtomicBool::new(false),
        panicked: AtomicBool::new(false),
        job: UnsafeCell::new(&|_| {}),
    });
    TEAM.with_borrow_mut(|mine| *mine = Some(team.clone()));
    let leading = Leading(team);
    let helped = leading.0.clone();
    // Nobody waits for a helper that is busy elsewhere: whoever comes late finds the team closed.
    rayon::spawn_broadcast(move |_| helped.serve());
    f()
}

/// Calls `job(0) … job(tasks − 1)`, each once, on the threads of the team or else of the rayon pool.
pub fn run(tasks: usize, job: impl Fn(usize) + Sync) {
    if tasks <= 1 || INSIDE.get() {
        return (0..tasks).for_each(job);
    }
    TEAM.with_borrow(|team| match team {
        // Not cloned: the count of its owners lies where the helpers look for work.
        Some(team) => team.run(tasks, &job),
        None if rayon::current_num_threads() < 2 => (0..tasks).for_each(job),
        None => (0..tasks).into_par_iter().for_each(&job),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_once() {
        for threads in [1, 2, 3, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                team(|| {
                    for tasks in [0, 1, 2, 7, 100, 70_000].repeat(20) {
                        let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                        run(tasks, |i| {
                            run(2, |_| {}); // a pass within a task stays on its thread
                            counts[i].fetch_add(1, Ordering::Relaxed);
                        });
                        assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1), "{threads} threads");
                    }
                });
            });
        }
    }

    #[test]
    fn a_panic_reaches_the_leader_after_all_tasks() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let done = AtomicUsize::new(0);
        let result = catch_unwind(AssertUnwindSafe(|| {
            pool.install(|| {
                team(|| {
                    run(50, |i| {
                        done.fetch_add(1, Ordering::Relaxed);
                        assert!(i != 30, "on purpose");
                    });
                });
            });
        }));
        assert!(result.is_err());
        assert_eq!(done.load(Ordering::Relaxed), 50);
        pool.install(|| team(|| run(8, |_| {})));
    }
}
