//! A thread that shows a scene on the terminal, so that what is being watched never waits for it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Widget;

use super::screen::{self, Screen, foreground};
use super::words::wrapped;

/// At most ten pictures a second; at least two, so that clocks go on.
const FASTEST: Duration = Duration::from_millis(100);
const SLOWEST: Duration = Duration::from_millis(500);

/// Something that can be drawn.
pub(crate) trait Scene: Send {
    /// Rows it wants on a terminal of this many columns and rows.
    fn height(&self, columns: u16, rows: u16) -> u16;

    /// Draws itself, `clock` seconds after it was first shown.
    fn draw(&mut self, clock: f64, area: Rect, buffer: &mut Buffer);
}

/// Shows a scene at the bottom of the terminal until it is dropped.
pub(crate) struct Painter<S: Scene + 'static> {
    shared: Arc<Shared<S>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared<S> {
    state: Mutex<State<S>>,
    changed: Condvar,
}

struct State<S> {
    scene: S,
    /// Lines to be kept above the scene, not shown yet.
    above: Vec<Line<'static>>,
    changed: bool,
    /// Set at the end: whether the last picture stays.
    over: Option<bool>,
    started: Instant,
}

impl<S: Scene + 'static> Painter<S> {
    /// Takes the terminal and begins to show the scene, at first after `delay`.
    pub(crate) fn new(scene: S, colors: bool, delay: Duration) -> Self {
        let state = State { scene, above: Vec::new(), changed: true, over: None, started: Instant::now() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let painted = shared.clone();
        let builder = std::thread::Builder::new().name("painter".into());
        // Without a thread there is no picture, and nothing else is lost.
        let thread = builder.spawn(move || painted.paint(Screen::new(colors), delay)).ok();
        Painter { shared, thread }
    }

    /// Changes the scene; the lines returned are said once and stay above it.
    pub(crate) fn update(&self, change: impl FnOnce(&mut S, f64) -> Vec<Line<'static>>) {
        let mut state = self.shared.lock();
        let clock = state.started.elapsed().as_secs_f64();
        let lines = change(&mut state.scene, clock);
        state.above.extend(lines);
        state.changed = true;
        self.shared.changed.notify_all();
    }

    /// Ends the show; the last picture stays or vanishes.
    pub(crate) fn end(&mut self, stays: bool) {
        self.shared.lock().over.get_or_insert(stays);
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl<S: Scene + 'static> Drop for Painter<S> {
    fn drop(&mut self) {
        self.end(true);
    }
}

impl<S: Scene> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something happens, at most for a time.
    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State<S>>,
        most: Duration,
        on: fn(&State<S>) -> bool,
    ) -> MutexGuard<'a, State<S>> {
        let waited = self.changed.wait_timeout_while(state, most, |state| !on(state) && state.over.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn paint(&self, mut screen: Screen, delay: Duration) {
        let mut state = self.wait(self.lock(), delay, |_| false);
        if state.over == Some(false) {
            return; // over before it was worth showing
        }
        screen::take();
        loop {
            let over = state.over;
            if over.is_some() || foreground() {
                let bytes = state.picture(&mut screen);
                drop(state);
                screen::write(&bytes);
            } else {
                drop(state);
            }
            if over.is_some() {
                return screen::restore();
            }
            state = self.wait(self.lock(), FASTEST, |_| false);
            state = self.wait(state, SLOWEST - FASTEST, |state| state.changed);
        }
    }
}

impl<S: Scene> State<S> {
    fn picture(&mut self, screen: &mut Screen) -> Vec<u8> {
        let (columns, rows) = screen::size();
        // The last column stays free (some terminals break the line there), and a row for the cursor.
        let (columns, rows) = (columns.saturating_sub(1), rows.saturating_sub(1));
        let above: Vec<Line> = self.above.drain(..).flat_map(|line| wrapped(line, columns)).collect();
        // As much as a terminal keeps, after a long time in the background.
        let skipped = above.len().saturating_sub(1000);
        let mut said = Buffer::empty(Rect::new(0, 0, columns, (above.len() - skipped) as u16));
        for (row, line) in said.area.rows().zip(above.into_iter().skip(skipped)) {
            line.render(row, &mut said);
        }
        let height = if self.over == Some(false) { 0 } else { self.scene.height(columns, rows).min(rows) };
        let mut picture = Buffer::empty(Rect::new(0, 0, columns, height));
        if !picture.area.is_empty() {
            self.scene.draw(self.started.elapsed().as_secs_f64(), picture.area, &mut picture);
        }
        self.changed = false;
        screen.paint(&said, &picture, columns + 1)
    }
}
