"""The executable as Lambda functions for an interpreter that sends invocations by HTTP.

Each function has processes of its own, which get their events from a Runtime API here, as on AWS.
"""
import contextlib
import json
import queue
import subprocess
import threading
import time
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from statements import Failure

ARN = "arn:aws:lambda:us-east-1:123456789012:function:"
# Events that a function handles at the same time.
PROCESSES = 3


class Functions(ThreadingHTTPServer):
    """Serves `Invoke` to the interpreter."""
    daemon_threads = True

    def __init__(self, bootstrap):
        super().__init__(("127.0.0.1", 0), Handler)
        self.bootstrap, self.url = bootstrap, f"http://127.0.0.1:{self.server_port}"
        self.processes, self.events, self.posts = [], {}, {}
        # Functions of Python instead of processes.
        self.doubles = {}
        # Decides for each event whether the response to its invocation is lost.
        self.loses = lambda event: False

    def create(self, name, **variables):
        runtime = Runtime(self)
        variables = {"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_EC2_METADATA_DISABLED": "true",
                     "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{runtime.server_port}", "AWS_LAMBDA_FUNCTION_NAME": name,
                     "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512", **variables}
        self.events[name] = runtime.events
        for _ in range(PROCESSES):
            self.processes.append(subprocess.Popen(
                [self.bootstrap], env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        return ARN + name

    def invoke(self, name, event):
        """Returns the kind of the result (`response` or `error`), and its body."""
        if name in self.doubles:
            try:
                return "response", json.dumps(self.doubles[name](json.loads(event))).encode()
            except Failure as failure:
                error, cause = failure.args
                return "error", json.dumps({"errorType": error, "errorMessage": cause}).encode()
        request = uuid.uuid4().hex
        posted = self.posts[request] = queue.Queue()
        self.events[name].put((request, event))
        try:
            return posted.get(timeout=60)
        finally:
            del self.posts[request]


class Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while length := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(length))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def reply(self, status, body, **headers):
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


class Handler(Quiet):
    """`Invoke` of Lambda."""

    def do_POST(self):
        event = self.body()
        # /2015-03-31/functions/NAME/invocations
        name = urllib.parse.unquote(self.path.split("/")[3]).rsplit(":", 1)[-1]
        kind, body = self.server.invoke(name, event)
        if self.server.loses(json.loads(event)):
            return self.reply(500, json.dumps({"Type": "Service", "message": "the response was lost"}).encode(),
                              x_amzn_ErrorType="ServiceException", x_amzn_RequestId=uuid.uuid4().hex)
        failed = {"X_Amz_Function_Error": "Unhandled"} if kind == "error" else {}
        return self.reply(200, body, X_Amz_Executed_Version="$LATEST", x_amzn_RequestId=uuid.uuid4().hex, **failed)


class Runtime(ThreadingHTTPServer):
    """The Runtime API of one function."""
    daemon_threads = True

    def __init__(self, functions):
        super().__init__(("127.0.0.1", 0), Invocations)
        self.functions, self.events = functions, queue.Queue()
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Invocations(Quiet):
    def do_GET(self):
        request, event = self.server.events.get()
        self.reply(200, event, Lambda_Runtime_Aws_Request_Id=request, Lambda_Runtime_Invoked_Function_Arn=ARN + "f",
                   Lambda_Runtime_Deadline_Ms=str(int((time.time() + 60) * 1000)))

    def do_POST(self):
        *_, request, kind = self.path.split("/")
        if request in self.server.functions.posts:
            self.server.functions.posts[request].put((kind, self.body()))
        self.reply(202, b"{}")


@contextlib.contextmanager
def functions(bootstrap):
    server = Functions(bootstrap)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        for process in server.processes:
            process.kill()
            process.wait()
