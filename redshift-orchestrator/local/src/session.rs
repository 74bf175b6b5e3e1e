//! [`Sessions`]: the state of each session. The back end keeps the connections themselves.
//!
//! ```text
//!          submit with a keep-alive            its statement ended
//!  (none) --------------------------> BUSY <---------------------> AVAILABLE --> CLOSED
//!                                           submit into the session          idle for its keep-alive
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use jiff::Timestamp;

use super::{Limits, limits, machine::later};
use redshift_orchestrator::{
    Auth, Error, ErrorKind, Result, SessionId, StatementId, Target,
    catalog::{Session, SessionFilter, SessionStatus},
};

/// Sessions that are open or were closed within the last 24 hours.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    known: HashMap<SessionId, Known>,
    /// Sessions in the order in which they were opened.
    order: BTreeMap<u64, SessionId>,
    next: u64,
}

#[derive(Debug)]
struct Known {
    keep_alive: Duration,
    created_at: Timestamp,
    updated_at: Timestamp,
    target: Option<Target>,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Available,
    Busy(StatementId),
    Closed,
}

impl Sessions {
    /// Opens a session that is busy with this statement.
    ///
    /// # Errors
    /// [`ErrorKind::TooManySessions`].
    pub(super) fn open(
        &mut self,
        id: SessionId,
        statement: &StatementId,
        keep_alive: Duration,
        target: Option<Target>,
        now: Timestamp,
        limits: &Limits,
    ) -> Result<()> {
        self.close_idle(now);
        let open = self.known.values().filter(|session| session.state != State::Closed).count();
        if open >= limits.active_sessions {
            let text = format!("Active sessions limit exceeded: {open} are open");
            return Err(
                Error::new(ErrorKind::TooManySessions, text).with_code("ActiveSessionsExceededException")
            );
        }
        let state = State::Busy(statement.clone());
        self.known.insert(id.clone(), Known { keep_alive, created_at: now, updated_at: now, target, state });
        self.order.insert(self.next, id);
        self.next += 1;
        Ok(())
    }

    /// Removes a session whose first submit failed.
    pub(super) fn forget(&mut self, id: &SessionId) {
        self.known.remove(id);
        self.order.retain(|_, known| known != id);
    }

    /// Marks an open session as busy with this statement. Returns the target with which the session was
    /// opened.
    pub(super) fn occupy(
        &mut self,
        id: &SessionId,
        statement: &StatementId,
        keep_alive: Option<Duration>,
        now: Timestamp,
    ) -> Result<Option<Target>> {
        self.close_idle(now);
        let gone = || of_session(ErrorKind::SessionGone, "Session is not available", id);
        let session = self.known.get_mut(id).ok_or_else(gone)?;
        match &session.state {
            State::Closed => return Err(gone()),
            State::Busy(_) => {
                return Err(of_session(ErrorKind::SessionBusy, "Session is busy with another statement", id));
            }
            State::Available => {}
        }
        session.state = State::Busy(statement.clone());
        session.updated_at = now;
        session.keep_alive = keep_alive.unwrap_or(session.keep_alive);
        Ok(session.target.clone())
    }

    /// Closes a session whose connection is lost. A busy session remains busy until its statement ends.
    pub(super) fn lose(&mut self, id: &SessionId, now: Timestamp) {
        if let Some(session) = self.known.get_mut(id)
            && session.state == State::Available
        {
            session.state = State::Closed;
            session.updated_at = now;
        }
    }

    /// Closes the sessions whose connections are lost according to `is_lost`.
    pub(super) fn lose_all(&mut self, now: Timestamp, is_lost: impl Fn(&SessionId) -> bool) {
        let lost: Vec<_> = self.known.keys().filter(|id| is_lost(id)).cloned().collect();
        lost.iter().for_each(|id| self.lose(id, now));
    }

    /// Marks the session as available after its statement ended or was rejected. Returns its keep-alive.
    pub(super) fn release(
        &mut self,
        id: &SessionId,
        statement: &StatementId,
        now: Timestamp,
    ) -> Option<Duration> {
        let session = self.known.get_mut(id)?;
        if session.state != State::Busy(statement.clone()) {
            return None;
        }
        session.state = State::Available;
        session.updated_at = now;
        Some(session.keep_alive)
    }

    /// Closes the session if its keep-alive has passed since its last use. Returns `true` if the session is
    /// closed.
    pub(super) fn close_if_idle(&mut self, id: &SessionId, now: Timestamp) -> bool {
        self.close_idle(now);
        self.known.get(id).is_none_or(|session| session.state == State::Closed)
    }

    /// Closes the sessions that have been idle for their keep-alive, and removes those closed for 24 hours.
    fn close_idle(&mut self, now: Timestamp) {
        for session in self.known.values_mut() {
            let until = later(session.updated_at, session.keep_alive);
            if session.state == State::Available && until <= now {
                session.state = State::Closed;
                session.updated_at = until;
            }
        }
        let forgotten = |session: &Known| {
            session.state == State::Closed && later(session.updated_at, Duration::from_hours(24)) <= now
        };
        self.known.retain(|_, session| !forgotten(session));
        self.order.retain(|_, id| self.known.contains_key(id));
    }

    /// Returns all sessions, newest first.
    pub(super) fn list(&mut self, now: Timestamp) -> Vec<Session> {
        self.close_idle(now);
        self.order.values().rev().filter_map(|id| Some(self.known.get(id)?.describe(id))).collect()
    }
}

impl Known {
    fn describe(&self, id: &SessionId) -> Session {
        let (status, current) = match &self.state {
            State::Available => (SessionStatus::Available, None),
            State::Busy(statement) => (SessionStatus::Busy, Some(statement.clone())),
            State::Closed => (SessionStatus::Closed, None),
        };
        let mut session = Session::new(id.clone(), status, self.created_at);
        session.updated_at = Some(self.updated_at);
        session.keep_alive = Some(self.keep_alive);
        session.expires_at = Some(match self.state {
            State::Closed => self.updated_at,
            _ => later(self.updated_at, self.keep_alive),
        });
        session.current_statement = current;
        session.compute = self.target.as_ref().map(|target| target.compute().clone());
        session.database = self.target.as_ref().map(|target| target.database().to_owned());
        session.database_user = match self.target.as_ref().map(Target::auth) {
            Some(Auth::DatabaseUser(user)) => Some(user.clone()),
            _ => None,
        };
        session
    }
}

/// Returns `true` if the session matches the filter of a listing.
pub(super) fn fits(session: &Session, filter: &SessionFilter) -> bool {
    if let Some(id) = &filter.id {
        return session.id == *id;
    }
    let in_status = match &filter.status {
        Some(status) => session.status == *status,
        None => session.status != SessionStatus::Closed,
    };
    in_status
        && filter.compute.as_ref().is_none_or(|compute| session.compute.as_ref() == Some(compute))
        && filter.database.as_ref().is_none_or(|database| session.database.as_ref() == Some(database))
}

fn of_session(kind: ErrorKind, text: &str, id: &SessionId) -> Error {
    Error::new(kind, text).with_code("ValidationException").with_context("session_id", id)
}

/// Returns the error of an executor that does not support sessions.
pub(super) fn unsupported() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "a local executor with one connection does not support sessions; submit statements that belong together as one batch",
    )
}

/// Checks that a keep-alive is at most one day.
pub(super) fn check_keep_alive(keep_alive: Option<Duration>) -> Result<()> {
    match keep_alive {
        Some(idle) if idle > Duration::from_hours(24) => {
            Err(limits::validation("the keep-alive of a session must be at most 86400 seconds"))
        }
        _ => Ok(()),
    }
}
