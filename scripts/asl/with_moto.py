"""Runs the form `sdk` on moto's interpreter, against the emulator on a database that counts.

    with_moto.py DIRECTORY EMULATOR POSTGRES

DIRECTORY has the generated definitions, EMULATOR is the executable, and POSTGRES the URL of a database. MiniStack does not know
the service. Four things of moto are repaired first: its name of the service, its names of the service's errors, the names of
SQL parameters' members, and JSONata, which is that of jsonata-python with `$hash`. moto has no `$$.Execution.RedriveCount`
either, so the definitions get 0 in its place.
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

from servers import check, emulator

DEFAULTS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_DEFAULT_REGION": "us-east-1"}
PLACE = {"WorkgroupName": "analytics", "Database": "dev"}
SECRET = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:loader-AbCdEf"
TABLES = [
    "DROP SCHEMA IF EXISTS counted CASCADE", "CREATE SCHEMA counted", "CREATE TABLE counted.runs (name varchar(20))",
    "CREATE TABLE counted.state (broken boolean)", "INSERT INTO counted.state VALUES (true)",
    "CREATE PROCEDURE counted.ok(day text) LANGUAGE plpgsql AS $$ BEGIN INSERT INTO counted.runs VALUES ('ok'); END $$",
    "CREATE PROCEDURE counted.fails_if_broken() LANGUAGE plpgsql AS $$ BEGIN "
    "IF (SELECT broken FROM counted.state) THEN RAISE EXCEPTION 'column \"discount\" does not exist'; END IF; END $$",
]


def repair():
    import jsonata
    import moto.stepfunctions.parser.asl as interpreter
    from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import state_task_service_aws_sdk
    from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service import StateTaskService
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
    StateTaskService._SERVICE_NAME_SFN_TO_BOTO_OVERRIDES["redshiftdata"] = "redshift-data"
    state_task_service_aws_sdk._SERVICE_ERROR_NAMES["redshiftdata"] = "RedshiftData"


class Stand:
    def __init__(self, service):
        import boto3
        self.database = boto3.client("redshift-data", endpoint_url=service)
        self.machines = boto3.client("stepfunctions")
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

    def runs(self):
        statement = self.sql("SELECT count(*) FROM counted.runs")
        return self.database.get_statement_result(Id=statement)["Records"][0][0]["longValue"]

    def run(self, name, definition, given):
        for substitution, value in (PLACE | {"SecretArn": SECRET}).items():
            definition = definition.replace(f"${{{substitution}}}", value)
        machine = self.machines.create_state_machine(name=name, definition=definition, roleArn=self.role)["stateMachineArn"]
        execution = self.machines.start_execution(
            stateMachineArn=machine, name=uuid.uuid4().hex, input=json.dumps(given))["executionArn"]
        for _ in range(600):
            found = self.machines.describe_execution(executionArn=execution)
            if found["status"] != "RUNNING":
                return found
            time.sleep(0.1)
        raise SystemExit(f"moto, {name}: the execution does not end")


def main(directory, program, postgres):
    with emulator(program, postgres) as service:
        # The interpreter's own clients find the emulator by these.
        os.environ |= DEFAULTS | {"AWS_ENDPOINT_URL_REDSHIFT_DATA": service, "AWS_ENDPOINT_URL_REDSHIFTDATA": service}
        from moto import mock_aws
        # The interpreter logs each failure that a machine catches.
        logging.disable(logging.CRITICAL)
        repair()
        with mock_aws(config={"stepfunctions": {"execute_state_machine": True}, "core": {"passthrough": {"urls": [f"{service}.*"]}}}):
            stand = Stand(service)
            for number, language in enumerate(["jsonata", "jsonpath"], 1):
                def definition(name):
                    text = (Path(directory) / f"{name}-sdk-{language}.json").read_text()
                    return text.replace("$$.Execution.RedriveCount", "0")
                begin = time.time()
                found = stand.run(f"counted-{language}", definition("counted"), {"day": "2026-11-28"})
                check(f"moto, success, {language}", found["status"] == "SUCCEEDED", found)
                runs = stand.runs()
                check(f"moto, each step runs once, {language}", runs == 2 * number, runs)
                found = stand.run(f"repaired-{language}", definition("repaired"), {})
                is_told = found.get("error") == "Statement.Failed" and "discount" in found.get("cause", "")
                check(f"moto, failure with the database's text, {language}", is_told, found)
                print(f"moto: form sdk, {language}: as expected, {time.time() - begin:.1f} s")


main(*sys.argv[1:4])
