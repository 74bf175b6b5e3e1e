//! Checks of a definition. Each message contains the problem and a remedy.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{Piece, TemplateText, problem::Location};
use crate::{
    Commits, Statement,
    identity::MAX_NAME,
    pipeline::{
        RetryPolicy, Step, StepStatement, StepWork,
        model::{Declared, suggest},
    },
    sql::{self, Token},
    task::{RUN_TOKEN, TaskWork},
};

pub(super) fn name(what: impl fmt::Display, name: &str) -> Result<(), String> {
    let length = name.chars().count();
    if (1..=MAX_NAME).contains(&length) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(format!("the name of a {what} has 1 to {MAX_NAME} characters, none of them a control character"))
}

pub(super) fn work(step: &Step) -> Result<(), String> {
    let StepWork::Statement(statement) = &step.work else { return Ok(()) };
    let sqls = statement.sqls();
    if sqls.is_empty() {
        return Err("a batch has at least one statement; add one, or remove the step".to_owned());
    }
    if let Some(batch) = batch(step) {
        batch.check_divisible().map_err(|error| with_names_of_file_keys(error.message()))?;
    }
    if let StepStatement::Call(call) = statement {
        let words: Vec<_> = sql::tokens(call).filter(|token| !matches!(token, Token::Blank(_))).collect();
        match words[..] {
            [] | [Token::Symbol("("), ..] => {
                return Err(
                    "the name of the procedure is missing; write the text that follows `CALL`".to_owned()
                );
            }
            [Token::Word(first), Token::Word(_) | Token::Quoted(_), ..]
                if first.eq_ignore_ascii_case("CALL") =>
            {
                return Err("a call is written without the word `CALL`; remove it".to_owned());
            }
            _ => {}
        }
    }
    for text in &sqls {
        if text.contains('\0') {
            return Err("the SQL contains the character NUL, which the database does not accept; remove it"
                .to_owned());
        }
        match (sql::count(text), statement) {
            (0, _) => return Err("a statement is empty; add the SQL, or remove the statement".to_owned()),
            (1, _) => {}
            (several, StepStatement::Batch(..)) => {
                return Err(format!(
                    "one text of the batch contains {several} statements; write each as a separate text"
                ));
            }
            (several, _) => {
                return Err(format!(
                    "the text contains {several} statements instead of one; write them as a `batch`"
                ));
            }
        }
    }
    Ok(())
}

/// Rejects a transaction batch that contains a command that commits or cannot run inside a transaction.
/// Returns the key of the definition to correct, with a message.
pub(super) fn commits(step: &Step) -> Result<(), (&'static str, String)> {
    let Some(batch) = batch(step) else { return Ok(()) };
    let key = if step.commits == Commits::Yes { "commits" } else { "work" };
    batch.check_commits().map_err(|error| (key, with_names_of_file_keys(error.message())))
}

/// Returns the statement of a step that runs a batch, with `${…}` unreplaced, or `None` for other steps.
fn batch(step: &Step) -> Option<Statement> {
    let StepWork::Statement(StepStatement::Batch(sqls, mode)) = &step.work else { return None };
    let statement = Statement::batch(sqls.clone()).with_execution_mode(*mode);
    Some(statement.with_commits(step.commits))
}

/// Rejects a task that no run could start, and keys that only a statement has.
pub(super) fn task(step: &Step, declared: &BTreeMap<String, Declared>) -> Result<(), (Location, String)> {
    let StepWork::Task(work) = &step.work else { return Ok(()) };
    let kind = work.kind();
    let at = |key, message: String| Err((Location::key(key), message));
    if !step.parameters.is_empty() {
        let place = match work {
            TaskWork::Glue(_) => "the `arguments` of `glue`",
            TaskWork::Hudi(_) => "`hudi`",
        };
        return at("parameters", format!("only SQL has placeholders; write the values in {place}"));
    }
    if step.commits != Commits::Detected {
        return at("commits", format!("a step with `{kind}` has no SQL that could commit; remove `commits`"));
    }
    if work.texts().iter().any(|text| text.contains('\0')) {
        return at("work", "the text contains the character NUL; remove it".to_owned());
    }
    for text in work.texts() {
        let is_secret = |name: &&str| declared.get(*name).is_some_and(|parameter| parameter.is_secret);
        if let Some(name) = TemplateText::parse(text).parameters().find(is_secret) {
            let message = format!(
                "the parameter `{name}` is secret, and the text would be stored in plain text; keep the value in Secrets \
                 Manager, and pass the name of the secret"
            );
            return Err((Location { key: "work", needle: format!("${{{name}}}") }, message));
        }
    }
    content(work).map_err(|(needle, message)| (Location { key: "work", needle }, message))
}

