"""Runs generated state machines on MiniStack: success, failure with text, timeout, cancels that fail, throttled requests, lost
reply, overlap, bad input, and Glue jobs and a Hudi table with each of their ends.

    with_ministack.py PYTHON DIRECTORY PROGRAM    the interpreter with MiniStack, the directory of the definitions, and
                                                  the executable sfn-adapter

It also compares the counts of `sfn-adapter cost` with those of histories.
"""
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from servers import check, ministack

HERE = Path(__file__).parent


class Interpreter:
    def __init__(self, client, directory, log):
        self.client, self.directory, self.log, self.machines = client, Path(directory), log, {}

    def start(self, name, given):
        if name not in self.machines:
            definition = (self.directory / f"{name}.json").read_text()
            self.machines[name] = self.client.create_state_machine(
                name=name, definition=definition, roleArn="arn:aws:iam::123456789012:role/r")["stateMachineArn"]
        return self.client.start_execution(stateMachineArn=self.machines[name], input=json.dumps(given))["executionArn"]

    def start_with(self, name, steps, given):
        """Starts a machine that already has these outcomes of steps, as after a redrive."""
        definition = json.loads((self.directory / f"{name}.json").read_text())
        start = definition["States"]["Start"]
        (start.get("Parameters") or start["Output"])["steps"] = steps
        redriven = self.directory / f"{name}-redriven.json"
        redriven.write_text(json.dumps(definition))
        return self.start(redriven.stem, given)

    def end(self, execution):
        for _ in range(900):
            found = self.client.describe_execution(executionArn=execution)
            if found["status"] != "RUNNING":
                # boto3 has no member for a failed execution's error in older models.
                return found
            time.sleep(0.1)
        raise SystemExit(f"{execution} does not end; its history: {self.history(execution)}")

    def history(self, execution):
        events = self.client.get_execution_history(executionArn=execution, maxResults=1000)["events"]
        return [event["type"] for event in events]

    def paused(self, execution):
        """The sum of the pauses before the first cancel."""
        paused = 0
        for event in self.client.get_execution_history(executionArn=execution, maxResults=1000)["events"]:
            entered = event.get("stateEnteredEventDetails", {"name": ""})
            if entered["name"].endswith(": cancel"):
                return paused
            if entered["name"].endswith(": wait"):
                paused += json.loads(entered["input"])["run"]["clock"]["wait"]
        return None

    def entries(self, execution=None):
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        entries = [json.loads(line) for line in lines]
        return [entry for entry in entries if execution is None or entry.get("execution") == execution]


def runs(interpreter, execution):
    found = {}
    for entry in interpreter.entries(execution):
        found.setdefault(entry["step"], []).append(entry["attempt"])
    return found


