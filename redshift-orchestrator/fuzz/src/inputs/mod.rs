//! What comes from outside, and what is done with it: replies of the service, journals, pipeline files, script and fault files, requests
//! to the emulator. None of it may cause a panic, an endless loop, or an answer that is not one of those documented.
//!
//! `cargo fuzz` feeds them by coverage (one target each); `tests/fuzz.rs` feeds the same with mutations drawn from seeds, in every test
//! run.

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
    /// `STATUS OPERATION`, a line end, and the body that the service answers with.
    ServiceReply,
    /// Lines of a journal.
    Journal,
    /// A pipeline as TOML or JSON.
    Pipeline,
    /// A script or faults, as TOML.
    Script,
    /// Lines of `OPERATION BODY`; `@1` in a body stands for the id that the first submit was answered with.
    EmulatorRequest,
}

impl Input {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::ServiceReply, Self::Journal, Self::Pipeline, Self::Script, Self::EmulatorRequest];

    /// Does with an input what the library does with it.
    ///
    /// # Panics
    /// When the library does, or breaks a promise.
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

    /// Inputs that are nested deeper than a stack.
    pub fn nested() -> impl Iterator<Item = String> {
        let json = ["[", "{\"Sql\":"].map(|piece| format!("ExecuteStatement {}", piece.repeat(20_000)));
        let replies =
            ["[", "{\"a\":"].map(|piece| format!("200 DescribeStatement\n{{\"a\":{}", piece.repeat(20_000)));
        let lines = ["[", "{\"a\":"].map(|piece| format!("{{\"at\":{}\n", piece.repeat(20_000)));
        files::nested().chain(json).chain(replies).chain(lines)
    }

    /// The input of a number: a mutation of a valid one.
    pub fn drawn(self, number: u64) -> Vec<u8> {
        let mut draw = fastrand::Rng::with_seed(number);
        let seeds = self.seeds();
        let (one, other) = (draw.usize(0..seeds.len()), draw.usize(0..seeds.len()));
        mutate(&mut draw, seeds[one].as_bytes(), seeds[other].as_bytes())
    }
}

/// Runs to the end on a clock that takes no time.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(work)
}
