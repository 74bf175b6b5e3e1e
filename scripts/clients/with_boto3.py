"""boto3 against the emulator: every operation, paginators, errors. Usage: with_boto3.py PROGRAM [POSTGRESQL_URL]"""

import contextlib
import datetime
import signal
import subprocess
import sys
import tempfile
import threading
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ParamValidationError

SCRIPT = """
limits = { rows_per_page = 2, active_statements = 50, waiters_per_statement = 1 }

[[statement]]
contains = "SELECT"
takes = "50ms"
columns = [
    { name = "id", type = "int4", nullable = false }, { name = "name", type = "varchar" },
    { name = "photo", type = "varbyte" }, { name = "weight", type = "float8" }, { name = "sold", type = "bool" },
]
result = [
    [1, "one", { bytes = [0, 255] }, 0.1, true],
    [2, { null = true }, { null = true }, { null = true }, false],
    [3, "", { bytes = [] }, -1.5, true],
]

[[statement]]
contains = "UPDATE"
rows = 3

[[statement]]
contains = "CALL broken"
fails = 'ERROR: relation "nowhere" does not exist'

[[statement]]
contains = "CALL slow"
takes = "10m"

[[table]]
schema = "mystore"
name = "dim_item"
columns = [{ name = "id", type = "int4", nullable = false, length = 4 }, { name = "name", type = "varchar", default = "''" }]

[[table]]
schema = "mystore"
name = "v_item"
kind = "VIEW"

[[table]]
schema = "public"
name = "note"
"""

PLACE = {"ClusterIdentifier": "dwh", "Database": "dev"}


@contextlib.contextmanager
def emulator(program, *arguments):
    """Starts the program, and yields its URL; the program must exit cleanly when it is terminated."""
    with subprocess.Popen([program, "--listen", "127.0.0.1:0", *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("listening on http://127.0.0.1:"), line
            yield line.split()[-1]
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=10) == 0
        finally:
            process.kill()


@contextlib.contextmanager
def file(text):
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as temporary:
        temporary.write(text)
        temporary.flush()
        yield temporary.name


def connect(url, **options):
    config = Config(**{"retries": {"total_max_attempts": 1}, "read_timeout": 40, "max_pool_connections": 20, **options})
    credentials = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}
    return boto3.client("redshift-data", endpoint_url=url, region_name="eu-west-1", config=config, **credentials)


@contextlib.contextmanager
def refused(client, name, *, text="", status=400):
    """Asserts that the block fails with exactly this exception of the client."""
    try:
        yield
    except ClientError as error:
        answer = error.response
        assert answer["Error"]["Code"] == name, answer
        assert text in answer["Error"]["Message"], answer
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == status, answer
        assert len(answer["ResponseMetadata"]["RequestId"]) == 36, answer
        modelled = getattr(client.exceptions, name, None) if hasattr(client.exceptions, name) else None
        assert modelled is None or isinstance(error, modelled), type(error)
    else:
        raise AssertionError(f"not refused: {name}")


