//! The bottom of the terminal as a canvas: pictures replace each other, lines above them stay.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, Once, TryLockError};
use std::time::Duration;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};
use ratatui::text::Span;

use crate::color::dumb;

/// Whether pictures can be shown on standard error: a terminal that can move its cursor, and ours to write on.
pub(crate) fn can_paint() -> bool {
    #[cfg(windows)]
    if !ratatui::crossterm::ansi_support::supports_ansi() {
        return false;
    }
    io::stderr().is_terminal() && !dumb() && foreground()
}

/// Whether the program is in the terminal's foreground; a job sent to the background must leave the terminal alone.
#[cfg(unix)]
pub(super) fn foreground() -> bool {
    rustix::termios::tcgetpgrp(io::stderr()).map_or(true, |group| group == rustix::process::getpgrp())
}

#[cfg(not(unix))]
pub(super) fn foreground() -> bool {
    true
}

/// Columns and rows of the terminal; 80 × 24 when it does not say.
pub(super) fn size() -> (u16, u16) {
    #[cfg(unix)]
    let size = rustix::termios::tcgetwinsize(io::stderr()).map(|size| (size.ws_col, size.ws_row));
    #[cfg(not(unix))]
    let size = ratatui::crossterm::terminal::size();
    match size {
        Ok((columns, rows)) if columns > 0 && rows > 0 => (columns, rows),
        _ => (80, 24),
    }
}

/// The terminal while it is ours, with how it was before; whoever holds the lock writes.
static TERMINAL: Mutex<Option<Terminal>> = Mutex::new(None);

/// How the terminal was.
pub(super) struct Terminal {
    #[cfg(unix)]
    before: Option<rustix::termios::Termios>,
}

/// Takes the terminal: typed keys no longer appear in the picture (they still reach the shell afterwards, and Ctrl-C
/// is still a signal). [`restore`] gives it back, also when the program panics.
pub(super) fn take() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            before(info);
        }));
    });
    let mut terminal = lock();
    if terminal.is_none() {
        *terminal = Some(Terminal {
            #[cfg(unix)]
            before: silence(),
        });
    }
}

#[cfg(unix)]
fn silence() -> Option<rustix::termios::Termios> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let before = tcgetattr(io::stderr()).ok()?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL);
    tcsetattr(io::stderr(), OptionalActions::Now, &silent).ok()?;
    Some(before)
}

