"""Statements for the interpreters: a double of the handler `statement`, without a database.

The name of a procedure says how its statement ends: `ok`, `slow`, `fails`, `hangs`, `aborts`, `conflicts_once`,
`loses_reply`, `throttles`. `hangs`, `holds` and `resists` run until they are cancelled; `holds` cannot be cancelled, and `resists` only by
the sixth request. Equal identities are one statement, as with the client token of the service.
"""
import json
import threading
import uuid

# Number of requests that do not cancel a statement. A state sends four of them.
REFUSED_CANCELS = {"holds": float("inf"), "resists": 5}
# Names of the error of an invocation that Lambda ended, one for each invocation that loses its reply.
LOST = ["Lambda.Unknown", "Sandbox.Timedout", "Runtime.ExitError"]


class Failure(Exception):
    """An error of the handler: a name and a text."""


class Statements:
    def __init__(self, log, answer=None):
        self.log, self.answer = log, answer
        self.lock = threading.Lock()
        self.ids, self.statements, self.lost, self.throttled = {}, {}, {}, {}

    def handle(self, event):
        with self.lock:
            assert event["version"] == 1, event
            return getattr(self, event["action"])(event)

    def record(self, **entry):
        with open(self.log, "a", encoding="utf-8") as log:
            log.write(json.dumps(entry) + "\n")

    def submit(self, event):
        assert ("call" in event) + ("sql" in event) + ("batch" in event) == 1, event
        identity = event["identity"]
        assert set(identity) <= {"execution", "redrive", "step", "attempt"}, identity
        key = json.dumps([identity, event.get("call"), event.get("sql"), event.get("batch")])
        text = event.get("call") or event.get("sql") or event["batch"][-1]
        name = text.split("(")[0].split(".")[-1]
        # MiniStack ignores an invocation that fails while a task waits for its token.
        if name == "throttles" and "task_token" not in event:
            self.throttle("submit", identity["execution"])
        if key not in self.ids:
            self.ids[key] = str(uuid.uuid4())
            self.statements[self.ids[key]] = {"name": name, "polls": 0, "attempt": identity["attempt"], "cancels": 0,
                                              "cancelled": False}
            self.record(ran=text, step=identity["step"], execution=identity["execution"], attempt=identity["attempt"],
                        parameters=event.get("parameters"), batch=event.get("batch"))
        # MiniStack ignores an invocation that fails while a task waits for its token.
        if name == "loses_reply" and "task_token" not in event:
            lost = self.lost[key] = self.lost.get(key, 0) + 1
            if lost <= len(LOST):
                raise Failure(LOST[lost - 1], "the invocation was lost")
        if event.get("task_token") and self.answer:
            self.answer(event["task_token"], lambda: self.end(self.ids[key]))
        return self.state(self.ids[key])

    def throttle(self, action, of):
        """Refuses the first two requests of an action."""
        refused = self.throttled[action, of] = self.throttled.get((action, of), 0) + 1
        if refused <= 2:
            self.record(throttled=action)
            raise Failure("RedshiftData.ThrottlingException", "Rate exceeded")

    def end(self, id):
        """The end of a statement, or None for one that has no event."""
        with self.lock:
            self.statements[id]["polls"] = 99
            state = self.state(id)
            return state if state["terminal"] else None

    def status(self, event):
        if self.statements[event["id"]]["name"] == "throttles":
            self.throttle("status", event["id"])
        self.statements[event["id"]]["polls"] += 1
        return self.state(event["id"])

    def cancel(self, event):
        statement = self.statements[event["id"]]
        statement["cancels"] += 1
        if statement["cancels"] <= REFUSED_CANCELS.get(statement["name"], 0):
            self.record(refused=event["id"], name=statement["name"])
            raise Failure("RedshiftData.InternalServerException", "the cancel failed")
        statement["cancelled"] = True
        self.record(cancelled=statement["name"])
        return self.state(event["id"])

    def state(self, id):
        statement = self.statements[id]
        name = statement["name"]
        status, cause, failure = "STARTED", None, None
        if statement["cancelled"]:
            status, cause, failure = "ABORTED", "Query cancelled on user's request", "aborted"
        elif statement["polls"] >= (4 if name == "slow" else 2) and name not in ["hangs", "holds", "resists"]:
            status = "FINISHED"
            if name == "fails":
                status, cause, failure = "FAILED", 'ERROR: column "discount" does not exist', "sql"
            if name == "aborts":
                status, cause, failure = "ABORTED", "Query cancelled on user's request", "aborted"
            if name == "conflicts_once" and statement["attempt"] == 1:
                status, cause, failure = "FAILED", "ERROR: 1023 DETAIL: Serializable isolation violation", "serialization-conflict"
        error = {"FAILED": "Statement.Failed", "ABORTED": "Statement.Aborted"}.get(status)
        return {"version": 1, "id": id, "status": status, "terminal": status != "STARTED", "error": error,
                "cause": cause, "failure": failure}