def statements(client):
    submitted = client.execute_statement(
        Sql="SELECT * FROM item WHERE id >= :low", Parameters=[{"name": "low", "value": "1"}], StatementName="items",
        DbUser="loader", WithEvent=True, WaitTimeSeconds=10, **PLACE,
    )
    assert submitted["Status"] == "FINISHED" and submitted["HasResultSet"] is True, submitted
    assert (submitted["ClusterIdentifier"], submitted["Database"], submitted["DbUser"]) == ("dwh", "dev", "loader")
    assert abs(submitted["CreatedAt"] - datetime.datetime.now(datetime.timezone.utc)) < datetime.timedelta(minutes=1)

    described = client.describe_statement(Id=submitted["Id"])
    assert described["Status"] == "FINISHED" and described["ResultRows"] == 3, described
    assert described["Duration"] >= 50_000_000 and described["ResultSize"] > 0, described
    assert described["QueryString"].startswith("SELECT") and described["ResultFormat"] == "JSON", described
    assert described["QueryParameters"] == [{"name": "low", "value": "1"}], described

    pages = list(client.get_paginator("get_statement_result").paginate(Id=submitted["Id"]))
    assert [len(page["Records"]) for page in pages] == [2, 1] and pages[0]["TotalNumRows"] == 3
    column = pages[1]["ColumnMetadata"][0]
    assert (column["name"], column["label"], column["typeName"], column["nullable"]) == ("id", "id", "int4", 0), column
    assert [record for page in pages for record in page["Records"]] == [
        [{"longValue": 1}, {"stringValue": "one"}, {"blobValue": b"\x00\xff"}, {"doubleValue": 0.1}, {"booleanValue": True}],
        [{"longValue": 2}, {"isNull": True}, {"isNull": True}, {"isNull": True}, {"booleanValue": False}],
        [{"longValue": 3}, {"stringValue": ""}, {"blobValue": b""}, {"doubleValue": -1.5}, {"booleanValue": True}],
    ]

    csv = client.execute_statement(Sql="SELECT 1", ResultFormat="CSV", WorkgroupName="my-workgroup", Database="dev")
    assert "Status" not in csv and csv["WorkgroupName"] == "my-workgroup", csv
    assert client.get_statement_result_v2(Id=csv["Id"], WaitTimeSeconds=10)["ResultFormat"] == "CSV"
    result = client.get_paginator("get_statement_result_v2").paginate(Id=csv["Id"]).build_full_result()
    text = "".join(record["CSVRecords"] for record in result["Records"])
    assert text.splitlines() == ["id,name,photo,weight,sold", "1,one,00ff,0.1,true", "2,,,,false", '3,"","",-1.5,true'], text
    with refused(client, "ValidationException", text="GetStatementResultV2"):
        client.get_statement_result(Id=csv["Id"])

    batch = client.batch_execute_statement(
        Sqls=["UPDATE a", "CALL broken()", "SELECT 1"], ExecutionMode="AUTO_COMMIT", WaitTimeSeconds=10,
        SecretArn="arn:aws:secretsmanager:eu-west-1:111122223333:secret:dwh", **PLACE,
    )
    assert batch["Status"] == "FAILED", batch
    described = client.describe_statement(Id=batch["Id"])
    assert [sub["Status"] for sub in described["SubStatements"]] == ["FINISHED", "FAILED", "FINISHED"], described
    assert described["SubStatements"][1]["Error"] == 'ERROR: relation "nowhere" does not exist', described
    assert described["ExecutionMode"] == "AUTO_COMMIT" and described["SecretArn"].endswith(":dwh"), described
    assert len(client.get_statement_result(Id=described["SubStatements"][2]["Id"])["Records"]) == 2

    twice = [client.execute_statement(Sql="UPDATE a", ClientToken="run/step/1", **PLACE)["Id"] for _ in range(2)]
    assert twice[0] == twice[1]

    slow = client.execute_statement(Sql="CALL slow()", WaitTimeSeconds=1, **PLACE)
    assert slow["Status"] == "STARTED", slow
    with refused(client, "ResourceNotFoundException"):
        client.get_statement_result(Id=slow["Id"], WaitTimeSeconds=1)
    assert client.cancel_statement(Id=slow["Id"])["Status"] is True
    assert client.describe_statement(Id=slow["Id"], WaitTimeSeconds=10)["Status"] == "ABORTED"
    with refused(client, "ValidationException", text="already in ABORTED state"):
        client.cancel_statement(Id=slow["Id"])


def listings(client):
    def listed(**filters):
        pages = client.get_paginator("list_statements").paginate(**filters, PaginationConfig={"PageSize": 2})
        return [data for page in pages for data in page["Statements"]]

    assert {data["Status"] for data in listed()} == {"FINISHED"}
    assert {data["Status"] for data in listed(Status="ALL")} == {"FINISHED", "FAILED", "ABORTED"}
    (batch,) = listed(Status="FAILED")
    assert batch["IsBatchStatement"] and batch["QueryStrings"][1] == "CALL broken()", batch
    (items,) = listed(StatementName="ite")
    assert items["QueryString"].startswith("SELECT") and items["StatementName"] == "items", items
    assert len(listed(WorkgroupName="my-workgroup", Status="ALL")) == 1
    assert listed(ClusterIdentifier="dwh", Database="other", Status="ALL", RoleLevel=False) == []

    assert client.list_databases(**PLACE)["Databases"] == ["dev"]
    assert client.get_paginator("list_schemas").paginate(**PLACE).build_full_result()["Schemas"] == ["mystore", "public"]
    tables = client.get_paginator("list_tables").paginate(
        SchemaPattern="my%", TablePattern="%_item", **PLACE, PaginationConfig={"PageSize": 1}
    ).build_full_result()["Tables"]
    assert [(table["schema"], table["name"], table["type"]) for table in tables] == [
        ("mystore", "dim_item", "TABLE"), ("mystore", "v_item", "VIEW"),
    ], tables
    table = client.get_paginator("describe_table").paginate(Schema="mystore", Table="dim_item", **PLACE).build_full_result()
    assert table["TableName"] == "dim_item" and [c["name"] for c in table["ColumnList"]] == ["id", "name"], table
    assert table["ColumnList"][1]["columnDefault"] == "''", table
    opened = client.execute_statement(Sql="UPDATE a", SessionKeepAliveSeconds=60, WaitTimeSeconds=10, **PLACE)
    again = client.batch_execute_statement(Sqls=["UPDATE a", "SELECT 1"], SessionId=opened["SessionId"], WaitTimeSeconds=10)
    assert (again["Status"], again["SessionId"], again["Database"]) == ("FINISHED", opened["SessionId"], "dev"), again
    (session,) = client.get_paginator("list_sessions").paginate(Status="AVAILABLE").build_full_result()["Sessions"]
    assert (session["SessionId"], session["Status"], session["SessionAliveSeconds"]) == (opened["SessionId"], "AVAILABLE", 60)