/// Gives the terminal back as it was. Safe to call at any time, from any thread, also twice.
pub(crate) fn restore() {
    // Whoever writes at this moment may be stuck (Ctrl-S) or be the one that panics: never wait for long.
    for _ in 0..20 {
        match TERMINAL.try_lock() {
            Ok(mut terminal) => return give_back(terminal.take()),
            Err(TryLockError::Poisoned(poisoned)) => return give_back(poisoned.into_inner().take()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn give_back(terminal: Option<Terminal>) {
    #[cfg(unix)]
    if let Some(before) = terminal.and_then(|t| t.before)
        && foreground()
    {
        let _ = rustix::termios::tcsetattr(io::stderr(), rustix::termios::OptionalActions::Now, &before);
    }
    #[cfg(not(unix))]
    drop(terminal);
}

fn lock() -> MutexGuard<'static, Option<Terminal>> {
    TERMINAL.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Writes to standard error, if the terminal is still ours.
pub(super) fn write(bytes: &[u8]) -> bool {
    let terminal = lock();
    terminal.is_some() && io::stderr().write_all(bytes).is_ok()
}

/// What stands on the terminal, so that the next picture can take its place.
#[derive(Debug)]
pub(super) struct Screen {
    colors: bool,
    /// Columns used by each line of the last picture.
    drawn: Vec<usize>,
}

impl Screen {
    pub(super) fn new(colors: bool) -> Self {
        Screen { colors, drawn: Vec::new() }
    }

    /// The bytes that put `above` where the last picture began, and `picture` below it, on a terminal of `columns`.
    /// The cursor rests in the line below.
    pub(super) fn paint(&mut self, above: &Buffer, picture: &Buffer, columns: u16) -> Vec<u8> {
        let mut out = String::from("\x1b[?2026h\x1b[?25l"); // all at once where the terminal can; cursor hidden meanwhile
        // A terminal that became narrower has broken the lines of the last picture.
        let columns = usize::from(columns.max(1));
        let up: usize = self.drawn.iter().map(|used| used.div_ceil(columns).max(1)).sum();
        if up > 0 {
            out += &format!("\x1b[{up}A");
        }
        out.push('\r');
        if self.drawn.iter().any(|&used| used > columns) {
            out += "\x1b[J";
        }
        self.lines(above, &mut out);
        self.drawn = self.lines(picture, &mut out);
        out += "\x1b[J\x1b[?25h\x1b[?2026l";
        out.into_bytes()
    }

    /// Writes every line of a buffer; returns how many columns each uses.
    fn lines(&self, buffer: &Buffer, out: &mut String) -> Vec<usize> {
        let width = usize::from(buffer.area.width);
        if width == 0 {
            return Vec::new();
        }
        let line = |row: &[Cell]| {
            let used = row.iter().rposition(|cell| *cell != Cell::EMPTY).map_or(0, |last| last + 1);
            let (mut style, mut column) = (Style::default(), 0);
            while let Some(cell) = row.get(column).filter(|_| column < used) {
                style = self.change(style, Style { color: cell.fg, modifier: cell.modifier }, out);
                out.push_str(cell.symbol());
                column += Span::raw(cell.symbol()).width().max(1); // a wide character covers the cells after it
            }
            self.change(style, Style::default(), out);
            out.push_str("\x1b[K\r\n");
            used
        };
        buffer.content.chunks(width).map(line).collect()
    }

    fn change(&self, from: Style, to: Style, out: &mut String) -> Style {
        if self.colors && from != to {
            out.push_str("\x1b[0");
            if to.modifier.contains(Modifier::BOLD) {
                out.push_str(";1");
            }
            if to.modifier.contains(Modifier::DIM) {
                out.push_str(";2");
            }
            if let Some(code) = code(to.color) {
                *out += &format!(";{code}");
            }
            out.push('m');
        }
        to
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Style {
    color: Color,
    modifier: Modifier,
}

/// The terminal's own colours, which the person has chosen to be readable.
fn code(color: Color) -> Option<u8> {
    match color {
        Color::Red => Some(31),
        Color::Green => Some(32),
        Color::Yellow => Some(33),
        Color::Blue => Some(34),
        Color::Magenta => Some(35),
        Color::Cyan => Some(36),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::layout::Rect;
    use ratatui::style::Stylize;
    use ratatui::text::Line;
    use ratatui::widgets::Widget;

    fn buffer(width: u16, lines: &[Line]) -> Buffer {
        let area = Rect::new(0, 0, width, lines.len() as u16);
        let mut buffer = Buffer::empty(area);
        for (row, line) in area.rows().zip(lines) {
            line.render(row, &mut buffer);
        }
        buffer
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_next_picture_takes_the_place_of_the_last() {
        let mut screen = Screen::new(true);
        let none = buffer(20, &[]);
        let first = text(screen.paint(&none, &buffer(20, &["abcdefgh".into(), "".into(), "海".cyan().into()]), 80));
        assert!(first.contains("abcdefgh\x1b[K\r\n\x1b[K\r\n\x1b[0;36m海\x1b[0m\x1b[K\r\n"), "{first:?}");
        let second = text(screen.paint(&buffer(20, &["said".into()]), &buffer(20, &["x".into()]), 80));
        assert!(second.contains("\x1b[3A\rsaid\x1b[K\r\nx\x1b[K\r\n\x1b[J"), "{second:?}");
        // "abcdefgh" takes two lines of a terminal with five columns.
        screen.paint(&none, &buffer(20, &["abcdefgh".into(), "x".into()]), 80);
        assert!(text(screen.paint(&none, &none, 5)).contains("\x1b[3A\r\x1b[J"));
        assert_eq!(screen.drawn, Vec::<usize>::new());
    }

    #[test]
    fn without_colours_there_are_none() {
        let painted = text(Screen::new(false).paint(&buffer(9, &[]), &buffer(9, &["x".bold().red().into()]), 9));
        assert!(painted.contains('x') && !painted.contains('m'), "{painted:?}");
    }
}
