//! Captures everything that is logged with `tracing`, at every level.

use std::{
    fmt::{Debug, Write},
    sync::{Mutex, OnceLock, PoisonError},
};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

static SAID: Mutex<String> = Mutex::new(String::new());

/// Starts capturing. Repeated calls have no effect.
pub(crate) fn listen() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| tracing::subscriber::set_global_default(Listener).unwrap());
}

/// Returns everything logged so far, except for the AWS SDK's traces of whole requests and responses, which
/// the documentation of `DataApiExecutor` warns about.
pub(crate) fn said() -> String {
    let said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    let is_whole_request =
        |line: &str| line.starts_with("aws_smithy_runtime::client::orchestrator") && line.contains(" TRACE ");
    let is_ours = |line: &&str| !is_whole_request(line);
    said.split('\u{1e}').filter(is_ours).collect::<Vec<_>>().join("\n")
}

struct Listener;

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

fn note(metadata: &Metadata<'_>, what: impl FnOnce(&mut Fields)) {
    let mut fields = Fields(format!("{} {} {}", metadata.target(), metadata.level(), metadata.name()));
    what(&mut fields);
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    said.push_str(&fields.0);
    said.push('\u{1e}');
}

impl Subscriber for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        note(span.metadata(), |fields| span.record(fields));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut fields = Fields("redshift_orchestrator recorded".to_owned());
        values.record(&mut fields);
        let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
        said.push_str(&fields.0);
        said.push('\u{1e}');
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        note(event.metadata(), |fields| event.record(fields));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
