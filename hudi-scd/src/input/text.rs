//! Reads CSV and JSON lines into columns.

use std::{borrow::Cow, collections::HashMap, io::BufRead};

use crate::{Error, Result};
use arrow::datatypes::{Field, Schema, SchemaRef};
use hudi_format::members::Members;

use super::{
    BATCH_BYTES, BATCH_ROWS, Batches, InputFile, Rows,
    cell::Cell,
    column::Column,
    csv::{Broken, Records, Value},
    failed,
    guess::Guess,
    text_schema,
};

impl InputFile {
    fn broken(&self, broken: Broken) -> Error {
        match broken {
            Broken::Io(cause) => failed(&self.path, "cannot be read", cause),
            Broken::At(line, message) => self.at_line(line, message),
        }
    }
}

/// Reads the names in the first line of a CSV file, and opens the records that follow.
fn csv_open(file: &InputFile) -> Result<(Vec<String>, Records<impl BufRead + use<>>)> {
    let mut records = Records::new(file.open()?);
    let mut names = Vec::new();
    let line = records.read(&mut names).map_err(|broken| file.broken(broken))?;
    let Some(line) = line else {
        return Err(file.at_line(1, "the file is empty: its first line must name the columns"));
    };
    let names: Vec<String> = names.into_iter().map(|name| name.text.trim().to_owned()).collect();
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) {
            return Err(file.at_line(line, "a column occurs twice").with_context("column", name));
        }
    }
    Ok((names, records))
}

fn check_width(file: &InputFile, line: u64, names: &[String], values: &[Value]) -> Result<()> {
    if values.len() == names.len() {
        return Ok(());
    }
    let message =
        format!("the line has {} values, and the first line names {} columns", values.len(), names.len());
    Err(file.at_line(line, message))
}

pub(super) fn csv_columns(file: &InputFile, known: &Schema) -> Result<SchemaRef> {
    let (names, mut records) = csv_open(file)?;
    let mut guesses: Vec<Option<Guess>> =
        names.iter().map(|name| known.field_with_name(name).is_err().then(Guess::default)).collect();
    let mut values = Vec::new();
    // A pass over the rows is needed only if there are unknown columns.
    while guesses.iter().any(Option::is_some) {
        let Some(line) = records.read(&mut values).map_err(|broken| file.broken(broken))? else { break };
        check_width(file, line, &names, &values)?;
        for (guess, value) in guesses.iter_mut().zip(&values) {
            if let Some(guess) = guess.as_mut().filter(|_| !value.is_null()) {
                *guess = std::mem::take(guess).or(Guess::of_text(&value.text));
            }
        }
    }
    let field = |(name, guess): (&String, Option<Guess>)| match (known.field_with_name(name), guess) {
        (Ok(field), _) => field.clone(),
        (Err(_), guess) => Field::new(name, guess.unwrap_or_default().column_type(name), true),
    };
    text_schema(names.iter().zip(guesses).map(field).collect()).map_err(|error| in_file(error, file))
}

pub(super) fn csv_batches<'a>(
    file: &'a InputFile,
    known: &Schema,
    progress: &'a dyn Fn(u64),
) -> Result<Batches<'a>> {
    let schema = csv_columns(file, known)?;
    let (names, mut records) = csv_open(file)?;
    let mut values = Vec::new();
    Ok(batches(Rows::new(schema)?, progress, move |rows| {
        let Some(line) = records.read(&mut values).map_err(|broken| file.broken(broken))? else {
            return Ok(None);
        };
        check_width(file, line, &names, &values)?;
        let mut bytes = 0;
        for (index, value) in values.iter().enumerate() {
            bytes += value.text.len() as u64 + 1;
            let is_text = matches!(rows.columns[index], Column::Text(_) | Column::Binary(_));
            let cell = if value.is_null() || (value.text.is_empty() && !is_text) {
                Cell::Null
            } else {
                Cell::Text(Cow::Borrowed(&value.text))
            };
            rows.append(index, &cell)
                .map_err(|refusal| file.at_line(line, refusal).with_context("column", &names[index]))?;
        }
        Ok(Some(bytes))
    }))
}

/// Returns the line of a row, counted from 0. If the file has fewer rows, returns their number as an error.
pub(super) fn csv_line(file: &InputFile, row: u64) -> Result<Result<u64, u64>> {
    let (_, mut records) = csv_open(file)?;
    let mut values = Vec::new();
    let mut rows = 0;
    while let Some(line) = records.read(&mut values).map_err(|broken| file.broken(broken))? {
        if rows == row {
            return Ok(Ok(line));
        }
        rows += 1;
    }
    Ok(Err(rows))
}

