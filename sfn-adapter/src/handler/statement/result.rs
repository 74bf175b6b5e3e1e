//! The action `result`.

use base64::{Engine, prelude::BASE64_STANDARD};
use redshift_orchestrator::{Field, PageData, PageToken, StatementExecutor, StatementId};
use serde_json::{Value, json};

use crate::{
    Error, Invocation,
    contract::{
        VERSION,
        statement::{Column, ReadResult, ResultPage},
    },
};

/// Reads a page of the service, or the part of it that the event asks for.
pub(super) async fn read<E: StatementExecutor + ?Sized>(
    executor: &E,
    invocation: &Invocation,
    read: &ReadResult,
) -> Result<ResultPage, Error> {
    let id = StatementId::new(&read.id);
    let place = Place::parse(read.page.as_deref())?;
    let page = invocation.request(|| executor.result(&id, place.page.clone().map(PageToken::new))).await?;
    let columns = page.columns.iter();
    let columns = columns.map(|c| Column { name: c.name.clone(), type_name: c.type_name.clone() }).collect();
    let next_page = page.next.map(|next| Place { skip: 0, page: Some(next.as_str().to_owned()) });
    let mut reply = ResultPage {
        version: VERSION,
        id: id.to_string(),
        columns,
        rows: None,
        csv: None,
        total_rows: page.total_rows,
        next: None,
    };
    let mut next = next_page;
    match page.data {
        PageData::Csv(pieces) => reply.csv = Some(pieces.concat()),
        PageData::Records(rows) => {
            let end =
                read.max_rows.map_or(rows.len(), |most| place.skip.saturating_add(most.max(1) as usize));
            if end < rows.len() {
                next = Some(Place { skip: end, page: place.page });
            }
            let rows = rows.into_iter().take(end).skip(place.skip);
            reply.rows = Some(rows.map(|row| row.into_iter().map(value).collect()).collect());
        }
    }
    tracing::info!(statement_id = id.as_str(), rows = reply.rows.as_ref().map(Vec::len), "result read");
    reply.next = next.map(|place| place.to_string());
    Ok(reply)
}

/// Position of a row in a result: a page of the service, and the number of rows before it on that page.
struct Place {
    skip: usize,
    page: Option<String>,
}

impl Place {
    fn parse(text: Option<&str>) -> Result<Self, Error> {
        let Some(text) = text else { return Ok(Self { skip: 0, page: None }) };
        let place = text.split_once(':').and_then(|(skip, page)| Some((skip.parse().ok()?, page)));
        let Some((skip, page)) = place else {
            let text = "`page` is not valid; send the `next` of the previous page";
            return Err(Error::BadInput(text.to_owned()));
        };
        Ok(Self { skip, page: Some(page.to_owned()).filter(|page| !page.is_empty()) })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.skip, self.page.as_deref().unwrap_or_default())
    }
}

fn value(field: Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Boolean(value) => value.into(),
        Field::Long(value) => value.into(),
        // JSON can represent neither infinities nor NaN.
        Field::Double(value) if !value.is_finite() => value.to_string().into(),
        Field::Double(value) => json!(value),
        Field::String(value) => value.into(),
        Field::Blob(bytes) => BASE64_STANDARD.encode(bytes).into(),
    }
}
