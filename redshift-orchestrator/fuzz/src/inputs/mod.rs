//! External inputs: responses of the service, journals, pipeline files, script and fault files, requests to
//! the emulator. None may cause a panic, an endless loop, or an undocumented response.
//!
//! `cargo fuzz` generates them by coverage, with one target for each kind; `tests/fuzz.rs` generates
//! mutations from seeds in every test run.

#[path = "../../../tests/support/connector.rs"]
mod connector;
mod mutate;

mod emulator_request;
mod files;
mod journal;
mod service_reply;

pub use mutate::mutate;

/// A kind of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// `STATUS OPERATION`, a line end, and the body of the response.
    ServiceReply,
    /// Lines of a journal.
    Journal,
    /// A pipeline as TOML or JSON.
    Pipeline,
    /// A script or faults, as TOML.
    Script,
    /// Lines of `OPERATION BODY`; `@1` in a body is replaced by the id of the first submit.
    EmulatorRequest,
}

impl Input {
    /// All kinds.
    pub const ALL: [Self; 5] =
        [Self::ServiceReply, Self::Journal, Self::Pipeline, Self::Script, Self::EmulatorRequest];

    /// Processes an input as the library does.
    ///
    /// # Panics
    /// Panics if the library does, or if it breaks a promise.
    pub fn feed(self, data: &[u8]) {
        match self {
            Self::ServiceReply => service_reply::feed(data),
            Self::Journal => journal::feed(data),
            Self::Pipeline => files::feed_pipeline(data),
            Self::Script => files::feed_script(data),
            Self::EmulatorRequest => emulator_request::feed(data),
        }
    }

    /// Valid inputs.
    pub fn seeds(self) -> &'static [&'static str] {
        match self {
            Self::ServiceReply => service_reply::SEEDS,
            Self::Journal => journal::SEEDS,
            Self::Pipeline => files::PIPELINES,
            Self::Script => files::SCRIPTS,
            Self::EmulatorRequest => emulator_request::SEEDS,
        }
    }

    /// Returns inputs that are nested deeper than a stack.
    pub fn nested() -> impl Iterator<Item = String> {
        let json = ["[", "{\"Sql\":"].map(|piece| format!("ExecuteStatement {}", piece.repeat(20_000)));
        let replies =
            ["[", "{\"a\":"].map(|piece| format!("200 DescribeStatement\n{{\"a\":{}", piece.repeat(20_000)));
        let lines = ["[", "{\"a\":"].map(|piece| format!("{{\"at\":{}\n", piece.repeat(20_000)));
        files::nested().chain(json).chain(replies).chain(lines)
    }

    /// Returns input number `number`: a mutation of a valid one.
    pub fn drawn(self, number: u64) -> Vec<u8> {
        let mut draw = fastrand::Rng::with_seed(number);
        let seeds = self.seeds();
        let (one, other) = (draw.usize(0..seeds.len()), draw.usize(0..seeds.len()));
        mutate(&mut draw, seeds[one].as_bytes(), seeds[other].as_bytes())
    }
}

/// Runs a future to its end on a paused clock.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(work)
}
