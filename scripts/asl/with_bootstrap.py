"""Runs the Lambda executable on MiniStack, in the reference machine and in generated ones, on a database that counts.

    with_bootstrap.py PYTHON DIRECTORY BOOTSTRAP EMULATOR POSTGRES REFERENCE MYSTORE HUDI_SCD S3

PYTHON is the interpreter with MiniStack, DIRECTORY has the generated definitions, BOOTSTRAP, EMULATOR, MYSTORE and HUDI_SCD are
executables, POSTGRES is the URL of a database, REFERENCE the machine of the reference solution, and S3 the URL of a server on
this machine that accepts any credentials.
"""
import io
import json
import re
import subprocess
import sys
import tempfile
import time
import uuid
import zipfile
from pathlib import Path

import boto3

from servers import KEYS, check, emulator, ministack

HERE = Path(__file__).parent
PLACE = {"WorkgroupName": "analytics", "Database": "dev"}
TABLES = """
DROP SCHEMA IF EXISTS counted CASCADE;
CREATE SCHEMA counted;
CREATE TABLE counted.runs (name varchar(20));
CREATE TABLE counted.state (broken boolean);
INSERT INTO counted.state VALUES (false);
CREATE PROCEDURE counted.ok(day text) LANGUAGE plpgsql AS $$ BEGIN INSERT INTO counted.runs VALUES ('ok'); END $$;
CREATE PROCEDURE counted.load() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO counted.runs VALUES ('load'); END $$;
CREATE PROCEDURE counted.slow() LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); END $$;
CREATE PROCEDURE counted.fails_if_broken() LANGUAGE plpgsql AS $$ BEGIN
    IF (SELECT broken FROM counted.state) THEN RAISE EXCEPTION 'column "discount" does not exist'; END IF;
    INSERT INTO counted.runs VALUES ('repaired');
END $$
"""


def packed(bootstrap):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr, entry.compress_type = 0o755 << 16, zipfile.ZIP_DEFLATED
        file.writestr(entry, Path(bootstrap).read_bytes())
    return archive.getvalue()


class Stand:
    """The interpreter with its functions, and the database behind them."""

    def __init__(self, interpreter, service, control, archive):
        self.machines = boto3.client("stepfunctions", endpoint_url=interpreter, **KEYS)
        self.functions = boto3.client("lambda", endpoint_url=interpreter, **KEYS)
        self.database = boto3.client("redshift-data", endpoint_url=service, **KEYS)
        self.interpreter, self.service, self.control = interpreter, service, control
        # The service keeps records for 24 hours.
        self.earlier = {call["Id"] for call in self.all_calls()}
        self.known = set(self.earlier)
        self.archive = archive
        self.sql(TABLES)

    def function(self, name, handler, procedure="", **more):
        variables = {"SFN_ADAPTER_HANDLER": handler, "REGION": "us-east-1", "WORKGROUP_NAME": "analytics",
                     "DATABASE": "dev", "SCHEMA": "counted", "PROCEDURE": procedure,
                     "SECRET_ARN": "arn:aws:secretsmanager:us-east-1:123456789012:secret:dwh", "AWS_ACCESS_KEY_ID": "x",
                     "AWS_SECRET_ACCESS_KEY": "y", "AWS_ENDPOINT_URL_REDSHIFT_DATA": self.service,
                     "AWS_ENDPOINT_URL_SFN": self.interpreter, **more}
        self.functions.create_function(
            FunctionName=name, Runtime="provided.al2023", Handler="bootstrap", Code={"ZipFile": self.archive}, Timeout=30,
            Role="arn:aws:iam::123456789012:role/r", Environment={"Variables": variables})
        return f"arn:aws:lambda:us-east-1:123456789012:function:{name}"

    def machine(self, name, definition):
        return self.machines.create_state_machine(
            name=name, definition=definition, roleArn="arn:aws:iam::123456789012:role/r")["stateMachineArn"]

    def sql(self, text):
        statement = self.database.batch_execute_statement(**PLACE, Sqls=split(text))["Id"]
        for _ in range(300):
            found = self.database.describe_statement(Id=statement)
            if found["Status"] in ["FINISHED", "FAILED", "ABORTED"]:
                check(text, found["Status"] == "FINISHED", found.get("Error"))
                return statement
            time.sleep(0.05)
        raise SystemExit(f"{text} does not end")

    def rows(self, text):
        """The rows of a query as texts."""
        statement = self.sql(f"{text}; SELECT 1")
        records = self.database.get_statement_result(Id=f"{statement}:1")["Records"]
        return [[str(next(iter(field.values()))) for field in record] for record in records]

    def runs(self):
        """The number of calls since the last question. Those that finished have each left a row in the database."""
        calls = self.all_calls()
        statement = self.sql("SELECT count(*) FROM counted.runs; SELECT 1")
        rows = self.database.get_statement_result(Id=f"{statement}:1")["Records"][0][0]["longValue"]
        finished = [call for call in calls if call["Status"] == "FINISHED" and call["Id"] not in self.earlier]
        check("rows in the database", rows == len(finished), (rows, calls))
        new = {call["Id"] for call in calls} - self.known
        self.known |= new
        return len(new)

    def all_calls(self):
        pages = self.database.get_paginator("list_statements").paginate(Status="ALL")
        return [s for page in pages for s in page["Statements"] if s.get("QueryString", "").startswith("CALL counted.")]

    def order(self, **orders):
        self.control.write_text(json.dumps(orders))

    def start(self, machine, given, name=None):
        given = json.dumps(given)
        return self.machines.start_execution(stateMachineArn=machine, input=given, name=name or uuid.uuid4().hex)["executionArn"]

    def end(self, execution):
        for _ in range(600):
            found = self.machines.describe_execution(executionArn=execution)
            if found["status"] != "RUNNING":
                return found
            time.sleep(0.05)
        raise SystemExit(f"{execution} does not end")

    def run(self, machine, given, name=None):
        return self.end(self.start(machine, given, name))