/// Checks the content of a task. Returns the text to correct, with a message.
fn content(work: &TaskWork) -> Result<(), (String, String)> {
    match work {
        TaskWork::Glue(run) => {
            if run.job.is_empty() {
                return Err(("job".to_owned(), "the name of the job is empty; add it".to_owned()));
            }
            for name in run.arguments.keys() {
                if !name.starts_with("--") || name.len() == 2 {
                    let message = format!("the name of an argument begins with `--`, unlike `{name}`");
                    return Err((name.clone(), message));
                }
                if name == RUN_TOKEN {
                    let message = format!(
                        "`{RUN_TOKEN}` is the argument by which a run is recognised; rename the argument"
                    );
                    return Err((name.clone(), message));
                }
            }
        }
        TaskWork::Hudi(upsert) => {
            let table = TemplateText::parse(&upsert.table);
            let literals = table.pieces().iter().filter_map(|piece| match piece {
                Piece::Literal(text) => Some(text),
                Piece::Parameter(_) => None,
            });
            if upsert.table.is_empty() || !literals.into_iter().all(|text| is_table_name(text)) {
                return Err(("table".to_owned(), BAD_TABLE.to_owned()));
            }
            if upsert.files.is_empty() {
                return Err(("files".to_owned(), "`files` is empty; name at least one file".to_owned()));
            }
            if upsert.files.iter().any(String::is_empty) {
                return Err(("files".to_owned(), "the URL of a file is empty; remove it".to_owned()));
            }
        }
    }
    Ok(())
}

/// Checks a task with the values of a run.
pub(super) fn rendered(work: &TaskWork) -> Result<(), String> {
    match work {
        TaskWork::Glue(run) if run.job.is_empty() => {
            Err("the name of the job is empty in this run".to_owned())
        }
        TaskWork::Hudi(upsert) if !is_table_name(&upsert.table) => Err(BAD_TABLE.to_owned()),
        TaskWork::Hudi(upsert) if upsert.files.iter().any(String::is_empty) => {
            Err("the URL of a file is empty in this run".to_owned())
        }
        TaskWork::Glue(_) | TaskWork::Hudi(_) => Ok(()),
    }
}

/// Message for the name of a table that could be a path.
pub(super) const BAD_TABLE: &str = "the name of a table consists of letters, digits, `_` and `-`; the program that takes the files in knows its URL";

pub(super) fn is_table_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

fn with_names_of_file_keys(text: &str) -> String {
    text.replace("`ExecutionMode::AutoCommit`", "`execution_mode = \"auto-commit\"`")
        .replace("`with_commits(Commits::No)`", "`commits = false`")
}

pub(super) fn parameters(
    step: &Step,
    declared: &BTreeMap<String, Declared>,
) -> Result<(), (Location, String)> {
    let sqls = step.work.sqls();
    let mut seen = BTreeSet::new();
    for parameter in &step.parameters {
        let name = &parameter.name;
        let fail = |message| Err((Location { key: "parameters", needle: name.clone() }, message));
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return fail(format!(
                "the name of a parameter consists of letters, digits and `_`, unlike `{name}`"
            ));
        }
        if !seen.insert(name.as_str()) {
            return fail(format!("the parameter `{name}` has two values"));
        }
        if parameter.value.is_empty() {
            return fail(empty_value(name));
        }
        if !sqls.iter().any(|text| sql::placeholders(text).contains(&name.as_str())) {
            return fail(format!("no statement uses `:{name}`, and the service rejects unused values"));
        }
    }
    if let Some(name) = sqls.iter().flat_map(|text| sql::placeholders(text)).find(|name| !seen.contains(name))
    {
        let message = format!(
            "the SQL uses `:{name}`, which has no value; add one: `parameters = {{ {name} = \"…\" }}`{}",
            suggest::close(name, seen.iter().copied())
        );
        return Err((Location { key: "work", needle: format!(":{name}") }, message));
    }
    let values = step.parameters.iter().map(|parameter| ("parameters", &parameter.value));
    let texts = step.work.texts();
    for (key, text) in texts.iter().map(|text| ("work", text)).chain(values) {
        if let Some(name) = TemplateText::parse(text).parameters().find(|name| !declared.contains_key(*name))
        {
            let known = declared.keys().map(String::as_str);
            let message = format!(
                "the pipeline has no parameter `${{{name}}}`; declare `[parameters.{name}]`{}",
                suggest::among(name, known)
            );
            return Err((Location { key, needle: format!("${{{name}}}") }, message));
        }
    }
    Ok(())
}

/// Returns the message for a value that the service would reject.
pub(super) fn empty_value(name: &str) -> String {
    format!("the value of `:{name}` is empty, which the service rejects; write '' in the SQL instead")
}

pub(super) fn tags(tags: &[String]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for tag in tags {
        name("tag", tag)?;
        if tag.contains(',') {
            return Err(format!("the tag `{tag}` contains a comma; commas separate tags"));
        }
        if !seen.insert(tag) {
            return Err(format!("the tag `{tag}` is given twice; remove one"));
        }
    }
    Ok(())
}

pub(super) fn retry(retry: &RetryPolicy) -> Result<(), String> {
    if retry.attempts == 0 {
        return Err("0 attempts would run nothing; use 1 or more".to_owned());
    }
    if retry.attempts > 1 && retry.on.is_empty() {
        return Err("list in `on` the failures after which another attempt is safe for this step".to_owned());
    }
    Ok(())
}
