"""MiniStack with the real Lambda runtime, and faults that the file CONTROL orders.

    {"lose": 1}                                     the replies of the next invocations of a submit are lost
    {"redriven": {"NAME": {"Id": ..., "RedriveCount": 1}}}    an execution has the context of another one

MiniStack has neither a redrive count nor a redrive; a redriven execution is played by a new one with the id of the
first, which begins at its first state. The work of each invocation is done by the function.
"""
import json
import os
import runpy
import threading
from pathlib import Path

from ministack.services import stepfunctions as sfn

control, lock = Path(os.environ["CONTROL"]), threading.Lock()
call, resolve, evaluate = sfn._call_lambda, sfn._resolve_ctx_path, sfn._evaluate_jsonata


def orders():
    return json.loads(control.read_text()) if control.exists() else {}


def is_submit(event):
    return event.get("action") == "submit" or ("action" not in event and "QueryId" not in event)


def is_lost(event):
    with lock:
        given = orders()
        if not is_submit(event) or given.get("lose", 0) == 0:
            return False
        control.write_text(json.dumps({**given, "lose": given["lose"] - 1}))
        return True


def call_and_lose(function, event):
    reply = call(function, event)
    if is_lost(event):
        raise sfn._ExecutionError("Lambda.SdkClientException", "the reply was lost")
    return reply


def in_context(context):
    execution = (context or {}).get("Execution")
    if execution:
        execution.setdefault("RedriveCount", 0)
        execution.update(orders().get("redriven", {}).get(execution["Name"], {}))
    return context


sfn._call_lambda = call_and_lose
sfn._resolve_ctx_path = lambda path, context: resolve(path, in_context(context))
sfn._evaluate_jsonata = lambda expression, given, ctx=None, *more, **named: evaluate(
    expression, given, in_context(ctx), *more, **named)
runpy.run_module("ministack", run_name="__main__")