def split(text):
    """Statements of a script, whose bodies end with `$$`."""
    parts, inside, current = [], False, ""
    for piece in text.split(";"):
        current += piece
        inside ^= piece.count("$$") % 2 == 1
        if not inside:
            parts.append(current.strip())
            current = ""
        else:
            current += ";"
    return [part for part in parts if part]


def scheduled():
    return {"version": "0", "id": str(uuid.uuid4()), "detail-type": "Scheduled Event", "source": "aws.events", "detail": {}}


def try_reference(stand, reference):
    """The machine of the reference solution, unchanged but for the function's name."""
    def machine(procedure):
        name = f"reference-{procedure.replace('_', '-')}"
        function = stand.function(name, "redshift", procedure)
        text = Path(reference).read_text().replace("arn:aws:lambda:us-east-1:123456789012:function:dwh-loader", function)
        return stand.machine(name, text)

    load = machine("load")
    found = stand.run(load, scheduled())
    check("reference, success", found["status"] == "SUCCEEDED" and stand.runs() == 1, found)
    stand.order(lose=1)
    found = stand.run(load, scheduled())
    check("reference, lost reply", found["status"] == "SUCCEEDED", found)
    runs = stand.runs()
    check("reference, lost reply: the procedure runs once", runs == 1, runs)

    stand.sql("UPDATE counted.state SET broken = true")
    found = stand.run(machine("fails_if_broken"), {})
    check("reference, failure", found["status"] == "FAILED" and stand.runs() == 1, found)
    stand.sql("UPDATE counted.state SET broken = false")

    execution = stand.start(machine("slow"), {})
    for _ in range(200):
        running = [s for s in stand.database.list_statements(Status="STARTED")["Statements"] if "slow" in s["QueryString"]]
        if running:
            break
        time.sleep(0.05)
    check("reference, cancel", running, "the statement does not start")
    stand.database.cancel_statement(Id=running[0]["Id"])
    found = stand.end(execution)
    check("reference, ABORTED ends the machine", found["status"] == "FAILED" and stand.runs() == 1, found)


def try_lambda(stand, directory, language):
    """The generated form `lambda`."""
    def machine(name):
        text = (Path(directory) / f"{name}-lambda-{language}.json").read_text()
        return stand.machine(f"{name}-{language}", text.replace("${LoaderArn}", function))

    function = stand.function(f"statement-{language}", "statement")
    counted, day = machine("counted"), {"day": "2026-11-28"}
    found = stand.run(counted, day)
    check("success", found["status"] == "SUCCEEDED" and stand.runs() == 2, found)
    stand.order(lose=2)
    found = stand.run(counted, day)
    runs = stand.runs()
    check("two lost replies", found["status"] == "SUCCEEDED" and runs == 2, (found, runs))
    for execution in [stand.start(counted, day), stand.start(counted, day)]:
        found = stand.end(execution)
        check("two executions of one day", found["status"] == "SUCCEEDED", found)
    runs = stand.runs()
    check("two executions of one day are two", runs == 4, runs)

    repaired = machine("repaired")
    stand.sql("UPDATE counted.state SET broken = true")
    # The database remembers the tokens of earlier runs of this script.
    mark = uuid.uuid4().hex[:8]
    execution = stand.start(repaired, {}, f"first-{mark}")
    found = stand.end(execution)
    check("failure", found["error"] == "Statement.Failed" and "discount" in found["cause"] and stand.runs() == 1, found)
    stand.sql("UPDATE counted.state SET broken = false")
    # The same execution without a redrive: its token is that of the statement that failed.
    stand.order(redriven={f"again-{mark}": {"Id": execution, "RedriveCount": 0}})
    found = stand.run(repaired, {}, f"again-{mark}")
    check("the same token", found["status"] == "FAILED" and stand.runs() == 0, found)
    stand.order(redriven={f"redriven-{mark}": {"Id": execution, "RedriveCount": 1}})
    found = stand.run(repaired, {}, f"redriven-{mark}")
    runs = stand.runs()
    check("a redrive runs it once more", found["status"] == "SUCCEEDED" and runs == 1, (found, runs))


