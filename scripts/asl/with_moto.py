"""Runs the forms `sdk` and `lambda` on moto's interpreter, against the emulator on a database that counts, and Glue jobs.

    with_moto.py DIRECTORY EMULATOR POSTGRES BOOTSTRAP

DIRECTORY has the generated definitions, EMULATOR and BOOTSTRAP are executables, and POSTGRES the URL of a database. MiniStack does
not know the form `sdk`. moto runs functions in containers only, so function.py serves the executable to its interpreter.

Five things of moto are repaired first: its name of the service, its names of the service's errors, the names of SQL parameters'
members, JSONata, which is that of jsonata-python with `$hash`, and the wait for a job run, which always fails. moto has no
`$$.Execution.RedriveCount` either, so the definitions get 0 in its place.
"""
import hashlib
import importlib
import json
import logging
import os
import pkgutil
import sys
import time
import uuid
from pathlib import Path

from function import functions
from jobs import jobs
from servers import check, emulator
from throttling import throttling

# One attempt: a refused request is repeated by the machine, and not by the interpreter's client.
DEFAULTS = {"AWS_MAX_ATTEMPTS": "1", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_DEFAULT_REGION": "us-east-1"}
PLACE = {"WorkgroupName": "analytics", "Database": "dev"}
SECRET = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:loader-AbCdEf"
TABLES = [
    "DROP SCHEMA IF EXISTS counted CASCADE", "CREATE SCHEMA counted", "CREATE TABLE counted.runs (name varchar(20))",
    "CREATE TABLE counted.state (broken boolean)", "INSERT INTO counted.state VALUES (true)",
    "CREATE PROCEDURE counted.ok(day text) LANGUAGE plpgsql AS $$ BEGIN INSERT INTO counted.runs VALUES ('ok'); END $$",
    "CREATE PROCEDURE counted.sleeps() LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(120); END $$",
    "CREATE PROCEDURE counted.slow_ok() LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1.5); INSERT INTO counted.runs VALUES ('slow'); END $$",
    # For the pipelines with Glue jobs.
    "DROP SCHEMA IF EXISTS mystore CASCADE", "CREATE SCHEMA mystore",
    "CREATE PROCEDURE mystore.ok(day text) LANGUAGE plpgsql AS $$ BEGIN INSERT INTO counted.runs VALUES ('lake'); END $$",
    "CREATE OR REPLACE PROCEDURE public.ok() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO counted.runs VALUES ('lake'); END $$",
    "CREATE PROCEDURE counted.fails_if_broken() LANGUAGE plpgsql AS $$ BEGIN "
    "IF (SELECT broken FROM counted.state) THEN RAISE EXCEPTION 'column \"discount\" does not exist'; END IF; END $$",
]


def repair():
    import jsonata
    import moto.stepfunctions.parser.asl as interpreter
    from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import state_task_service_aws_sdk
    from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service import StateTaskService
    from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_glue import StateTaskServiceGlue
    from moto.stepfunctions.parser.asl.jsonata import jsonata as module

    def evaluate(expression):
        try:
            # Step Functions' own function, which moto answers with a text.
            parsed = jsonata.Jsonata(str(expression).replace("$hash(", "$digest("))
            parsed.register_lambda("digest", lambda text, _: hashlib.sha256(text.encode()).hexdigest())
            return json.loads(json.dumps(parsed.evaluate(None)))
        except Exception as problem:
            raise module.JSONataException("UNKNOWN", str(problem)) from problem

    for found in pkgutil.walk_packages(interpreter.__path__, interpreter.__name__ + "."):
        try:
            loaded = importlib.import_module(found.name)
        except ImportError:
            continue
        if getattr(loaded, "eval_jsonata_expression", None) is not None:
            loaded.eval_jsonata_expression = evaluate
    service = state_task_service_aws_sdk.StateTaskServiceAwsSdk
    call = service._eval_service_task

    def call_with_small_names(self, *places, normalised_parameters, **named):
        given = normalised_parameters.get("Parameters", [])
        given[:] = [{name.lower(): value for name, value in parameter.items()} for parameter in given]
        return call(self, *places, normalised_parameters=normalised_parameters, **named)

    service._eval_service_task = call_with_small_names
    StateTaskServiceGlue._eval_integration_pattern = wait_for_run
    StateTaskService._SERVICE_NAME_SFN_TO_BOTO_OVERRIDES["redshiftdata"] = "redshift-data"
    state_task_service_aws_sdk._SERVICE_ERROR_NAMES["redshiftdata"] = "RedshiftData"


def wait_for_run(task, env, **places):
    """Polls a job run until it ends. moto then stops a callback, which a Glue task does not have."""
    resolve = task._build_sync_resolver(env=env, **places)
    env.stack.append(task._eval_sync(
        env=env, sync_resolver=resolve, timeout_seconds=None, callback_endpoint=None, heartbeat_endpoint=None))


class Stand:
    def __init__(self, service, directory):
        import boto3
        self.directory, self.substitutions = Path(directory), {**PLACE, "SecretArn": SECRET}
        self.database = boto3.client("redshift-data", endpoint_url=service)
        self.machines, self.known = boto3.client("stepfunctions"), {}
        iam = boto3.client("iam")
        self.role = iam.create_role(RoleName="states", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        for text in TABLES:
            self.sql(text)

    def sql(self, text):
        statement = self.database.execute_statement(**PLACE, Sql=text)["Id"]
        while (found := self.database.describe_statement(Id=statement))["Status"] not in ["FINISHED", "FAILED", "ABORTED"]:
            time.sleep(0.05)
        check(f"moto, {text}", found["Status"] == "FINISHED", found.get("Error"))
        return statement

    def sleeping(self):
        """The id of the statement that runs."""
        for _ in range(200):
            running = self.database.list_statements(Status="STARTED")["Statements"]
            found = [statement["Id"] for statement in running if "counted.sleeps" in statement["QueryString"]]
            if found:
                return found[0]
            time.sleep(0.05)
        raise SystemExit("moto: the statement does not start")

    def runs(self):
        """The number of procedures that ran since the last question."""
        statement = self.sql("SELECT count(*) FROM counted.runs")
        runs = self.database.get_statement_result(Id=statement)["Records"][0][0]["longValue"]
        self.sql("DELETE FROM counted.runs")
        return runs

    def run(self, name, given):
        return self.end(name, self.start(name, given))

    def start(self, name, given):
        definition = (self.directory / f"{name}.json").read_text()
        definition = definition.replace('"redrive.$": "$$.Execution.RedriveCount"', '"redrive": 0').replace("$$.Execution.RedriveCount", "0")
        for substitution, value in self.substitutions.items():
            definition = definition.replace(f"${{{substitution}}}", value)
        if name not in self.known:
            self.known[name] = self.machines.create_state_machine(
                name=name, definition=definition, roleArn=self.role)["stateMachineArn"]
        machine = self.known[name]
        return self.machines.start_execution(
            stateMachineArn=machine, name=uuid.uuid4().hex, input=json.dumps(given))["executionArn"]

    def end(self, name, execution):
        for _ in range(600):
            found = self.machines.describe_execution(executionArn=execution)
            if found["status"] != "RUNNING":
                return found
            time.sleep(0.1)
        raise SystemExit(f"moto, {name}: the execution does not end")


def try_statements(stand, form, language):
    """Success, a failure with the database's text, a branch that fails while its sibling runs, a statement that another client
    cancels, and a timeout."""
    suffix = f"{form}-{language}"
    found = stand.run(f"counted-{suffix}", {"day": "2026-11-28"})
    check(f"moto, success, {suffix}", found["status"] == "SUCCEEDED", found)
    runs = stand.runs()
    check(f"moto, each step runs once, {suffix}", runs == 2, runs)
    found = stand.run(f"repaired-{suffix}", {})
    is_told = found.get("error") == "Statement.Failed" and "discount" in found.get("cause", "")
    check(f"moto, failure with the database's text, {suffix}", is_told, found)
    found = stand.run(f"broken-{suffix}", {})
    is_told = found.get("error") == "Statement.Failed" and "step bad: " in found.get("cause", "")
    check(f"moto, a failing branch, {suffix}", is_told, found)
    runs = stand.runs()
    check(f"moto, a failing branch: its sibling ends, {suffix}", runs == 1, runs)


    execution = stand.start(f"sleeping-{suffix}", {})
    stand.database.cancel_statement(Id=stand.sleeping())
    found = stand.end(f"sleeping-{suffix}", execution)
    is_told = found.get("error") == "Statement.Aborted" and "was cancelled by another client" in found.get("cause", "")
    check(f"moto, ABORTED, {suffix}", is_told, found)

    begin, execution = time.time(), stand.start(f"late-{suffix}", {})
    sleeping = stand.sleeping()
    found, seconds = stand.end(f"late-{suffix}", execution), time.time() - begin
    is_told = found.get("error") == "Statement.TimedOut" and f"statement {sleeping} was cancelled" in found.get("cause", "")
    check(f"moto, timeout, {suffix}", is_told and "within 3 seconds" in found["cause"], found)
    status = stand.database.describe_statement(Id=sleeping)["Status"]
    check(f"moto, timeout: the statement is cancelled, {suffix}", status == "ABORTED", status)
    check(f"moto, timeout: the cancel is not late, {suffix}", 3 <= seconds < 20, seconds)


def try_throttled(stand, proxy, form, language):
    """The service refuses requests of each kind: the procedures still run once each."""
    # The function repeats a request twice by itself before the machine does.
    times = 3 if form == "lambda" else 1
    proxy.ahead = [operation for operation in ["ExecuteStatement", "DescribeStatement"] for _ in range(times)]
    found = stand.run(f"counted-{form}-{language}", {"day": "2026-11-28"})
    name = f"moto, throttled, {form}-{language}"
    check(name, found["status"] == "SUCCEEDED" and not proxy.ahead, (found, proxy.ahead))
    runs = stand.runs()
    check(f"{name}: each step runs once", runs == 2, runs)


def try_lost(stand, server, language):
    """Lost responses to the function's first two submits, and one of a poll: each procedure still runs once."""
    lost, ahead = [], ["submit", "submit", "status"]

    def loses(event):
        if ahead and event["action"] == ahead[0]:
            lost.append(ahead.pop(0))
            return True
        return False

    server.loses = loses
    found = stand.run(f"counted-lambda-{language}", {"day": "2026-11-28"})
    check(f"moto, lost responses, {language}", found["status"] == "SUCCEEDED", found)
    check(f"moto, lost responses, {language}", len(lost) == 3, lost)
    runs = stand.runs()
    check(f"moto, lost responses: each step runs once, {language}", runs == 2, runs)


def try_jobs(stand, server, language):
    """Glue jobs by moto's own integration, which polls the run. The names of jobs and files say how they end."""
    def step(name, given):
        before = len(server.lake.runs)
        found = stand.run(f"{name}-sdk-{language}", given)
        return found, [run["JobName"] for run in server.lake.runs[before:]]

    server.forget()
    found, started = step("lake", {"day": "2026-11-28"})
    check(f"moto, Glue, {language}", found["status"] == "SUCCEEDED" and stand.runs() == 1, found)
    check(f"moto, Glue: the limit of runs and a retry, {language}", sorted(started) == ["busy_once", "fails_once", "fails_once"], started)
    for job, file, error, text in [
        ("ok", "a.csv", None, ""),
        ("fails", "a.csv", "Glue.Failed", "failed: ValueError: no such column"),
        # moto reports a stopped run as a result, and not as an error.
        ("stops", "a.csv", "Glue.Stopped", "was stopped by another client"),
        ("times_out", "a.csv", "Glue.TimedOut", "exceeded the timeout of 10 minutes"),
        ("absent", "a.csv", "Glue.EntityNotFoundException", "there is no job absent"),
        ("loses_reply", "a.csv", "Glue.Unknown", "look for the run whose argument --run-token is "),
        ("ok", "broken.csv", "Hudi.InvalidInput", "the file is broken"),
    ]:
        found, started = step("ends", {"job": job, "file": file})
        name = f"moto, Glue, {job}, {file}, {language}"
        check(name, (found.get("error"), found["status"]) == (error, "FAILED" if error else "SUCCEEDED"), found)
        check(name, text in found.get("cause", ""), found)
        check(name, started == ([] if job == "absent" else [job]), started)
        runs = stand.runs()
        check(name, runs == (0 if error else 1), runs)
        if job == "loses_reply":
            check(name, server.lake.runs[-1]["Arguments"]["--run-token"] in found["cause"], found)


def main(directory, program, postgres, bootstrap):
    with emulator(program, postgres) as service, throttling(service) as proxy, functions(bootstrap) as server, jobs() as glue:
        # The interpreter's own clients find the servers by these.
        os.environ |= DEFAULTS | {"AWS_ENDPOINT_URL_REDSHIFT_DATA": proxy.url, "AWS_ENDPOINT_URL_REDSHIFTDATA": proxy.url,
                                  "AWS_ENDPOINT_URL_LAMBDA": server.url, "AWS_ENDPOINT_URL_GLUE": glue.url}
        from moto import mock_aws
        # The interpreter logs each failure that a machine catches.
        logging.disable(logging.CRITICAL)
        repair()
        passed = {"urls": [f"{url}.*" for url in [service, proxy.url, server.url, glue.url]]}
        with mock_aws(config={"stepfunctions": {"execute_state_machine": True}, "core": {"passthrough": passed}}):
            stand = Stand(service, directory)
            loader = server.create("statement", SFN_ADAPTER_HANDLER="statement", AWS_ENDPOINT_URL_REDSHIFT_DATA=proxy.url,
                                   WORKGROUP_NAME="analytics", DATABASE="dev", SECRET_ARN=SECRET)
            server.doubles["hudi"] = lambda event: glue.lake.upsert(event)
            stand.substitutions |= {"LoaderArn": loader, "HudiArn": loader.replace("statement", "hudi")}
            for language in ["jsonata", "jsonpath"]:
                for name, test in {
                    "form sdk": lambda: try_statements(stand, "sdk", language),
                    "form lambda with the executable": lambda: try_statements(stand, "lambda", language),
                    "form lambda, lost responses": lambda: try_lost(stand, server, language),
                    "form sdk, throttled": lambda: try_throttled(stand, proxy, "sdk", language),
                    "form lambda with the executable, throttled": lambda: try_throttled(stand, proxy, "lambda", language),
                    "Glue jobs": lambda: try_jobs(stand, glue, language),
                }.items():
                    begin = time.time()
                    test()
                    print(f"moto: {name}, {language}: as expected, {time.time() - begin:.1f} s")


main(*sys.argv[1:5])
