//! [`Template`]: the statements of a pipeline without the values of a run.

use std::{collections::BTreeMap, fmt};

use super::check;
use crate::{
    Error, ErrorKind, ExecutionMode, Result, Statement,
    pipeline::{Pipeline, Step, Work},
};

/// Steps of a pipeline with their texts split into literals and parameters of the run.
///
/// A template is the input of a generator: a state machine can be generated from it once, and receive the
/// values with each execution. [`Pipeline::run`] renders the same template with the values of its [`Run`].
///
/// ```
/// use redshift_orchestrator::pipeline::{Piece, Pipeline, TemplateText};
///
/// let pipeline = Pipeline::from_toml(r#"
/// name = "sales"
/// [parameters.day]
/// [parameters.schema]
/// default = "mystore"
///
/// [[steps]]
/// name = "load"
/// call = "${schema}.load_sales(:day)"
/// parameters = { day = "${day}" }
/// "#)?;
///
/// // JSONata, in which `&` concatenates texts.
/// let jsonata = |text: &TemplateText| {
///     let pieces = text.pieces().iter().map(|piece| match piece {
///         Piece::Literal(text) => serde_json::json!(text).to_string(),
///         Piece::Parameter(name) => format!("$states.input.{name}"),
///     });
///     pieces.collect::<Vec<_>>().join(" & ")
/// };
/// let template = pipeline.template();
/// let step = &template.steps()[0];
/// assert_eq!(jsonata(&step.sqls[0]), r#""CALL " & $states.input.schema & ".load_sales(:day)""#);
/// assert_eq!(step.parameters[0].name, "day");
/// assert_eq!(jsonata(&step.parameters[0].value), "$states.input.day");
/// assert!(template.is_in_sql("schema") && !template.is_in_sql("day"));
/// # Ok::<(), redshift_orchestrator::Error>(())
/// ```
///
/// [`Run`]: crate::pipeline::Run
#[derive(Clone, Debug)]
pub struct Template<'a> {
    pipeline: &'a Pipeline,
    steps: Vec<StepTemplate<'a>>,
}

/// Step of a [`Template`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StepTemplate<'a> {
    pipeline: &'a Pipeline,
    /// Definition of the step: its name, dependencies, tags, timeout, retry, and the effect of its failure.
    pub step: &'a Step,
    /// SQL texts in execution order: one, or those of a batch. The text of a call begins with `CALL`.
    pub sqls: Vec<TemplateText>,
    /// Commit mode of a batch, or `None` for a single statement.
    pub execution_mode: Option<ExecutionMode>,
    /// Values of the placeholders.
    pub parameters: Vec<TemplateParameter>,
}

/// Value of a `:name` placeholder in the SQL of a [`StepTemplate`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TemplateParameter {
    /// Name of the placeholder without its colon.
    pub name: String,
    /// The value.
    pub value: TemplateText,
}

/// Text that contains parameters of the run, as a sequence of pieces.
///
/// A parameter is written `${name}`. There is no escape: `$${name}` is a `$` followed by the parameter. A `${`
/// without a following `}` is literal. `Debug` does not print literals.
#[derive(Clone, PartialEq, Eq)]
pub struct TemplateText {
    pieces: Vec<Piece>,
}

/// Piece of a [`TemplateText`].
#[derive(Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text that is the same in every run. It is not empty, and no two literals are adjacent.
    Literal(String),
    /// Name of the parameter whose value is inserted.
    Parameter(String),
}

impl Pipeline {
    /// Returns the steps with their texts split into literals and parameters of the run.
    pub fn template(&self) -> Template<'_> {
        let step = |step| StepTemplate::new(self, step);
        Template { pipeline: self, steps: self.steps.iter().map(step).collect() }
    }
}

