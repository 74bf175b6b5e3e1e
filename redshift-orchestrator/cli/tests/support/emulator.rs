//! Runs an emulator on a thread of the test process.

use std::{net::SocketAddr, thread};

use redshift_data_emulator::Emulator as Library;
use redshift_data_local::{LocalExecutor, Script};
use redshift_orchestrator::{Clock, StatementExecutor, SystemClock, catalog::Catalog};
use tokio::sync::oneshot;

/// A running emulator. Dropping it closes its connections and ends its thread.
pub(crate) struct Emulator {
    pub(crate) url: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Emulator {
    /// Starts an emulator with a script in TOML.
    pub(crate) fn scripted(script: &str) -> Self {
        let script = Script::from_toml(script).unwrap().starting_at(SystemClock.now());
        Self::start(async move { LocalExecutor::scripted(script) })
    }

    /// Starts an emulator that uses a PostgreSQL server.
    #[allow(dead_code, reason = "only some of the tests that include this file use it")]
    pub(crate) fn postgres(url: &str) -> Self {
        let builder = LocalExecutor::postgres(url);
        Self::start(async move { builder.start().await.unwrap() })
    }

    fn start<E: StatementExecutor + Catalog + 'static>(
        executor: impl Future<Output = E> + Send + 'static,
    ) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let serve = async move {
            let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
            let listening = Library::new(executor.await).bind(any_port).await.unwrap();
            ready.send(listening.url()).unwrap();
            listening.serve_until(async { stopped.await.unwrap_or(()) }).await;
        };
        let thread = thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(serve);
            runtime.shutdown_background();
        });
        let url = is_ready.recv().expect("the emulator listens");
        Self { url, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
