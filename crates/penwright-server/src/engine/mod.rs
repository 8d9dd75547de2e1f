//! Continuous batching: texts of many requests share each pass over a model's weights.
//!
//! ```text
//! request ─► queue of its model ─► a free stream ─► reading ─► writing ─► events
//!            (bounded, clients      (of a session)   (a piece    (a token
//!             take turns)                             a pass)     a pass)
//! ```
//!
//! One thread computes, on a pool of threads of its own: the models that have work take turns of a few milliseconds, so
//! that each pass has all threads. In a pass each text that is written gets a token, and texts that are still being read
//! get a piece; whoever has ended leaves, and whoever waits joins, between two passes. A session gives each stream
//! the numbers it would have alone, and [`Writing`](penwright::generate::Writing) chooses the tokens, as it does for
//! [`generate`](penwright::generate::generate): so a text does not depend on its neighbours.

mod queue;
mod reader;
mod task;
mod worker;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use penwright::generate::standing_by;
use penwright::run::Run;

use crate::models::{Model, share};
use crate::{Error, Result};
use queue::Queue;
use worker::Worker;

pub(crate) use task::{Event, Failure, Task, Token};

/// How long a model keeps the threads while another waits for them.
const TURN: Duration = Duration::from_millis(5);
/// How long the threads stand by for more work before they sleep.
const LINGER: Duration = Duration::from_millis(2);

/// What the HTTP side and the computing thread share.
struct Shared {
    state: Mutex<State>,
    /// Rung when a task comes, or the end.
    bell: Condvar,
}

struct State {
    queues: Vec<Queue>,
    /// Models that have joined and that the computing thread has not seen.
    joined: Vec<Worker>,
    /// Nothing more is taken nor computed.
    aborted: bool,
}

/// The computing thread and the queues before it.
pub(crate) struct Engine {
    shared: Arc<Shared>,
    models: RwLock<Vec<Arc<Model>>>,
    /// Held while a model joins, so that its place among the models stays its own.
    joining: Mutex<()>,
    /// As [`Options`](crate::Options) has them.
    queue: usize,
    streams: Option<usize>,
    thread: Mutex<Option<JoinHandle<usize>>>,
}

impl Shared {
    /// A panic while the lock is held leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Starts the computing thread, with a pool of `threads` (0: all cores). At most `queue` tasks wait for each model;
    /// models that join get `streams`.
    ///
    /// # Errors
    /// When threads or the memory of a model's streams cannot be had.
    pub(crate) fn start(models: Vec<Arc<Model>>, queue: usize, streams: Option<usize>, threads: usize) -> Result<Self> {
        let queues = models.iter().map(|_| Queue::new(queue)).collect();
        let state = Mutex::new(State { queues, joined: Vec::new(), aborted: false });
        let shared = Arc::new(Shared { state, bell: Condvar::new() });
        let named = |i: usize| format!("compute-{i}");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(named).build();
        let pool = pool.map_err(|error| Error::Threads(error.to_string()))?;
        let worker = |model: &Arc<Model>| Worker::new(model.clone());
        let workers = pool.install(|| models.iter().map(worker).collect::<Result<Vec<_>>>())?;
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || pool.install(|| compute(workers, &theirs)))
            .map_err(|error| Error::Threads(error.to_string()))?;
        Ok(Engine {
            shared,
            models: RwLock::new(models),
            joining: Mutex::default(),
            queue,
            streams,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Adds a model while the others write.
    ///
    /// # Errors
    /// When there is one of the name, or the memory for its streams cannot be had.
    pub(crate) fn join(&self, name: &str, run: Run) -> Result<()> {
        let _turn = self.joining.lock().unwrap_or_else(PoisonError::into_inner);
        let models = self.models();
        if models.iter().any(|model| model.name == name) {
            let problem = format!("there is a model called {name} already; choose another name");
            return Err(Error::Setting { name: "runs", problem });
        }
        let model = Arc::new(Model::new(name.to_string(), run, models.len(), self.streams, share(1))?);
        // Takes a while, in which requests go on.
        let worker = Worker::new(model.clone())?;
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.shared.lock();
        state.queues.push(Queue::new(self.queue));
        state.joined.push(worker);
        models.push(model);
        Ok(())
    }

    /// Queues a task for a model.
    ///
    /// # Errors
    /// When as many wait as may, or the server is stopping.
    pub(crate) fn submit(&self, model: &Model, task: Task) -> Result<(), Failure> {
        let mut state = self.shared.lock();
        if state.aborted {
            return Err(Failure::Stopping);
        }
        let queue = &mut state.queues[model.index];
        let waiting = queue.len();
        if queue.push(task.client, task).is_err() {
            return Err(Failure::Full { waiting, after: model.metrics.wait_estimate(waiting, model.streams) });
        }
        model.metrics.waiting.set(queue.len() as u64);
        drop(state);
        self.shared.bell.notify_one();
        Ok(())
    }

    /// Gives up what is not done, and waits for the computing thread; how many texts and waiting prompts that were.
    pub(crate) fn abort(&self) -> usize {
        self.shared.lock().aborted = true;
        self.shared.bell.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It catches panics.
        thread.and_then(|thread| thread.join().ok()).unwrap_or_default()
    }

    /// Whether the computing thread is there.
    pub(crate) fn is_alive(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// The models, in the order in which they were named or have joined.
    pub(crate) fn models(&self) -> Vec<Arc<Model>> {
        self.models.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.abort();
    }
}

/// The computing thread; how much it has given up in the end.
fn compute(mut workers: Vec<Worker>, shared: &Shared) -> usize {
    loop {
        let mut state = shared.lock();
        while state.queues.iter().all(|queue| queue.len() == 0) && !state.aborted {
            state = shared.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.aborted {
            break;
        }
        drop(state);
        standing_by(|| work(&mut workers, shared));
    }
    let mut given_up = 0;
    for worker in &mut workers {
        given_up += worker.fail(&Failure::Stopping);
    }
    // Also those of models that had just joined.
    for queue in &mut shared.lock().queues {
        while let Some(task) = queue.pop(|_| true) {
            task.send(Event::Failed(Failure::Stopping));
            given_up += 1;
        }
    }
    given_up
}

/// Turns, until nobody has work for a while.
fn work(workers: &mut Vec<Worker>, shared: &Shared) {
    let mut idle = Instant::now();
    loop {
        let mut state = shared.lock();
        if state.aborted {
            return;
        }
        workers.append(&mut state.joined);
        drop(state);
        for worker in &mut *workers {
            let turn = catch_unwind(AssertUnwindSafe(|| turn(worker, shared)));
            match turn {
                Ok(true) => idle = Instant::now(),
                Ok(false) => {}
                // A fault in the arithmetic costs the texts that were there, not the server.
                Err(_) => worker.restart(),
            }
        }
        if idle.elapsed() > LINGER {
            return;
        }
    }
}

/// A model's turn; false when it has nothing to do.
fn turn(worker: &mut Worker, shared: &Shared) -> bool {
    let start = Instant::now();
    let mut worked = false;
    while start.elapsed() < TURN {
        let mut state = shared.lock();
        if state.aborted {
            return false;
        }
        worker.admit(&mut state.queues[worker.index()]);
        drop(state);
        if !worker.pass() {
            break;
        }
        worked = true;
    }
    worked
}