def try_form(interpreter, suffix):
    day = {"day": "2026-11-28"}
    name = f"load-{suffix}"
    execution = interpreter.start(name, day)
    found = interpreter.end(execution)
    check(name, found["status"] == "SUCCEEDED", found)
    output = json.loads(found["output"])
    check(name, {step: result["outcome"] for step, result in output.items()}
          == dict.fromkeys(["stage", "left", "right", "publish"], "finished"), output)
    check(name, runs(interpreter, execution) == {"stage": [1], "left": [1, 2], "right": [1], "publish": [1]},
          runs(interpreter, execution))
    texts = {entry["step"]: entry for entry in interpreter.entries(execution)}
    check(name, texts["stage"]["ran"] == "mystore.ok(:day)" and texts["stage"]["parameters"] == day, texts)
    check(name, texts["publish"]["batch"] == ["SELECT 'it''s {1}' -- \\ \n", "ANALYZE mystore.sales"], texts)
    again = interpreter.start(name, {**day, "schema": "other"})
    check(name, interpreter.end(again)["status"] == "SUCCEEDED", again)
    check(name, runs(interpreter, again)["right"] == [1], "a second execution is another one")

    # The branch of `right`, which finished before the redrive, has the old outcome of `left` in its input.
    old = {"stage": {"outcome": "finished"}, "left": {"outcome": "failed"}, "right": {"outcome": "finished"}}
    redriven = interpreter.start_with(name, old, day)
    found = interpreter.end(redriven)
    output = json.loads(found["output"])
    check(name, {step: result["outcome"] for step, result in output.items()}
          == dict.fromkeys(["stage", "left", "right", "publish"], "finished"), output)
    check(name, set(runs(interpreter, redriven)) == {"left", "publish"}, runs(interpreter, redriven))

    for given, text in [({}, "no day"), ({**day, "schema": "a; DROP"}, "letters"), ({**day, "schema": "a--b"}, "letters")]:
        found = interpreter.end(interpreter.start(name, given))
        check(name, found["error"] == "SfnAdapter.BadInput" and text in found["cause"], found)

    name = f"failing-{suffix}"
    execution = interpreter.start(name, {})
    time.sleep(0.1)
    second = interpreter.end(interpreter.start(name, {}))
    check(name, second["error"] == "SfnAdapter.Overlap" and execution in second["cause"], second)
    found = interpreter.end(execution)
    check(name, found["status"] == "FAILED" and found["error"] == "Statement.Failed", found)
    check(name, found["cause"] == 'step bad: ERROR: column "discount" does not exist', found)
    check(name, runs(interpreter, execution) == {"sibling": [1], "bad": [1]}, runs(interpreter, execution))

    name = f"hanging-{suffix}"
    execution = interpreter.start(name, {})
    found = interpreter.end(execution)
    check(name, found["error"] == "Statement.TimedOut" and "within 3 seconds" in found["cause"], found)
    check(name, any(entry.get("cancelled") == "hangs" for entry in interpreter.entries()), "not cancelled")
    # The form `callback` waits for an event in this time.
    paused = interpreter.paused(execution)
    check(name, paused == (0 if suffix.startswith("callback") else 3), f"pauses of {paused} s before the cancel")

    name, before = f"throttled-{suffix}", len(interpreter.entries())
    execution = interpreter.start(name, {})
    found = interpreter.end(execution)
    check(name, found["status"] == "SUCCEEDED" and runs(interpreter, execution) == {"busy": [1]}, found)
    throttled = [entry["throttled"] for entry in interpreter.entries()[before:] if "throttled" in entry]
    expected = [] if suffix.startswith("callback") else ["submit", "submit", "status", "status"]
    check(name, throttled == expected, throttled)

    name = f"resisting-{suffix}"
    found = interpreter.end(interpreter.start(name, {}))
    check(name, found["error"] == "Statement.TimedOut" and "step long: statement " in found["cause"], found)
    check(name, any(entry.get("cancelled") == "resists" for entry in interpreter.entries()), "not cancelled")

    name = f"aborted-{suffix}"
    execution = interpreter.start(name, {})
    found = interpreter.end(execution)
    check(name, found["error"] == "Statement.Aborted" and "step first: " in found["cause"], found)
    check(name, set(runs(interpreter, execution)) == {"first", "second"}, runs(interpreter, execution))


def try_stuck(interpreter, suffix, execution):
    """A statement that may still run decides how the execution ends, although another step failed earlier."""
    name = f"stuck-{suffix}"
    found = interpreter.end(execution)
    check(name, found["status"] == "FAILED" and found["error"] == "Statement.Unknown", found)
    check(name, "step sibling: statement " in found["cause"] and "may still run" in found["cause"], found)
    check(name, runs(interpreter, execution) == {"bad": [1], "sibling": [1]}, runs(interpreter, execution))
    refused = [entry for entry in interpreter.entries() if entry.get("refused") and entry["refused"] in found["cause"]]
    check(name, len(refused) > 8, f"the cancel is repeated after further polls: {refused}")
    return len(refused)


