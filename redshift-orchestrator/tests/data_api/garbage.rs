//! Random responses cause no panic, and a submit that reached the service is never reported as not sent.

use std::sync::{Arc, Mutex};

use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};
use redshift_orchestrator::{
    ErrorKind, PageToken, Statement, StatementExecutor, StatementFilter, StatementId, WaitTime,
};
use serde_json::{Map, Value, json};

use crate::{
    ID, executor,
    http::{Reply, Server},
};

const MEMBERS: [&str; 34] = [
    "Id",
    "Status",
    "Error",
    "Duration",
    "ResultRows",
    "ResultSize",
    "HasResultSet",
    "RedshiftPid",
    "RedshiftQueryId",
    "SubStatements",
    "Statements",
    "SessionId",
    "CreatedAt",
    "UpdatedAt",
    "ExecutionMode",
    "ResultFormat",
    "Records",
    "CSVRecords",
    "ColumnMetadata",
    "TotalNumRows",
    "NextToken",
    "nullable",
    "precision",
    "scale",
    "label",
    "typeName",
    "stringValue",
    "longValue",
    "doubleValue",
    "blobValue",
    "isNull",
    "__type",
    "message",
    "Message",
];

const WORDS: [&str; 12] = [
    "",
    "FINISHED",
    "ABORTED",
    "ALL",
    "CSV",
    "JSON",
    "AUTO_COMMIT",
    "ValidationException",
    "has expired after",
    "AAH/",
    "NaN",
    "ü\u{0}",
];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        select(&WORDS[..]).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((select(&MEMBERS[..]), inner), 0..8).prop_map(|members| members
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect::<Map<_, _>>()
                .into()),
        ]
    })
}

fn body() -> impl Strategy<Value = String> {
    // Half of the responses are objects with members of the service's model, and half are arbitrary JSON. One
    // in ten is truncated.
    let object = vec((select(&MEMBERS[..]), value()), 0..10).prop_map(|members| {
        members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>().into()
    });
    (prop_oneof![object, value()], any::<prop::sample::Index>(), prop::bool::weighted(0.1)).prop_map(
        |(value, end, cut)| {
            let text = Value::to_string(&value);
            if !cut {
                return text;
            }
            text.chars().take(end.index(text.chars().count() + 1)).collect()
        },
    )
}

#[test]
fn no_response_panics_or_makes_a_sent_submit_count_as_not_sent() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reply = Arc::new(Mutex::new(Reply::HangUp));
    let answer = reply.clone();
    let server = runtime.block_on(Server::start(move |_| answer.lock().unwrap().clone()));
    let executor = executor(&server.url());
    // Few cases, because each one sends at least seven requests over a socket.
    let config = Config { cases: 32, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let statuses = select(&[200_u16, 200, 200, 204, 400, 403, 429, 500, 503][..]);
    let outcome = runner.run(&(statuses, body()), |(status, body)| {
        let headers = Vec::new();
        *reply.lock().unwrap() = Reply::Answer { status, headers, body };
        runtime.block_on(async {
            let id = StatementId::new(ID);
            for statement in [Statement::sql("SELECT 1"), Statement::batch(["SELECT 1"])] {
                if let Err(error) = executor.submit(&statement, Some(WaitTime::MAX)).await {
                    prop_assert_ne!(error.kind(), ErrorKind::NotSent, "{:?}", error);
                }
            }
            let _ = executor.describe(&id, None).await;
            let _ = executor.cancel(&id).await;
            let _ = executor.result(&id, None).await;
            let _ = executor.result(&id, Some(PageToken::new("csv:p2"))).await;
            let _ = executor.list(&StatementFilter::default(), None).await;
            Ok(())
        })
    });
    outcome.unwrap();
}