impl<'a> Template<'a> {
    /// Returns the pipeline: its name, concurrency, target, and the parameters of a run.
    pub fn pipeline(&self) -> &'a Pipeline {
        self.pipeline
    }

    /// Returns the steps in the order of their definition.
    pub fn steps(&self) -> &[StepTemplate<'a>] {
        &self.steps
    }

    /// Returns `true` if an SQL text contains this parameter of the run. Its values are then restricted to
    /// those that are [allowed in SQL](is_allowed_in_sql).
    pub fn is_in_sql(&self, parameter: &str) -> bool {
        self.steps
            .iter()
            .flat_map(|step| &step.sqls)
            .any(|sql| sql.parameters().any(|name| name == parameter))
    }
}

impl<'a> StepTemplate<'a> {
    fn new(pipeline: &'a Pipeline, step: &'a Step) -> Self {
        let execution_mode = match step.work {
            Work::Batch(_, mode) => Some(mode),
            Work::Sql(_) | Work::Call(_) => None,
        };
        let parameters = step.parameters.iter().map(|parameter| TemplateParameter {
            name: parameter.name.clone(),
            value: TemplateText::parse(&parameter.value),
        });
        Self {
            pipeline,
            step,
            sqls: step.work.sqls().iter().map(|sql| TemplateText::parse(sql)).collect(),
            execution_mode,
            parameters: parameters.collect(),
        }
    }

    /// Returns all texts: the SQL texts, and the values of the placeholders.
    fn texts(&self) -> impl Iterator<Item = &TemplateText> {
        self.sqls.iter().chain(self.parameters.iter().map(|parameter| &parameter.value))
    }

    /// Returns the statement with the values of a run's parameters. Defaults of the pipeline are not applied.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Definition`] if a parameter has no value, if a value in the SQL is not
    /// [allowed](is_allowed_in_sql) there, or if the value of a placeholder is empty.
    pub fn render(&self, values: &BTreeMap<String, String>) -> Result<Statement> {
        let problem = |message: String| {
            Error::new(ErrorKind::Definition, message)
                .with_context("pipeline", self.pipeline.name())
                .with_context("step", self.step.name())
        };
        let missing = |name: &str| problem(format!("the parameter `{name}` has no value"));
        let not_allowed = |name: &&str| values.get(*name).is_some_and(|value| !is_allowed_in_sql(value));
        if let Some(name) = self.sqls.iter().flat_map(TemplateText::parameters).find(not_allowed) {
            return Err(problem(format!(
                "the value of `{name}` is not allowed in SQL: write `:{name}` there, and `{name} = \"${{{name}}}\"` \
                 among the step's parameters"
            )));
        }
        let sqls = self.sqls.iter().map(|sql| sql.render(values).map_err(missing));
        let mut sqls = sqls.collect::<Result<Vec<_>>>()?;
        let mut statement = match self.execution_mode {
            Some(mode) => Statement::batch(sqls).with_execution_mode(mode),
            None => Statement::sql(sqls.pop().unwrap_or_default()),
        };
        for parameter in &self.parameters {
            let value = parameter.value.render(values).map_err(missing)?;
            if value.is_empty() {
                return Err(problem(check::empty_value(&parameter.name)));
            }
            statement = statement.with_parameter(&parameter.name, value);
        }
        let secrets = self.texts().flat_map(TemplateText::parameters);
        let secrets =
            secrets.filter(|name| self.pipeline.is_secret(name)).filter_map(|name| values.get(name));
        let statement = secrets.fold(statement, Statement::with_secret);
        Ok(match self.step.commits {
            Some(commits) => statement.with_commits(commits),
            None => statement,
        })
    }
}