def try_lake(interpreter, suffix):
    """Glue jobs and a Hudi table, with doubles of the integration and the handler."""
    name, before = f"lake-{suffix}", len(interpreter.entries())
    execution = interpreter.start(name, {"day": "2026-11-28"})
    found = interpreter.end(execution)
    check(name, found["status"] == "SUCCEEDED", found)
    output = json.loads(found["output"])
    check(name, {step: result["outcome"] for step, result in output.items()}
          == dict.fromkeys(["busy", "repeated", "table", "load"], "finished"), output)
    check(name, output["table"]["instant"] == "20261128063002123", output)
    entries = interpreter.entries()[before:]
    jobs = [entry["job"] for entry in entries if "job" in entry]
    check(name, jobs.count("busy_once") == 1, "a refused start is repeated, and starts one run")
    check(name, jobs.count("fails_once") == output["repeated"]["attempt"], jobs)
    arguments = next(entry["arguments"] for entry in entries if entry.get("job") == "busy_once")
    check(name, arguments["--day"] == "2026-11-28", arguments)
    check(name, ["s3://raw/2026-11-28.csv", "s3://raw/conflicts_once.csv"] in [entry.get("files") for entry in entries], entries)

    name = f"ends-{suffix}"
    for job, file, error, text, started in [
        ("ok", "a.csv", None, "", 1),
        ("fails", "a.csv", "Glue.Failed", "failed: ValueError: no such column", 1),
        ("stops", "a.csv", "Glue.Stopped", "was stopped by another client", 1),
        ("times_out", "a.csv", "Glue.TimedOut", "exceeded the timeout of 10 minutes", 1),
        ("expires", "a.csv", "Glue.Failed", "failed: the service gives no reason", 1),
        ("absent", "a.csv", "Glue.EntityNotFoundException", "there is no job absent", 0),
        ("loses_reply", "a.csv", "Glue.Unknown", "look for the run whose argument --run-token is ", 1),
        ("ok", "broken.csv", "Hudi.InvalidInput", "the file is broken", 1),
    ]:
        before = len(interpreter.entries())
        execution = interpreter.start(name, {"job": job, "file": file})
        found = interpreter.end(execution)
        check(name, (found.get("error"), found["status"]) == (error, "FAILED" if error else "SUCCEEDED"), f"{job}: {found}")
        check(name, text in found.get("cause", ""), f"{job}: {found}")
        entries = interpreter.entries()[before:]
        check(name, sum("job" in entry for entry in entries) == started, f"{job}: {entries}")
        check(name, any("ran" in entry for entry in entries) == (error is None), f"{job}: {entries}")
        if job == "loses_reply":
            token = next(entry["arguments"]["--run-token"] for entry in entries if "job" in entry)
            check(name, token in found["cause"], found)


def try_cost(interpreter, program, suffix):
    """A statement of 40 seconds is seen at its end by the fourth poll, like the statement `slow` of the double."""
    name = f"slow-{suffix}"
    text = subprocess.run([program, "cost", interpreter.directory / f"{name}.json", "--duration", "40s", "--json"],
                          capture_output=True, check=True).stdout
    cost = json.loads(text)["rows"][0]["cost"]
    execution = interpreter.start(name, {})
    check(name, interpreter.end(execution)["status"] == "SUCCEEDED", execution)
    history = interpreter.history(execution)
    states = sum(kind.endswith("StateEntered") for kind in history)
    check(name, cost["transitions"] == states, f"{cost}, and {states} states in {history}")
    if suffix.startswith("lambda"):
        calls = history.count("TaskScheduled") + history.count("LambdaFunctionScheduled")
        check(name, cost["invocations"] == calls, f"{cost}, and {calls} invocations in {history}")
    return states


def main(python, directory, program):
    log = Path(tempfile.mkdtemp()) / "statements.jsonl"
    server = [python, HERE / "ministack_server.py"]
    with ministack(server, log.with_name("ministack.log"), "0.01", STATEMENTS_LOG=str(log)) as (_, client):
        interpreter = Interpreter(client, directory, log)
        for form in ["lambda", "callback"]:
            for language in ["jsonata", "jsonpath"]:
                begin = time.time()
                try_form(interpreter, f"{form}-{language}")
                try_lake(interpreter, f"{form}-{language}")
                transitions = try_cost(interpreter, program, f"{form}-{language}")
                print(f"MiniStack: form {form}, {language}: as expected, "
                      f"{transitions} transitions as computed by cost, {time.time() - begin:.1f} s")
        # These run for as long as a cancelled statement may take, and would delay the others.
        suffixes = [f"{form}-{language}" for form in ["lambda", "callback"] for language in ["jsonata", "jsonpath"]]
        stuck = {suffix: interpreter.start(f"stuck-{suffix}", {}) for suffix in suffixes}
        for suffix, execution in stuck.items():
            cancels = try_stuck(interpreter, suffix, execution)
            print(f"MiniStack: {suffix}: a statement that {cancels} requests did not cancel may still run, and the execution says so")


main(*sys.argv[1:4])
