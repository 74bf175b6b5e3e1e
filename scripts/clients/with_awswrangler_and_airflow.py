"""awswrangler and Airflow against the emulator. Usage: with_awswrangler_and_airflow.py PROGRAM POSTGRESQL_URL"""

import importlib.metadata
import os
import sys
import tempfile
import time
import unittest.mock

from with_boto3 import connect, emulator, file

KEYS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "eu-west-1"}


def awswrangler_reads(table):
    import awswrangler
    import boto3

    with awswrangler.data_api.redshift.connect(
        cluster_id="dwh", database="dev", db_user="loader", boto3_session=boto3.Session(), sleep=0.05
    ) as connection:
        def read(sql, **arguments):
            return awswrangler.data_api.redshift.read_sql_query(sql, con=connection, **arguments)

        frame = read(f"SELECT id, name, price FROM {table} WHERE id <= :high ORDER BY id",
                     parameters=[{"name": "high", "value": "1500"}])
        assert frame.shape == (1500, 3), "more than one page"
        assert list(frame.columns) == ["id", "name", "price"] and frame["id"].tolist() == list(range(1, 1501))
        assert frame["price"].iloc[6] == "7.50" and frame["name"].isna().sum() == 150
        assert read(f"UPDATE {table} SET name = 'x' WHERE id = 1").empty
        try:
            read("SELECT 1 / 0")
        except awswrangler.data_api.redshift.RedshiftDataApiFailedException as error:
            assert "division by zero" in str(error), error
        else:
            raise AssertionError("it did not fail")
    print(f"awswrangler {awswrangler.__version__}: all pages, parameters, failure")


def airflow_runs(url, table, home):
    os.environ["AIRFLOW_HOME"] = home
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
    from airflow.providers.amazon.aws.hooks.redshift_data import RedshiftDataHook
    from airflow.providers.amazon.aws.operators.redshift_data import RedshiftDataOperator

    place = {"cluster_identifier": "dwh", "database": "dev"}
    hook = RedshiftDataHook(aws_conn_id=None)
    done = hook.execute_query(sql=f"UPDATE {table} SET name = 'y' WHERE id = 2", poll_interval=1, with_event=True, **place)
    assert hook.conn.describe_statement(Id=done.statement_id)["ResultRows"] == 1
    try:
        hook.execute_query(sql="SELECT 1 / 0", poll_interval=1, **place)
    except Exception as error:
        assert type(error).__name__ == "RedshiftDataQueryFailedError" and "division by zero" in str(error), error
    else:
        raise AssertionError("it did not fail")

    context = {"ti": unittest.mock.MagicMock()}

    def operator(**arguments):
        return RedshiftDataOperator(
            task_id="load", aws_conn_id=None, poll_interval=1, return_sql_result=True, durable=False, **place, **arguments
        )

    (result,) = operator(sql=f"SELECT count(*) FROM {table} WHERE name = 'y'").execute(context)
    assert result["Records"] == [[{"longValue": 1}]], result
    batch = operator(sql=["SELECT 1", "SELECT 2"]).execute(context)
    assert [result["Records"] for result in batch] == [[[{"longValue": 1}]], [[{"longValue": 2}]]], batch

    killed = operator(sql="SELECT pg_sleep(600)", wait_for_completion=False)
    killed.return_sql_result = False
    killed.execute(context)
    killed.on_kill()
    client = connect(url, retries={"total_max_attempts": 10, "mode": "standard"})
    assert client.describe_statement(Id=killed.statement_id, WaitTimeSeconds=20)["Status"] == "ABORTED"
    version = importlib.metadata.version("apache-airflow-providers-amazon")
    print(f"Airflow {importlib.metadata.version('apache-airflow')}, amazon provider {version}: hook, operator, batch, kill")


FAULTS = """
seed = 4
[[fault]]
fault = "throttle"
rate = 0.1
[[fault]]
fault = "lost reply"
operation = "ExecuteStatement"
rate = 0.2
[[fault]]
fault = "delay"
delay = "20ms"
rate = 0.2
"""


def main(program, postgres):
    os.environ.update(KEYS)
    run_all(program, "--postgres", postgres)
    # The same calls on an unreliable network: the SDK's own retries succeed, with the token that it creates
    # for each call.
    os.environ.update({"AWS_MAX_ATTEMPTS": "10", "AWS_RETRY_MODE": "standard"})
    with file(FAULTS) as faults:
        run_all(program, "--postgres", postgres, "--faults", faults)


def run_all(program, *arguments):
    with emulator(program, *arguments) as url:
        # The complete configuration of these clients.
        os.environ["AWS_ENDPOINT_URL_REDSHIFT_DATA"] = url
        client = connect(url, retries={"total_max_attempts": 10, "mode": "standard"})
        schema = f"clients_{time.time_ns()}"

        def run(sql):
            done = client.execute_statement(Sql=sql, WaitTimeSeconds=20, ClusterIdentifier="dwh", Database="dev")
            assert done["Status"] == "FINISHED", client.describe_statement(Id=done["Id"])

        run(f"CREATE SCHEMA {schema}")
        run(f"CREATE TABLE {schema}.item (id int PRIMARY KEY, name varchar(20), price numeric(10, 2))")
        run(f"INSERT INTO {schema}.item SELECT n, CASE WHEN n % 10 <> 0 THEN 'n' || n END, n + 0.5 FROM generate_series(1, 2000) AS n")
        awswrangler_reads(f"{schema}.item")
        with tempfile.TemporaryDirectory() as home:
            airflow_runs(url, f"{schema}.item", home)
        run(f"DROP SCHEMA {schema} CASCADE")


if __name__ == "__main__":
    main(*sys.argv[1:])
