"""MiniStack with the real Lambda runtime, and faults that the file CONTROL orders.

    {"lose": 1}                                     the replies of the next invocations of a submit are lost
    {"lose_upsert": 1}                              the same for a Hudi table
    {"refuse_cancels": 5}                           the next invocations of a cancel fail before the function gets them
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


def counts_down(name):
    with lock:
        given = orders()
        if given.get(name, 0) == 0:
            return False
        control.write_text(json.dumps({**given, name: given[name] - 1}))
        return True


def is_lost(event):
    if event.get("action") == "upsert":
        return counts_down("lose_upsert")
    return is_submit(event) and counts_down("lose")


def call_and_lose(function, event):
    if event.get("action") == "cancel" and counts_down("refuse_cancels"):
        raise sfn._ExecutionError("Lambda.TooManyRequestsException", "Rate Exceeded")
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
