//! The terminal that the progress bar is drawn on.

use std::io;

use console::Term;
use indicatif::{ProgressDrawTarget, TermLike};

/// Drawn so often a second at most, as the library's own targets.
const REDRAWS_PER_SECOND: u8 = 20;
/// Columns left free at the right: a terminal writes `^C` where the cursor stands, and on a full line that would go to the
/// next one and leave the bar above it for good.
const FREE_COLUMNS: u16 = 3;

/// Standard error, for a bar that leaves room for what the terminal itself writes.
pub(crate) fn draw_target() -> ProgressDrawTarget {
    ProgressDrawTarget::term_like_with_hz(Box::new(Roomy(Term::buffered_stderr())), REDRAWS_PER_SECOND)
}

/// A terminal that says to be narrower than it is.
#[derive(Debug)]
struct Roomy(Term);

impl TermLike for Roomy {
    fn width(&self) -> u16 {
        TermLike::width(&self.0).saturating_sub(FREE_COLUMNS).max(1)
    }

    fn height(&self) -> u16 {
        TermLike::height(&self.0)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_up(n)
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_down(n)
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_right(n)
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_left(n)
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.0.write_line(text)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.0.write_str(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.0.clear_line()
    }

    fn flush(&self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_leaves_room_for_what_the_terminal_writes() {
        let real = Term::buffered_stderr();
        assert_eq!(Roomy(real.clone()).width() + FREE_COLUMNS, TermLike::width(&real));
    }
}
