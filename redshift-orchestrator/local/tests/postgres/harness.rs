//! A separate database for each test.

use std::{str::FromStr, time::Duration};

use redshift_data_local::{LocalExecutor, Postgres, PostgresBuilder};
use redshift_orchestrator::{
    Description, Field, PageData, Statement, StatementExecutor, StatementId, WaitTime,
};
use tokio_postgres::{Client, Config, NoTls};

/// A new database, and a connection to it that is independent of the executor.
pub(crate) struct Database {
    pub(crate) url: String,
    pub(crate) client: Client,
}

impl Database {
    pub(crate) async fn new(test: &str) -> Self {
        let server = std::env::var("REDSHIFT_ORCHESTRATOR_POSTGRES_URL").expect(
            "REDSHIFT_ORCHESTRATOR_POSTGRES_URL is not set; scripts/test starts a server and sets it",
        );
        let name = format!("{test}_{}", std::process::id());
        let admin = connect(&server).await;
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let config = Config::from_str(&server).unwrap();
        let host = match &config.get_hosts()[0] {
            tokio_postgres::config::Host::Tcp(host) => host.clone(),
            tokio_postgres::config::Host::Unix(path) => panic!("{path:?} is not a TCP address"),
        };
        let password =
            config.get_password().map(|password| format!(":{}", String::from_utf8_lossy(password)));
        let url = format!(
            "postgresql://{}{}@{host}:{}/{name}",
            config.get_user().unwrap_or("postgres"),
            password.unwrap_or_default(),
            config.get_ports().first().unwrap_or(&5432),
        );
        let client = connect(&url).await;
        client.batch_execute("CREATE TABLE effects (what text NOT NULL)").await.unwrap();
        Self { url, client }
    }

    pub(crate) fn service(&self) -> PostgresBuilder {
        LocalExecutor::postgres(&self.url)
    }

    pub(crate) async fn start(&self) -> LocalExecutor<Postgres> {
        self.service().start().await.unwrap()
    }

    /// Returns how many times `what` has taken effect.
    pub(crate) async fn effects(&self, what: &str) -> i64 {
        self.client.query_one("SELECT count(*) FROM effects WHERE what = $1", &[&what]).await.unwrap().get(0)
    }

    /// Waits until a query returns true.
    pub(crate) async fn until(&self, query: &str) {
        let become_true = async {
            while !self.client.query_one(query, &[]).await.unwrap().get::<_, Option<bool>>(0).unwrap_or(false)
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), become_true)
            .await
            .unwrap_or_else(|_| panic!("not true within 30 s: {query}"));
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Submits a statement and waits until it ends.
pub(crate) async fn run(service: &LocalExecutor<Postgres>, statement: &Statement) -> Description {
    let id = service.submit(statement, None).await.unwrap().id;
    ended(service, &id).await
}

/// Waits until a statement ends.
pub(crate) async fn ended(service: &LocalExecutor<Postgres>, id: &StatementId) -> Description {
    let description = service.describe(id, Some(WaitTime::MAX)).await.unwrap();
    assert!(description.status.is_terminal(), "{description:?}");
    description
}

/// Returns all rows of a result.
pub(crate) async fn rows(service: &LocalExecutor<Postgres>, id: &StatementId) -> Vec<Vec<Field>> {
    let (mut rows, mut page) = (Vec::new(), None);
    loop {
        let answer = service.result(id, page).await.unwrap();
        let PageData::Records(records) = answer.data else { panic!("not records") };
        rows.extend(records);
        page = answer.next;
        if page.is_none() {
            return rows;
        }
    }
}