impl TemplateText {
    /// Splits a text into its pieces.
    pub fn parse(text: &str) -> Self {
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some((literal, (name, after))) =
            rest.split_once("${").and_then(|(literal, opened)| Some((literal, opened.split_once('}')?)))
        {
            if !literal.is_empty() {
                pieces.push(Piece::Literal(literal.to_owned()));
            }
            pieces.push(Piece::Parameter(name.to_owned()));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Literal(rest.to_owned()));
        }
        Self { pieces }
    }

    /// Returns the pieces in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Returns the names of the parameters in order and with repetitions.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Parameter(name) => Some(name.as_str()),
            Piece::Literal(_) => None,
        })
    }

    /// Returns the text with its parameters replaced, or the first name that has no value.
    fn render(&self, values: &BTreeMap<String, String>) -> Result<String, &str> {
        let pieces = self.pieces.iter().map(|piece| match piece {
            Piece::Literal(text) => Ok(text.as_str()),
            Piece::Parameter(name) => values.get(name).map(String::as_str).ok_or(name.as_str()),
        });
        pieces.collect()
    }
}

/// Returns `true` for a value that is allowed in the SQL itself: a word, a number, a date, or a qualified
/// name. It consists of ASCII letters, digits, `_`, `.` and `-`, and contains no `--`.
///
/// Other values belong in the value of a placeholder, which the service keeps separate from the SQL.
pub fn is_allowed_in_sql(value: &str) -> bool {
    !value.is_empty()
        && !value.contains("--")
        && value.chars().all(|character| character.is_ascii_alphanumeric() || "_.-".contains(character))
}

impl fmt::Debug for TemplateText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.pieces).finish()
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("…"),
            Self::Parameter(name) => write!(f, "${{{name}}}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn literal(text: &str) -> Piece {
        Piece::Literal(text.to_owned())
    }

    fn parameter(name: &str) -> Piece {
        Piece::Parameter(name.to_owned())
    }

    #[test]
    fn a_text_is_split_into_literals_and_parameters() {
        let cases = [
            ("", vec![]),
            ("SELECT 1", vec![literal("SELECT 1")]),
            ("${a}${b} $c", vec![parameter("a"), parameter("b"), literal(" $c")]),
            ("x ${a} y", vec![literal("x "), parameter("a"), literal(" y")]),
            ("$${a}", vec![literal("$"), parameter("a")]),
            ("$$ BEGIN; END $$ {a}", vec![literal("$$ BEGIN; END $$ {a}")]),
            ("${a} ${open", vec![parameter("a"), literal(" ${open")]),
            ("} ${a}", vec![literal("} "), parameter("a")]),
            ("${ä}ö", vec![parameter("ä"), literal("ö")]),
        ];
        for (text, pieces) in cases {
            assert!(TemplateText::parse(text).pieces() == pieces, "{text}");
        }
    }

    #[test]
    fn replaces_what_is_known_and_names_what_is_not() {
        let values = BTreeMap::from([("cycle".to_owned(), "7".to_owned())]);
        let render = |text: &str| TemplateText::parse(text).render(&values).map_err(str::to_owned);
        assert_eq!(render("a ${cycle} b ${cycle}"), Ok("a 7 b 7".to_owned()));
        assert_eq!(render("${day}"), Err("day".to_owned()));
        assert_eq!(render("$cycle ${open"), Ok("$cycle ${open".to_owned()));
    }

    #[test]
    fn only_plain_values_may_stand_in_sql() {
        for plain in ["7", "mystore.sales", "2026-11-23", "stage_1"] {
            assert!(is_allowed_in_sql(plain), "{plain}");
        }
        for other in ["", "a b", "'x'", "1;DROP", "1--", "x)", "é"] {
            assert!(!is_allowed_in_sql(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn the_pieces_of_a_text_are_the_text(text in "[a{}$ ä]{0,40}") {
            let text_of = |piece: &Piece| match piece {
                Piece::Literal(text) => text.clone(),
                Piece::Parameter(name) => format!("${{{name}}}"),
            };
            let parsed = TemplateText::parse(&text);
            prop_assert_eq!(parsed.pieces().iter().map(text_of).collect::<String>(), text);
            let is_literal = |piece: &Piece| matches!(piece, Piece::Literal(_));
            prop_assert!(!parsed.pieces().windows(2).any(|pair| pair.iter().all(is_literal)));
        }
    }
}
