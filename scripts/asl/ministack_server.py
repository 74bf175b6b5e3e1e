"""MiniStack whose Lambda functions are the statements of statements.py and the table of lake.py.

Three additions, because MiniStack lacks them: the context object has a redrive count, the service's error names
of a Lambda invocation, and the integration of Glue jobs. Waits are shortened by SFN_WAIT_SCALE.
"""
import json
import os
import runpy
import threading
import time

from ministack.services import stepfunctions as sfn

from lake import Lake
from statements import Failure, Statements

resolve = sfn._resolve_ctx_path


def resolve_with_redrives(path, context):
    found = resolve(path, context)
    return 0 if found is None and path == "$$.Execution.RedriveCount" else found


def answer(token, end):
    def later():
        time.sleep(0.3)
        state = end()
        if state is None:
            return
        if state["error"]:
            sfn._send_task_failure({"taskToken": token, "error": state["error"], "cause": state["cause"]})
        else:
            sfn._send_task_success({"taskToken": token, "output": json.dumps(state)})
    threading.Thread(target=later, daemon=True).start()


statements = Statements(os.environ["STATEMENTS_LOG"], answer)
lake = Lake(statements.record)


def call(_, event):
    try:
        return lake.upsert(event) if event.get("action") == "upsert" else statements.handle(event)
    except Failure as failure:
        error, cause = failure.args
        raise sfn._ExecutionError(error, cause) from failure
    except Exception as problem:
        raise sfn._ExecutionError("SfnAdapter.BadInput", repr(problem)) from problem


def start_job(resource, request):
    try:
        return lake.start_job(resource, request)
    except Failure as failure:
        error, cause = failure.args
        raise sfn._ExecutionError(error, cause) from failure


sfn._SERVICE_DISPATCH["arn:aws:states:::glue:startJobRun"] = start_job
sfn._resolve_ctx_path = resolve_with_redrives
sfn._call_lambda = call
runpy.run_module("ministack", run_name="__main__")