def errors(client, url):
    unknown = "d9b6c0c9-0747-4bf4-b142-e8883122f766"
    for call in (client.describe_statement, client.get_statement_result, client.get_statement_result_v2, client.cancel_statement):
        with refused(client, "ResourceNotFoundException"):
            call(Id=unknown)
    try:
        client.describe_statement(Id=unknown)
    except client.exceptions.ResourceNotFoundException as error:
        assert error.response["ResourceId"] == unknown, error.response
    with refused(client, "ValidationException", text="Value 'not-an-id' at 'id' failed to satisfy constraint"):
        client.describe_statement(Id="not-an-id")
    with refused(client, "ValidationException", text="must be specified"):
        client.execute_statement(Sql="SELECT 1")
    with refused(client, "ValidationException"):
        client.execute_statement(Sql="SELECT 1; SELECT 2", **PLACE)
    with refused(client, "ValidationException", text="Only one of"):
        client.list_statements(ClusterIdentifier="dwh", WorkgroupName="my-workgroup")
    # boto3's own checks are repeated here.
    unchecked = connect(url, parameter_validation=False)
    for arguments, text in (
        ({"Sqls": [], **PLACE}, "Value '[0 entries]' at 'sqls'"),
        ({"Sqls": ["SELECT 1"] * 41, **PLACE}, "less than or equal to 40"),
        ({"Sqls": ["SELECT 1"], "WaitTimeSeconds": 31, **PLACE}, "less than or equal to 30"),
        ({"Sqls": ["SELECT 1"], "ExecutionMode": "MAYBE", **PLACE}, "[TRANSACTION, AUTO_COMMIT]"),
        ({**PLACE}, "Value null at 'sqls'"),
    ):
        with refused(unchecked, "ValidationException", text=text):
            unchecked.batch_execute_statement(**arguments)
    with refused(unchecked, "SerializationException"):
        unchecked.list_statements(MaxResults="ten")
    try:
        client.execute_statement(**PLACE)
    except ParamValidationError:
        pass

    slow = client.execute_statement(Sql="CALL slow()", **PLACE)["Id"]
    held = threading.Thread(target=client.describe_statement, kwargs={"Id": slow, "WaitTimeSeconds": 2})
    held.start()
    time.sleep(0.5)
    with refused(client, "ActiveWaitingRequestsExceededException"):
        client.describe_statement(Id=slow, WaitTimeSeconds=2)
    held.join()
    running = [client.execute_statement(Sql="CALL slow()", **PLACE)["Id"] for _ in range(49)]
    with refused(client, "ActiveStatementsExceededException"):
        client.execute_statement(Sql="SELECT 1", **PLACE)
    for statement in [slow, *running]:
        client.cancel_statement(Id=statement)


def faults(client):
    """A throttled request raises its own error, and a lost reply is a connection closed after the effect."""
    with refused(client, "ThrottlingException"):
        client.describe_statement(Id="d9b6c0c9-0747-4bf4-b142-e8883122f766")
    try:
        client.execute_statement(Sql="UPDATE a", **PLACE)
    except ConnectionClosedError:
        pass
    else:
        raise AssertionError("the reply was not lost")
    assert len(client.list_statements(Status="ALL")["Statements"]) == 1


