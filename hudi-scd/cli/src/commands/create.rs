//! `create`.

use std::io::Write;

use arrow::datatypes::Schema;
use hudi_scd::{
    Codec, RetentionPolicy, TableDefinition,
    input::Input,
    scd::{Scd2, Scd2Table},
    schema,
};
use serde_json::json;

use crate::{
    Context,
    args::{Create, HistoryColumns},
    failure::Failure,
    location::Location,
    output, schema_file,
};

pub(super) async fn run(context: Context, args: Create) -> Result<(), Failure> {
    let location = Location::parse(&args.target.table)?;
    let schema = match (&args.schema, &args.like) {
        (Some(file), _) => schema_file::read(file)?,
        (None, Some(file)) => schema::canonical(&*Input::open(file)?.schema(&Schema::empty())?)?,
        (None, None) => return Err(Failure::usage("the columns are missing: give --schema or --like")),
    };
    let mut definition = if args.scd2 {
        let history =
            history(&args.record_key, args.ordering_field.as_deref().unwrap_or_default(), args.history);
        Scd2Table::definition_of(&args.name, &history, &schema)?
    } else {
        let definition = TableDefinition::new(&args.name, schema, args.record_key);
        match args.ordering_field {
            Some(field) => definition.with_ordering_field(field),
            None => definition,
        }
    };
    definition = definition
        .with_partition_fields(args.partition_by)
        .with_hive_style_partitioning(!args.no_hive_style)
        .with_url_encoding(args.url_encode)
        .with_database(args.database.unwrap_or_default());
    if let Some(commits) = args.retain_commits {
        definition = definition.with_retention(RetentionPolicy::commits(commits));
    }
    if let Some(codec) = args.codec.as_deref().and_then(Codec::parse) {
        definition = definition.with_codec(codec);
    }
    let created = location.create(definition).await;
    let table = created.map_err(|error| Failure::from(error).of(&location))?;
    let mut out = output::stdout();
    if context.json {
        let kind = if args.scd2 { 2 } else { 1 };
        writeln!(out, "{}", json!({ "table": table.name(), "location": location.to_string(), "scd": kind }))?;
    } else {
        writeln!(out, "created {} at {location}", table.name())?;
    }
    Ok(out.flush()?)
}

fn history(keys: &[String], sequence: &str, columns: HistoryColumns) -> Scd2 {
    let HistoryColumns { track, track_all_but, delete_marker, valid_from, valid_to, is_current } = columns;
    let mut history = Scd2::new(keys, sequence).with_names(valid_from, valid_to, is_current);
    if !track.is_empty() {
        history = history.track(track);
    } else if !track_all_but.is_empty() {
        history = history.track_all_but(track_all_but);
    }
    match delete_marker {
        Some(column) => history.with_delete_marker(column),
        None => history,
    }
}