def ended(statement):
    """The event of EventBridge, which MiniStack does not send."""
    return {"version": "0", "id": str(uuid.uuid4()), "detail-type": "Redshift Data Statement Status Change",
            "source": "aws.redshift-data", "detail": {"statementId": statement["Id"], "state": statement["Status"],
                                                      "statementName": statement["StatementName"]}}


def try_callback(stand, directory, language):
    """The generated form `callback`; each event is delivered twice."""
    statement = stand.function(f"submit-{language}", "statement")
    stand.function(f"callback-{language}", "callback")
    text = (Path(directory) / f"counted-callback-{language}.json").read_text().replace("${LoaderArn}", statement)
    execution = stand.start(stand.machine(f"counted-callback-{language}", text), {"day": "2026-11-28"})
    told = {}
    for _ in range(600):
        found = stand.machines.describe_execution(executionArn=execution)
        if found["status"] != "RUNNING":
            break
        for call in stand.all_calls():
            is_task = call.get("StatementName", "").startswith("sfn-task ") and call["Id"] not in stand.known | set(told)
            if is_task and call["Status"] == "FINISHED":
                event = json.dumps(ended(call))
                replies = [stand.functions.invoke(FunctionName=f"callback-{language}", Payload=event) for _ in range(2)]
                told[call["Id"]] = [json.loads(reply["Payload"].read())["task"] for reply in replies]
        time.sleep(0.05)
    runs = stand.runs()
    check("callback", found["status"] == "SUCCEEDED" and runs == 2, (found, runs))
    check("events twice", list(told.values()) == [["succeeded", "over"]] * 2, told)


def try_hudi(stand, directory, language, program, s3):
    """A machine with a Hudi step: the handler `hudi` takes raw files on S3 into a table on S3, and each file once."""
    raw, lake = f"raw-{language}", f"lake-{language}"
    table = f"s3://{lake}/customer"
    keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": s3}
    buckets = boto3.client("s3", endpoint_url=s3, **KEYS)
    for bucket in [raw, lake]:
        buckets.create_bucket(Bucket=bucket)

    def hudi_scd(*words):
        return subprocess.run([program, *words], env=keys, capture_output=True, text=True, check=True).stdout

    def put(name, *lines):
        buckets.put_object(Bucket=raw, Key=name, Body="\n".join(["id,name,at", *lines, ""]))

    def rows():
        lines = hudi_scd("read", table, "--columns", "id,name,at", "--format", "csv").splitlines()
        return sorted(lines[1:])

    def commits():
        return len([line for line in hudi_scd("timeline", table, "--json").splitlines() if json.loads(line)["action"] == "commit"])

    with tempfile.NamedTemporaryFile("w") as schema:
        schema.write("id bigint, name string, at bigint")
        schema.flush()
        hudi_scd("create", table, "--name", "customer", "--record-key", "id", "--ordering-field", "at", "--schema", schema.name)
    hudi = stand.function(f"hudi-{language}", "hudi", HUDI_TABLE=table, **keys)
    statement = stand.function(f"load-{language}", "statement")
    text = (Path(directory) / f"intake-lambda-{language}.json").read_text().replace("s3://raw/", f"s3://{raw}/")
    machine = stand.machine(f"intake-{language}", text.replace("${LoaderArn}", statement).replace("${HudiArn}", hudi))

    put("1-1.csv", "1,Ann,10", "2,Bob,10")
    put("1-2.csv", "2,Bea,20", "3,Cid,5")
    stand.order(lose_upsert=1)
    found = stand.run(machine, {"day": "1"})
    check("Hudi, lost reply", found["status"] == "SUCCEEDED" and stand.runs() == 1, found)
    expected = ["1,Ann,10", "2,Bea,20", "3,Cid,5"]
    check("Hudi, rows", rows() == expected, rows())
    check("Hudi, each file once", commits() == 1, commits())
    found = stand.run(machine, {"day": "1"})
    check("Hudi, the same files again", found["status"] == "SUCCEEDED" and stand.runs() == 1, found)
    check("Hudi, each file once", (rows(), commits()) == (expected, 1), (rows(), commits()))

    put("2-1.csv", "1,Late,9", "4,Dee,30")
    put("2-2.csv", "five,Eve,30")
    found = stand.run(machine, {"day": "2"})
    check("Hudi, a broken file", found["status"] == "FAILED" and found["error"] == "Hudi.InvalidInput", found)
    check("Hudi, a broken file", "2-2.csv" in found["cause"] and "line 2" in found["cause"], found)
    check("Hudi, a broken file: nothing written, nothing loaded", (rows(), stand.runs()) == (expected, 0), rows())
    put("2-2.csv", "5,Eve,30")
    found = stand.run(machine, {"day": "2"})
    check("Hudi, the corrected file", found["status"] == "SUCCEEDED" and stand.runs() == 1, found)
    check("Hudi, a late row", rows() == [*expected, "4,Dee,30", "5,Eve,30"], rows())
    hudi_scd("validate", table)


