//! Progress bars on standard error, if it is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::Context;

/// A bar, or a spinner if the total is unknown.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Creates a bar for a number of bytes.
    pub(super) fn bytes(context: Context, total: u64, what: &'static str) -> Self {
        let style =
            ProgressStyle::with_template("{msg:12} {bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
        Self::of(context, ProgressBar::new(total), style, what)
    }

    /// Creates a spinner for work of unknown length.
    pub(super) fn wheel(context: Context, what: &'static str) -> Self {
        Self::of(
            context,
            ProgressBar::new_spinner(),
            ProgressStyle::with_template("{spinner} {msg} {elapsed}"),
            what,
        )
    }

    fn of<E>(
        context: Context,
        bar: ProgressBar,
        style: Result<ProgressStyle, E>,
        what: &'static str,
    ) -> Self {
        if context.quiet || context.json {
            bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        }
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.set_message(what);
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    /// Hides the bar before other output to the terminal.
    pub(super) fn hide(&self) {
        self.0.finish_and_clear();
    }

    /// Adds completed work.
    pub(super) fn add(&self, amount: u64) {
        self.0.inc(amount);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
