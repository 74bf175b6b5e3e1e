"""Glue jobs and a Hudi table for the interpreters: doubles of the integration `glue:startJobRun.sync` and of the handler `hudi`.

The name of a job or of a file says how it ends. A job is started once for each call, as Glue has no client token; a table takes in
each file once.
"""
import json
import threading

from statements import Failure

ENDS = {"stops": "STOPPED", "times_out": "TIMEOUT", "fails": "FAILED", "fails_once": "FAILED", "expires": "EXPIRED"}


class Lake:
    def __init__(self, record):
        self.record, self.lock = record, threading.Lock()
        self.runs, self.refused, self.conflicts, self.files = [], set(), set(), set()

    def start_job(self, _, request):
        """The result of the integration: the description of the run, or an error."""
        with self.lock:
            job, arguments = request["JobName"], request["Arguments"]
            assert len(arguments["--run-token"]) == 64, arguments
            assert request["Timeout"] == 10, request
            if job == "absent":
                raise Failure("Glue.EntityNotFoundException", "there is no job absent")
            if job == "busy_once" and arguments["--run-token"] not in self.refused:
                self.refused.add(arguments["--run-token"])
                raise Failure("Glue.ConcurrentRunsExceededException", "Concurrent runs exceeded for busy_once")
            run = {"Id": f"jr_{len(self.runs)}", "JobName": job, "JobRunState": "SUCCEEDED", "Arguments": arguments}
            is_repeated = any(earlier["JobName"] == job for earlier in self.runs)
            self.runs.append(run)
            self.record(job=job, arguments=arguments)
            if job == "loses_reply":
                raise Failure("Glue.SdkClientException", "the connection was reset")
            if job in ENDS and not (job == "fails_once" and is_repeated):
                run["JobRunState"] = ENDS[job]
                if job in ["fails", "fails_once"]:
                    run["ErrorMessage"] = "ValueError: no such column"
                raise Failure("States.TaskFailed", json.dumps(run))
            return run

    def upsert(self, event):
        with self.lock:
            assert set(event) == {"version", "action", "files"}, event
            files = event["files"]
            for file in files:
                if file.endswith("broken.csv"):
                    raise Failure("Hudi.InvalidInput", "the file is broken; nothing was written, so correct the file")
                if file.endswith("conflicts_once.csv") and file not in self.conflicts:
                    self.conflicts.add(file)
                    raise Failure("Hudi.Conflict", "nothing was written, so invoke again with the same event")
            new = [file for file in files if file not in self.files]
            self.files.update(new)
            self.record(files=files, new=new)
            return {"version": 1, "action": "upsert", "table": "address", "outcome": "committed",
                    "instant": "20261128063002123"}