/// Returns the line of a row like [`csv_line`].
pub(super) fn json_line(file: &InputFile, row: u64) -> Result<Result<u64, u64>> {
    let mut lines = json_open(file)?;
    let mut rows = 0;
    while let Some((line, _)) = lines.next(file)? {
        if rows == row {
            return Ok(Ok(line));
        }
        rows += 1;
    }
    Ok(Err(rows))
}

/// The non-empty lines of a file, with their numbers.
struct Lines<R> {
    input: R,
    line: u64,
    buffer: String,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self, file: &InputFile) -> Result<Option<(u64, &str)>> {
        loop {
            self.buffer.clear();
            let read = self.input.read_line(&mut self.buffer).map_err(|cause| match cause.kind() {
                std::io::ErrorKind::InvalidData => file.at_line(self.line + 1, "the text is not UTF-8"),
                _ => failed(&file.path, "cannot be read", cause),
            })?;
            if read == 0 {
                return Ok(None);
            }
            self.line += 1;
            if !self.buffer.trim_start_matches('\u{feff}').trim().is_empty() {
                break;
            }
        }
        Ok(Some((self.line, self.buffer.trim_start_matches('\u{feff}').trim())))
    }
}

fn json_open(file: &InputFile) -> Result<Lines<impl BufRead + use<>>> {
    Ok(Lines { input: file.open()?, line: 0, buffer: String::new() })
}

fn object<'a>(file: &InputFile, line: u64, text: &'a str) -> Result<Members<'a>> {
    Members::parse(text).map_err(|cause| {
        let error = file.at_line(line, "the line is not a JSON object");
        if text.starts_with('[') {
            error.with_context("hint", "write one object per line, without an enclosing array")
        } else {
            error.with_source(cause)
        }
    })
}

pub(super) fn json_columns(file: &InputFile, known: &Schema) -> Result<SchemaRef> {
    let mut lines = json_open(file)?;
    let mut order: Vec<String> = Vec::new();
    // Known columns need no guessed type.
    let mut guesses: HashMap<String, Option<Guess>> = HashMap::new();
    while let Some((line, text)) = lines.next(file)? {
        for (name, raw) in object(file, line, text)?.0 {
            let guess = match guesses.get_mut(&name) {
                Some(guess) => guess,
                None => {
                    order.push(name.clone());
                    let guess = known.field_with_name(&name).is_err().then(Guess::default);
                    guesses.entry(name.clone()).or_insert(guess)
                }
            };
            if let Some(guess) = guess {
                let cell = Cell::of_json(raw)
                    .map_err(|refusal| file.at_line(line, refusal).with_context("column", &name))?;
                *guess = std::mem::take(guess).or(Guess::of_json(&cell));
            }
        }
    }
    let field = |name: &String| match &guesses[name] {
        None => known.field_with_name(name).cloned(),
        Some(guess) => Ok(Field::new(name, guess.column_type(name), true)),
    };
    let fields = order.iter().map(field).collect::<Result<_, _>>();
    text_schema(fields.map_err(|cause| file.at_line(1, "columns cannot be determined").with_source(cause))?)
        .map_err(|error| in_file(error, file))
}

fn in_file(error: Error, file: &InputFile) -> Error {
    error.with_context("file", file.path.display())
}

pub(super) fn json_batches<'a>(
    file: &'a InputFile,
    known: &Schema,
    progress: &'a dyn Fn(u64),
) -> Result<Batches<'a>> {
    let schema = json_columns(file, known)?;
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let mut lines = json_open(file)?;
    Ok(batches(Rows::new(schema)?, progress, move |rows| {
        let Some((line, text)) = lines.next(file)? else { return Ok(None) };
        let object = object(file, line, text)?;
        for (index, name) in names.iter().enumerate() {
            let cell = object.get(name).map_or(Ok(Cell::Null), Cell::of_json);
            cell.and_then(|cell| rows.append(index, &cell))
                .map_err(|refusal| file.at_line(line, refusal).with_context("column", name))?;
        }
        Ok(Some(text.len() as u64 + 1))
    }))
}

/// Collects the rows that `read` appends, one per call, into batches until there are no more rows or a call
/// fails. `read` returns the size of its row in bytes, or `None` at the end.
fn batches<'a>(
    mut rows: Rows,
    progress: &'a dyn Fn(u64),
    mut read: impl FnMut(&mut Rows) -> Result<Option<u64>> + 'a,
) -> Batches<'a> {
    let mut next = move || {
        let mut bytes = 0;
        while rows.rows < BATCH_ROWS && bytes < BATCH_BYTES {
            let Some(taken) = read(&mut rows)? else { break };
            bytes += taken;
            rows.rows += 1;
        }
        progress(bytes);
        if rows.rows == 0 { Ok(None) } else { rows.finish().map(Some) }
    };
    let mut over = false;
    Box::new(std::iter::from_fn(move || {
        if over {
            return None;
        }
        let batch = next().transpose();
        over = !matches!(batch, Some(Ok(_)));
        batch
    }))
}
