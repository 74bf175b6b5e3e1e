//! [`Progress`]: shows the progress of a run, as bars on a terminal or as lines in a log.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::{IsTerminal, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use redshift_orchestrator::{
    Clock, Observer, Pipeline, ProgressEvent, Result, Run, StepKey, SystemClock, pipeline::printable,
};

/// Observer that shows a run on standard error. On a terminal, it draws one bar for the run and one for each
/// running step. Above the bars, it prints failures, retries, and messages of procedures. Without a terminal,
/// it prints one line per event.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Inner>);

struct Inner {
    /// `None` if standard error is not a terminal.
    bars: Option<(MultiProgress, ProgressBar)>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: BTreeMap<String, ProgressBar>,
    done: BTreeSet<String>,
}

impl Progress {
    /// Creates an observer that draws bars if standard error is a terminal, and prints lines otherwise.
    ///
    /// # Errors
    /// Returns the errors of [`Pipeline::selected`].
    pub(crate) fn of(pipeline: &Pipeline, run: &Run) -> Result<Self> {
        match std::io::stderr().is_terminal() {
            true => Self::drawn(pipeline, run, ProgressDrawTarget::stderr()),
            false => Ok(Self::lines()),
        }
    }

    /// Creates an observer that prints one line per event on standard error.
    pub(crate) fn lines() -> Self {
        Self(Arc::new(Inner { bars: None, state: Mutex::default() }))
    }

    fn drawn(pipeline: &Pipeline, run: &Run, target: ProgressDrawTarget) -> Result<Self> {
        let steps = pipeline.selected(run)?.into_iter().filter(|selected| *selected).count();
        let bars = MultiProgress::with_draw_target(target);
        let style = style("{prefix} [{bar:30}] {pos} of {len} steps, {elapsed}", "=> ");
        let whole = bars.add(ProgressBar::new(steps as u64).with_style(style));
        whole.set_prefix(run.name().to_owned());
        whole.enable_steady_tick(Duration::from_millis(200));
        Ok(Self(Arc::new(Inner { bars: Some((bars, whole)), state: Mutex::default() })))
    }

    /// Removes the bars.
    pub(crate) fn clear(&self) {
        if let Some((bars, whole)) = &self.0.bars {
            for (_, bar) in std::mem::take(&mut self.lock().running) {
                bar.finish_and_clear();
            }
            whole.finish_and_clear();
            // Drawing fails if the terminal is gone, which does not matter here.
            let _ = bars.clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self, key: &StepKey, event: &ProgressEvent<'_>, bars: &MultiProgress, whole: &ProgressBar) {
        let mut state = self.lock();
        if let ProgressEvent::Submitted { .. } = event {
            // If a batch has several parts, the step only ends with the last one.
            state.done.remove(&key.step);
        }
        match event {
            ProgressEvent::Submitted { .. }
            | ProgressEvent::Polled { .. }
            | ProgressEvent::TaskStarted { .. } => {
                let bar = state.running.entry(key.step.clone()).or_insert_with(|| {
                    let bar = ProgressBar::new_spinner()
                        .with_style(style("  {spinner} {prefix}  {msg}  {elapsed}", "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
                    let bar = bars.insert_before(whole, bar).with_prefix(key.step.clone());
                    bar.enable_steady_tick(Duration::from_millis(200));
                    bar
                });
                bar.set_message(match event {
                    ProgressEvent::Polled { status } => status.to_string().to_lowercase(),
                    ProgressEvent::TaskStarted { work } => work.summary(),
                    _ => "submitted".to_owned(),
                });
            }
            ProgressEvent::Ended { .. }
            | ProgressEvent::TaskEnded { .. }
            | ProgressEvent::Unknown { .. }
            | ProgressEvent::NotSubmitted { .. }
            | ProgressEvent::Skipped { .. } => {
                if let Some(bar) = state.running.remove(&key.step) {
                    bar.finish_and_clear();
                    bars.remove(&bar);
                }
                state.done.insert(key.step.clone());
            }
            ProgressEvent::StepRetried { .. } => {
                state.done.remove(&key.step);
            }
            _ => {}
        }
        whole.set_position(state.done.len() as u64);
    }
}

fn style(template: &str, letters: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    match template.contains("{bar") {
        true => style.progress_chars(letters),
        false => style.tick_chars(letters),
    }
}

impl Observer for Progress {
    fn observe(&self, key: &StepKey, event: &ProgressEvent<'_>) {
        let event_text = printable(&event.to_string());
        let text =
            format!("{}  {}  {event_text}", SystemClock.now().strftime("%H:%M:%S"), key.step_and_part());
        match (&self.0.bars, event) {
            (None, ProgressEvent::Polled { .. }) => {}
            // Writing fails if standard error is closed, which must not stop the run.
            (None, _) => drop(writeln!(std::io::stderr(), "{text}")),
            (Some((bars, whole)), event) => {
                self.draw(key, event, bars, whole);
                let is_printed = match event {
                    ProgressEvent::Ended { outcome } => !outcome.is_success(),
                    ProgressEvent::TaskEnded { outcome } => !outcome.is_success(),
                    ProgressEvent::TaskStarted { .. } => false,
                    ProgressEvent::Submitted { reattached, .. } => *reattached,
                    ProgressEvent::Polled { .. } => false,
                    _ => true,
                };
                if is_printed {
                    // Drawing fails if the terminal is gone, which must not stop the run.
                    let _ = bars.println(text);
                }
            }
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("bars", &self.0.bars.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use indicatif::TermLike;

    use super::*;
    use redshift_data_local::{self as local, LocalExecutor, Script};
    use redshift_orchestrator::{Orchestrator, pipeline::Step};

    /// Terminal that records its output.
    #[derive(Clone, Debug, Default)]
    struct Terminal(Arc<Mutex<String>>);

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            100
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(&format!("{text}\n"))
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_terminal_shows_the_total_progress_and_the_failures() {
        let pipeline = Pipeline::builder("p")
            .with_step(Step::sql("good", "SELECT 'good'"))
            .with_step(Step::sql("bad", "SELECT 'bad'").after(["good"]))
            .with_step(Step::sql("behind", "SELECT 'behind'").after(["bad"]))
            .build()
            .unwrap();
        let script = Script::new()
            .on("bad", local::ScriptedExecution::failed(Duration::from_secs(9), "ERROR: no such table"));
        let terminal = Terminal::default();
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(terminal.clone()), 20);
        let progress = Progress::drawn(&pipeline, &Run::new("r"), target).unwrap();
        let orchestrator = Orchestrator::new(LocalExecutor::scripted(script)).with_observer(progress.clone());
        let report = pipeline.run(&orchestrator, Run::new("r")).await.unwrap();
        assert!(!report.is_success());
        {
            let state = progress.lock();
            assert_eq!((state.done.len(), state.running.len()), (3, 0));
        }
        progress.clear();
        let seen = terminal.0.lock().unwrap().clone();
        assert!(seen.contains("bad  failed (sql): ERROR: no such table"), "{seen}");
        assert!(seen.contains("behind  skipped because of bad"), "{seen}");
    }
}
