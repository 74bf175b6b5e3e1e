//! `catalog sync`, `catalog check`, `catalog ddl`, `catalog crawler`.

mod crawler;

use std::error::Error as _;

use hudi_scd::{
    Error, ErrorKind, TableOptions,
    glue::{self, CatalogError, GlueCatalog, Plan, RedshiftSchema, SyncOptions, SyncReport, aws_sdk_glue},
};
use serde_json::{Value, json};

use crate::{
    Context,
    args::catalog::{Catalog, CatalogCommand, Ddl, Registration, Service},
    failure::Failure,
    location::Location,
    progress::Progress,
};

pub(super) async fn run(context: Context, command: CatalogCommand) -> Result<(), Failure> {
    match command {
        CatalogCommand::Sync { args, dry_run, takeover } => sync(context, *args, dry_run, takeover).await,
        CatalogCommand::Check { args } => check(context, *args).await,
        CatalogCommand::Ddl(args) => ddl(context, *args).await,
        CatalogCommand::Crawler(command) => crawler::run(context, command).await,
    }
}

async fn sync(context: Context, args: Catalog, dry_run: bool, takeover: bool) -> Result<(), Failure> {
    let Catalog { registration, service } = args;
    let options = options(&registration)?.with_takeover(takeover);
    let (location, table) = super::open(context, &registration.target.table, TableOptions::new()).await?;
    let catalog = connect(service.endpoint_url.as_deref()).await?;
    let named = |error: Error| Failure::from(service.named(error)).of(&location);
    if dry_run {
        let reading = glue::read(&table, &catalog, &options).await.map_err(named)?;
        let plan = reading.plan().map_err(named)?;
        return super::tell(context, &plan, plan_report(&plan));
    }
    let report = {
        let _wheel = Progress::wheel(context, "synchronizing the catalog");
        glue::sync(&table, &catalog, &options).await.map_err(named)?
    };
    super::tell(context, &report, sync_report(&report))
}

async fn check(context: Context, args: Catalog) -> Result<(), Failure> {
    let Catalog { registration, service } = args;
    let options = options(&registration)?;
    let (location, table) = super::open(context, &registration.target.table, TableOptions::new()).await?;
    let catalog = connect(service.endpoint_url.as_deref()).await?;
    let plan = glue::check(&table, &catalog, &options).await;
    let plan = plan.map_err(|error| Failure::from(service.named(error)).of(&location))?;
    let differs = !plan.is_empty();
    let text = if differs {
        format!(
            "{}.{} differs from the table; catalog sync makes these changes, with --option \
             hoodie.meta.sync.incremental=false if they concern partitions that no commit touched since the last \
             sync: {plan}",
            plan.database, plan.table
        )
    } else {
        plan.to_string()
    };
    super::tell(context, text, plan_report(&plan))?;
    if differs { Err(Failure::Findings) } else { Ok(()) }
}

async fn ddl(context: Context, args: Ddl) -> Result<(), Failure> {
    let registration = &args.registration;
    let options = options(registration)?;
    let name = args.schema.as_ref().unwrap_or(&registration.database);
    let mut schema = RedshiftSchema::new(name, &registration.database);
    if let Some(role) = args.iam_role {
        schema = schema.with_iam_role(role);
    }
    if let Some(region) = args.region {
        schema = schema.with_region(region);
    }
    let (location, table) = super::open(context, &registration.target.table, TableOptions::new()).await?;
    let named = |error: Error| Failure::from(error).of(&location);
    let statements = match args.since {
        Some(since) => {
            let since = super::instant(&table, since)?;
            schema.changes(&table, &options, since).await.map_err(named)?
        }
        None => {
            let mut statements = vec![schema.statement().map_err(named)?];
            if args.create_table {
                statements.extend(schema.create_table(&table, &options).await.map_err(named)?);
            }
            statements
        }
    };
    let text = match statements.as_slice() {
        [] => "-- nothing changed".to_owned(),
        some => some.iter().map(|sql| format!("{sql};")).collect::<Vec<_>>().join("\n\n"),
    };
    super::tell(context, text, json!({ "statements": statements }))
}

