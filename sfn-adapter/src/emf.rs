//! Metrics as lines of the CloudWatch embedded metric format. CloudWatch reads them from the function's log.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// Metrics of one invocation, and properties for finding its line in the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    values: Vec<(&'static str, Unit, f64)>,
    properties: Vec<(&'static str, String)>,
}

/// Unit of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A count.
    Count,
    /// A duration in seconds.
    Seconds,
    /// A duration in milliseconds.
    Milliseconds,
}

impl Unit {
    /// Returns the name that CloudWatch uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Count => "Count",
            Self::Seconds => "Seconds",
            Self::Milliseconds => "Milliseconds",
        }
    }
}

impl Metrics {
    /// Adds a value.
    #[must_use]
    pub fn with(mut self, name: &'static str, unit: Unit, value: f64) -> Self {
        self.values.push((name, unit, value));
        self
    }

    /// Adds a metric with the value one.
    #[must_use]
    pub fn counting(self, name: &'static str) -> Self {
        self.with(name, Unit::Count, 1.0)
    }

    /// Adds a property. A property is not a dimension, so it creates no separate metric.
    #[must_use]
    pub fn about(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.properties.push((name, value.into()));
        self
    }

    /// Returns the line, with the handler as the only dimension.
    pub fn line(&self, namespace: &str, handler: &str, at: Timestamp) -> String {
        let metrics: Vec<_> = self
            .values
            .iter()
            .map(|(name, unit, _)| json!({ "Name": name, "Unit": unit.as_str() }))
            .collect();
        let directive = json!({ "Namespace": namespace, "Dimensions": [["Handler"]], "Metrics": metrics });
        let mut line = Map::new();
        line.insert(
            "_aws".to_owned(),
            json!({ "Timestamp": at.as_millisecond(), "CloudWatchMetrics": [directive] }),
        );
        line.insert("Handler".to_owned(), handler.into());
        line.extend(self.values.iter().map(|(name, _, value)| ((*name).to_owned(), json!(value))));
        line.extend(self.properties.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
        Value::Object(line).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_form_that_cloudwatch_reads() {
        let metrics = Metrics::default()
            .counting("Succeeded")
            .with("StatementSeconds", Unit::Seconds, 41.25)
            .about("statement_id", "q-1");
        let at = Timestamp::from_millisecond(1_795_934_472_123).unwrap();
        let line: Value = serde_json::from_str(&metrics.line("sfn-adapter", "statement", at)).unwrap();
        assert_eq!(
            line,
            json!({
                "_aws": {
                    "Timestamp": 1_795_934_472_123_i64,
                    "CloudWatchMetrics": [{
                        "Namespace": "sfn-adapter",
                        "Dimensions": [["Handler"]],
                        "Metrics": [
                            { "Name": "Succeeded", "Unit": "Count" },
                            { "Name": "StatementSeconds", "Unit": "Seconds" },
                        ],
                    }],
                },
                "Handler": "statement", "Succeeded": 1.0, "StatementSeconds": 41.25, "statement_id": "q-1",
            })
        );
    }
}