def mystore(program, postgres, folder):
    """Runs MyStore, or proves it again if it has run. It reads the database itself, and fails if anything is lost or
    done twice."""
    arguments = [program, "--dir", folder, "--postgres", postgres, "--scale", "0.001", "--cycles", "2", "--faults", "0"]
    done = subprocess.run(arguments, capture_output=True, text=True)
    check("MyStore", done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:])


def try_mystore(stand, directory, language, program, postgres, folder):
    """MyStore's own cycles as executions of its pipeline's machine, from its landed rows on, to the same proof."""
    script = (HERE.parents[1] / "examples/mystore/sql/tables.sql").read_text()
    tables = re.findall(r"CREATE TABLE IF NOT EXISTS ((?:work|mystore)\.\w+)", script)
    cycles = stand.rows("SELECT DISTINCT cycle, business_time FROM mystore.audit ORDER BY cycle")
    check("MyStore's cycles", len(cycles) == 3, cycles)
    for table in tables:
        stand.sql(f"DELETE FROM {table}; SELECT 1")
    for statement in re.findall(r"^INSERT INTO .*?;", script, re.DOTALL | re.MULTILINE):
        stand.sql(f"{statement} SELECT 1")
    function = stand.function(f"mystore-{language}", "statement")
    text = (Path(directory) / f"mystore-{language}.json").read_text().replace("${LoaderArn}", function)
    machine = stand.machine(f"mystore-{language}", text)
    for cycle, until in cycles:
        stand.order(lose=3)
        found = stand.run(machine, {"cycle": cycle, "until": until})
        check(f"MyStore's cycle {cycle}", found["status"] == "SUCCEEDED", found)
    mystore(program, postgres, folder)


def main(python, directory, bootstrap, program, postgres, reference, store, hudi_scd, s3):
    with tempfile.TemporaryDirectory() as folder, emulator(program, postgres) as service:
        control = Path(folder) / "control.json"
        archive = packed(bootstrap)
        server, log = [python, HERE / "bootstrap_server.py"], control.with_name("ministack.log")
        with ministack(server, log, "0.01", CONTROL=str(control)) as (interpreter, _):
            stand = Stand(interpreter, service, control, archive)
            tests = {"the reference machine": lambda: try_reference(stand, reference)}
            for language in ["jsonata", "jsonpath"]:
                tests[f"form lambda, {language}"] = lambda language=language: try_lambda(stand, directory, language)
                tests[f"form callback, {language}"] = lambda language=language: try_callback(stand, directory, language)
                tests[f"a Hudi step, {language}"] = lambda language=language: try_hudi(stand, directory, language, hudi_scd, s3)
            for name, test in tests.items():
                begin = time.time()
                stand.order()
                test()
                print(f"MiniStack with the executable: {name}: as expected, {time.time() - begin:.1f} s")
        # Pauses that are long enough for the timeouts, which are counted in pauses.
        with ministack(server, log, "0.2", CONTROL=str(control)) as (interpreter, _):
            stand = Stand(interpreter, service, control, archive)
            for schema in ["landing", "work", "mystore"]:
                stand.sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE; SELECT 1")
            run = str(Path(folder) / "mystore")
            mystore(store, postgres, run)
            for language in ["jsonata", "jsonpath"]:
                begin = time.time()
                try_mystore(stand, directory, language, store, postgres, run)
                print(f"MyStore's cycles as executions, {language}: the same proof, {time.time() - begin:.1f} s")


main(*sys.argv[1:10])