/// Returns the options of the command line. The location is the table's own, unless readers use a different
/// one.
fn options(args: &Registration) -> Result<SyncOptions, Failure> {
    let location = match (&args.location, Location::parse(&args.target.table)?) {
        (Some(location), _) => match Location::parse(location)? {
            Location::S3 { .. } => location.clone(),
            Location::Folder(_) => {
                let message = format!(
                    "--location {location}: name the bucket and the folder, as in s3://bucket/lake/customer"
                );
                return Err(Failure::usage(message));
            }
        },
        (None, Location::S3 { url, .. }) => url,
        (None, Location::Folder(_)) => {
            return Err(Failure::usage(
                "readers of the catalog cannot reach a local folder: name the table's location with --location \
                 s3://bucket/folder",
            ));
        }
    };
    registered(SyncOptions::new(&args.database, location), args.table_name.as_deref(), &args.option)
}

/// Adds `--table-name` and each `--option`.
pub(super) fn registered(
    mut options: SyncOptions,
    table_name: Option<&str>,
    settings: &[String],
) -> Result<SyncOptions, Failure> {
    if let Some(name) = table_name {
        options = options.with_table(name);
    }
    for setting in settings {
        let Some((name, value)) = setting.split_once('=') else {
            return Err(Failure::usage(format!("--option {setting}: write it as KEY=VALUE")));
        };
        options = options.with_hudi_option(name, value)?;
    }
    Ok(options)
}

impl Service {
    /// Names the endpoint in the error of a call to the catalog.
    fn named(&self, error: Error) -> Error {
        let is_call = error.source().is_some_and(|source| source.is::<CatalogError>());
        match &self.endpoint_url {
            Some(url) if is_call => error.with_context("endpoint", url),
            _ => error,
        }
    }
}

/// Connects with the credentials that AWS's own tools use: variables, profiles, single sign-on, roles.
async fn connect(endpoint: Option<&str>) -> Result<GlueCatalog, Failure> {
    let is_url = |text: &str| text.starts_with("http://") || text.starts_with("https://");
    if let Some(endpoint) = endpoint.filter(|endpoint| !is_url(endpoint)) {
        let message = format!("--endpoint-url {endpoint}: write it as https://host or http://host:port");
        return Err(Failure::usage(message));
    }
    let found = aws_config::load_from_env().await;
    if found.region().is_none() {
        let message =
            "there is no region for the Glue catalog: set AWS_REGION, or a region in the AWS profile";
        return Err(Error::new(ErrorKind::Storage, message).into());
    }
    let mut config = aws_sdk_glue::config::Builder::from(&found);
    if let Some(endpoint) = endpoint {
        config = config.endpoint_url(endpoint);
    }
    Ok(GlueCatalog::new(aws_sdk_glue::Client::from_conf(config.build())))
}

fn plan_report(plan: &Plan) -> Value {
    let values = |inputs: &[glue::aws_sdk_glue::types::PartitionInput]| -> Vec<Vec<String>> {
        inputs.iter().map(|input| input.values().to_vec()).collect()
    };
    json!({
        "table": format!("{}.{}", plan.database, plan.table),
        "up_to_date": plan.is_empty(),
        "creates_table": !matches!(plan.change, glue::TableChange::Keep),
        "differences": plan.differences,
        "create_partitions": values(&plan.create),
        "update_partitions": values(&plan.update),
        "drop_partitions": plan.delete,
    })
}

fn sync_report(report: &SyncReport) -> Value {
    json!({
        "table": report.table,
        "created": report.created,
        "changes": report.changes,
        "partitions_created": report.partitions_created,
        "partitions_updated": report.partitions_updated,
        "partitions_dropped": report.partitions_dropped,
        "attempts": report.attempts,
    })
}
