//! Progress bars on standard error, if that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::Context;

/// A bar, or a wheel where nobody knows how much there is.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// So many bytes to read.
    pub(super) fn bytes(context: Context, total: u64, what: &'static str) -> Self {
        let style =
            ProgressStyle::with_template("{msg:12} {bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
        Self::of(context, ProgressBar::new(total), style, what)
    }

    /// Something that takes as long as it takes.
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

    /// Draws nothing any more: what comes next goes to the terminal itself.
    pub(super) fn hide(&self) {
        self.0.finish_and_clear();
    }

    /// So much more of it is done.
    pub(super) fn add(&self, amount: u64) {
        self.0.inc(amount);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
