//! [`Fate`]: determines when a process dies.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::sleep};

/// Maximum number of seconds for which a request of a dead process is in flight. The service rejects a
/// signature that is older than 5 minutes.
const LONGEST_WAY: u64 = 300;

/// Determines when a process dies. A death is drawn at each interaction with the service or the journal.
pub(super) struct Fate {
    draw: Mutex<fastrand::Rng>,
    odds: f64,
    /// `true` if the journal's storage fails at times; always `false` for a process that may be the last one.
    pub(super) journal_fails: bool,
    /// Number of remaining deaths of all processes.
    left: Arc<AtomicU64>,
    /// Lifetime of a process that dies between interactions.
    lifetime: Option<Duration>,
    /// `true` after the process has died or ended. It must then have no further effect.
    dead: AtomicBool,
    bell: Notify,
}

/// When a process dies, relative to an interaction.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Death {
    Before,
    After,
    /// During the interaction. A request is in flight and arrives after this time. A record is written only
    /// partially.
    Underway(Duration),
}

impl Fate {
    /// Draws the fate of a process. `left` is the number of remaining deaths of all processes. With
    /// `last`, the journal's storage never fails.
    pub(super) fn drawn(draw: &mut fastrand::Rng, left: &Arc<AtomicU64>, last: bool) -> Self {
        Self {
            odds: 0.002 * 10_f64.powf(draw.f64() * 2.0),
            draw: Mutex::new(draw.fork()),
            journal_fails: !last && draw.u8(0..4) == 0,
            lifetime: (draw.u8(0..4) == 0)
                .then(|| Duration::from_secs_f64(0.05 * 10_f64.powf(draw.f64() * 5.0))),
            left: left.clone(),
            dead: AtomicBool::new(false),
            bell: Notify::new(),
        }
    }

    /// Runs a process. Returns `None` if it dies.
    pub(super) async fn live<T>(&self, life: impl Future<Output = T>) -> Option<T> {
        self.dead.store(false, Ordering::Relaxed);
        tokio::select! {
            biased;
            () = self.bell.notified() => None,
            () = self.outlived() => None,
            ended = life => Some(ended),
        }
    }

    pub(super) fn draw<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.draw.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn death(&self) -> Option<Death> {
        if self.is_dead() {
            return Some(Death::Before);
        }
        if self.left.load(Ordering::Relaxed) == 0 || self.draw(|draw| draw.f64()) >= self.odds {
            return None;
        }
        if !self.is_one_of_the_deaths() {
            return None;
        }
        Some(self.draw(|draw| match draw.u8(0..3) {
            0 => Death::Before,
            1 => Death::After,
            _ => Death::Underway(Duration::from_secs(draw.u64(0..LONGEST_WAY))),
        }))
    }

    fn is_one_of_the_deaths(&self) -> bool {
        let less = |left: u64| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    /// Returns `true` if the process is dead.
    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Waits until the end of the process's lifetime; forever if it has none.
    async fn outlived(&self) {
        if let Some(lifetime) = self.lifetime {
            sleep(lifetime).await;
            if self.is_one_of_the_deaths() {
                self.dead.store(true, Ordering::Relaxed);
                return;
            }
        }
        std::future::pending().await
    }

    /// Draws whether the journal's storage fails now. Returns the duration of the failure.
    pub(super) fn journal_failure(&self) -> Option<Duration> {
        if !self.journal_fails {
            return None;
        }
        self.draw(|draw| {
            (draw.f64() < self.odds).then(|| Duration::from_secs_f64(10_f64.powf(draw.f64() * 4.0)))
        })
    }

    /// Ends the process without a death. It sends no further requests.
    pub(super) fn end(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }

    /// Marks the process as dead, and never returns. [`live`](Self::live) then drops the future of the
    /// process.
    pub(super) async fn die<T>(&self) -> T {
        self.dead.store(true, Ordering::Relaxed);
        self.bell.notify_one();
        std::future::pending().await
    }

    /// Runs an interaction, at which the process may die.
    pub(super) async fn meet<T>(&self, interaction: impl Future<Output = T>) -> T {
        match self.death() {
            None => interaction.await,
            Some(Death::After) => {
                interaction.await;
                self.die().await
            }
            Some(Death::Before | Death::Underway(_)) => self.die().await,
        }
    }
}
