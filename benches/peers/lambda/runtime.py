"""Calls the function `handler` of a module with the events of a Runtime API.

AWS's own client (awslambdaric) is not used: this loop imports less, so the figures of Python are flattering.
"""

import http.client
import importlib
import json
import os
import sys

handler = importlib.import_module(sys.argv[1]).handler
connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    connection.request("GET", "/2018-06-01/runtime/invocation/next")
    response = connection.getresponse()
    request = response.headers["Lambda-Runtime-Aws-Request-Id"]
    event = json.loads(response.read())
    try:
        kind, body = "response", handler(event, None)
    except Exception as error:
        kind, body = "error", {"errorType": type(error).__name__, "errorMessage": str(error)}
    connection.request("POST", f"/2018-06-01/runtime/invocation/{request}/{kind}", json.dumps(body))
    connection.getresponse().read()
