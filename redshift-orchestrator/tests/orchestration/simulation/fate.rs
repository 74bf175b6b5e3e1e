//! [`Fate`]: when the process dies.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

/// When a process dies, drawn at each of its interactions.
pub(super) struct Fate {
    draw: Mutex<fastrand::Rng>,
    odds: f64,
    journal_fails: bool,
    left: Arc<AtomicU64>,
    /// What else the process was about to do, it does not do.
    dead: AtomicBool,
    bell: Notify,
}

/// How a process dies at an interaction.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Death {
    Before,
    After,
    /// The request is on its way, and arrives after this; of a record, a part is written.
    Underway(Duration),
}

impl Fate {
    /// The fate of a process, of all of which `left` more may die. Unless this may be the last process, its journal may fail.
    pub(super) fn drawn(draw: &mut fastrand::Rng, left: &Arc<AtomicU64>, last: bool) -> Self {
        Self {
            odds: 0.002 * 10_f64.powf(draw.f64() * 2.0),
            draw: Mutex::new(draw.fork()),
            journal_fails: !last && draw.u8(0..4) == 0,
            left: left.clone(),
            dead: AtomicBool::new(false),
            bell: Notify::new(),
        }
    }

    /// Runs a life to its end: `None` if that was its death.
    pub(super) async fn live<T>(&self, life: impl Future<Output = T>) -> Option<T> {
        self.dead.store(false, Ordering::Relaxed);
        tokio::select! {
            biased;
            () = self.bell.notified() => None,
            ended = life => Some(ended),
        }
    }

    pub(super) fn draw<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.draw.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn death(&self) -> Option<Death> {
        if self.dead.load(Ordering::Relaxed) {
            return Some(Death::Before);
        }
        if self.left.load(Ordering::Relaxed) == 0 || self.draw(|draw| draw.f64()) >= self.odds {
            return None;
        }
        let less = |left: u64| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok()?;
        Some(self.draw(|draw| match draw.u8(0..3) {
            0 => Death::Before,
            1 => Death::After,
            _ => Death::Underway(Duration::from_secs(draw.u64(0..600))),
        }))
    }

    /// Whether the disk under the journal fails now.
    pub(super) fn journal_fails(&self) -> bool {
        self.journal_fails && self.draw(|draw| draw.f64()) < self.odds
    }

    /// The process dies here: it is dropped from outside, and goes no further.
    pub(super) async fn die<T>(&self) -> T {
        self.dead.store(true, Ordering::Relaxed);
        self.bell.notify_one();
        std::future::pending().await
    }

    /// An interaction whose request dies with the process.
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
