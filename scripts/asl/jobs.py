"""The jobs of lake.py as a service, for an interpreter that calls Glue itself.

A run is RUNNING when it is polled for the first time, and has ended when it is polled again.
"""
import contextlib
import json
import threading
from http.server import ThreadingHTTPServer

from function import Quiet
from lake import Lake
from statements import Failure


class Jobs(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.forget()

    def forget(self):
        """Forgets all runs and files."""
        self.polled, self.lake = set(), Lake(lambda **entry: None)

    def start(self, request):
        try:
            run = self.lake.start_job(None, request)
        except Failure as failure:
            error, cause = failure.args
            # The integration's error for a run that ended badly. Here, that run was only started.
            if error != "States.TaskFailed":
                raise
            run = json.loads(cause)
        return {"JobRunId": run["Id"]}

    def run(self, request):
        run = next(run for run in self.lake.runs if run["Id"] == request["RunId"])
        if request["RunId"] not in self.polled:
            self.polled.add(request["RunId"])
            run = {**run, "JobRunState": "RUNNING"}
        return {"JobRun": run}


class Handler(Quiet):
    def do_POST(self):
        operation, request = self.headers["X-Amz-Target"].removeprefix("AWSGlue."), json.loads(self.body())
        try:
            status, body = 200, {"StartJobRun": self.server.start, "GetJobRun": self.server.run}[operation](request)
        except Failure as failure:
            error, message = failure.args
            status, body = 400, {"__type": error.removeprefix("Glue."), "Message": message}
            if error == "Glue.SdkClientException":
                # The run was started, and the response is lost.
                status, body = 500, {"__type": "InternalServiceException", "Message": message}
        self.reply(status, json.dumps(body).encode(), x_amzn_RequestId="r")


@contextlib.contextmanager
def jobs():
    server = Jobs()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
