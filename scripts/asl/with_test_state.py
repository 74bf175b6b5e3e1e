"""Checks requests of the TestState API from `sfn-adapter asl --mocks`, and sends them to MiniStack.

    with_test_state.py PYTHON DIRECTORY ...

Each request is validated by botocore's model of Step Functions, and each mocked result of an integration with an AWS service
by the model of that service. PYTHON is the interpreter with MiniStack, which plays each request; the response must be the
expected one.
"""
import json
import os
import re
import sys
from pathlib import Path

import botocore.config
import botocore.session
from botocore.validate import ParamValidator

from servers import ministack

SERVICES = {"redshiftdata": "redshift-data", "sfn": "stepfunctions"}
session = botocore.session.get_session()


def shape_of_result(resource):
    """The model of what an integration returns; None for functions."""
    if resource.endswith(":glue:startJobRun.sync"):
        # The integration waits for the run, and returns its description.
        return session.get_service_model("glue").operation_model("GetJobRun").output_shape.members["JobRun"]
    found = re.search(r":aws-sdk:(\w+):(\w+)", resource)
    if not found:
        return None
    service, operation = found.groups()
    model = session.get_service_model(SERVICES[service])
    return model.operation_model(operation[0].upper() + operation[1:]).output_shape


def unknown(value, shape, path="result"):
    """Members that the model lacks. Step Functions writes names with a capital, and times as texts."""
    if shape.type_name == "structure":
        known = {name[0].upper() + name[1:]: member for name, member in shape.members.items()}
        for name, member in value.items():
            if name not in known:
                yield f"{path}.{name}"
            else:
                yield from unknown(member, known[name], f"{path}.{name}")
        missing = [name for name in shape.required_members if name[0].upper() + name[1:] not in value]
        yield from (f"{path} lacks {name}" for name in missing)
    elif shape.type_name == "list":
        for member in value:
            yield from unknown(member, shape.member, f"{path}[]")


def checked(request):
    model = session.get_service_model("stepfunctions").operation_model("TestState")
    report = ParamValidator().validate(request, model.input_shape)
    if report.has_errors():
        yield report.generate_report()
    state = json.loads(request["definition"])
    json.loads(request["input"]), json.loads(request["context"])
    result = request.get("mock", {}).get("result")
    shape = shape_of_result(state.get("Resource", ""))
    if result is not None and shape is not None:
        yield from unknown(json.loads(result), shape)


def differs(client, request, expected):
    """The difference of the response from the expected one. MiniStack looks at `Catch` before `Retry`, so it has no
    response to a retry that is also caught, and mocks the results of tasks alone."""
    if expected["status"] == "RETRIABLE" or '"Branches"' in request["definition"]:
        return None
    found = client.test_state(**request)
    wanted = (expected["status"], expected["nextState"])
    return None if (found["status"], found.get("nextState")) == wanted else (wanted, found)


def main(python, directories):
    # The client would put `sync-` before the host's name.
    configuration = botocore.config.Config(inject_host_prefix=False)
    with ministack([python, "-m", "ministack"], os.devnull, "0", configuration) as (_, client):
        for directory in map(Path, directories):
            sent, cases = 0, json.loads((directory / "expected.json").read_text())
            for case in cases:
                request = json.loads((directory / case["file"]).read_text())
                problems = list(checked(request))
                if problems:
                    raise SystemExit(f"{directory.name}/{case['file']}: {problems}")
                difference = differs(client, request, case)
                if difference:
                    raise SystemExit(f"{directory.name}/{case['file']}: {difference}")
                sent += case["status"] != "RETRIABLE"
            print(f"TestState: {directory.name}: {len(cases)} requests are valid, MiniStack responds to {sent} as expected")


main(sys.argv[1], sys.argv[2:])