def real_sql(client):
    def run(sql, **arguments):
        done = client.execute_statement(Sql=sql, WaitTimeSeconds=20, **arguments, **PLACE)
        assert done["Status"] == "FINISHED", client.describe_statement(Id=done["Id"])
        return done["Id"]

    schema = f"boto3_{time.time_ns()}"
    run(f"CREATE SCHEMA {schema}")
    run(f"CREATE TABLE {schema}.item (id int PRIMARY KEY, name varchar(20) DEFAULT 'none', price numeric(10, 2))")
    insert = run(f"INSERT INTO {schema}.item VALUES (:id::int, :name, 9.90)",
                 Parameters=[{"name": "id", "value": "1"}, {"name": "name", "value": "o'ne"}])
    assert client.describe_statement(Id=insert)["ResultRows"] == 1
    rows = client.get_statement_result(Id=run(f"SELECT id, name, price, NULL AS nothing FROM {schema}.item"))
    assert rows["Records"] == [[{"longValue": 1}, {"stringValue": "o'ne"}, {"stringValue": "9.90"}, {"isNull": True}]], rows
    failed = client.execute_statement(Sql="SELECT 1 / 0", WaitTimeSeconds=20, **PLACE)
    assert "division by zero" in client.describe_statement(Id=failed["Id"])["Error"]
    nap = client.execute_statement(Sql="SELECT pg_sleep(600)", **PLACE)["Id"]
    while client.describe_statement(Id=nap)["Status"] != "STARTED":
        time.sleep(0.05)
    assert client.cancel_statement(Id=nap)["Status"] is True
    assert client.describe_statement(Id=nap, WaitTimeSeconds=20)["Status"] == "ABORTED"

    opened = run("CREATE TEMPORARY TABLE mine (n int)", SessionKeepAliveSeconds=60)
    session = client.describe_statement(Id=opened)["SessionId"]
    kept = client.execute_statement(Sql="SELECT count(*) FROM mine", SessionId=session, WaitTimeSeconds=20)
    assert kept["Status"] == "FINISHED", client.describe_statement(Id=kept["Id"])

    assert "postgres" in client.list_databases(**PLACE)["Databases"]
    assert client.list_schemas(SchemaPattern="boto3\\_%", **PLACE)["Schemas"].count(schema) == 1
    (table,) = client.list_tables(SchemaPattern=schema, **PLACE)["Tables"]
    assert (table["name"], table["type"]) == ("item", "TABLE"), table
    columns = client.describe_table(Schema=schema, Table="item", **PLACE)["ColumnList"]
    assert [(c["name"], c["typeName"], c["nullable"]) for c in columns] == [
        ("id", "int4", 0), ("name", "varchar", 1), ("price", "numeric", 1),
    ], columns
    assert (columns[2]["precision"], columns[2]["scale"], columns[1]["length"]) == (10, 2, 20), columns
    assert columns[1]["columnDefault"].startswith("'none'"), columns
    run(f"DROP SCHEMA {schema} CASCADE")
    return insert, session


def main(program, postgres=None):
    with file(SCRIPT) as script, emulator(program, "--scripted", script) as url:
        client = connect(url)
        statements(client)
        listings(client)
        errors(client, url)
    lost = """
        seed = 1
        [[fault]]
        fault = "lost reply"
        operation = "ExecuteStatement"
        rate = 1.0
        [[fault]]
        fault = "throttle"
        operation = "DescribeStatement"
        rate = 1.0
    """
    with file(SCRIPT) as script, file(lost) as lost, emulator(program, "--scripted", script, "--faults", lost) as url:
        faults(connect(url))
    print(f"boto3 {boto3.__version__}: scripted: 12 operations, paginators, errors, faults")
    if postgres:
        with emulator(program, "--postgres", postgres) as url:
            insert, session = real_sql(connect(url))
        # The records are in the database, so a restart keeps them.
        with emulator(program, "--postgres", postgres) as url:
            client = connect(url)
            described = client.describe_statement(Id=insert)
            assert (described["Status"], described["ResultRows"]) == ("FINISHED", 1), described
            assert (described["ClusterIdentifier"], described["Database"]) == ("dwh", "dev"), described
            # A session ends with its connection, and its id remains known.
            (closed,) = client.list_sessions(SessionId=session)["Sessions"]
            assert (closed["Status"], closed["SessionAliveSeconds"]) == ("CLOSED", 60), closed
            with refused(client, "ValidationException", text="Session is not available"):
                client.execute_statement(Sql="SELECT 1", SessionId=session)
        print(f"boto3 {boto3.__version__}: PostgreSQL: SQL, cancel, catalog, restart")


if __name__ == "__main__":
    main(*sys.argv[1:])
