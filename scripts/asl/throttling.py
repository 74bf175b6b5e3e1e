"""A proxy for the Data API that throttles the requests it is told to throttle."""
import contextlib
import json
import threading
import urllib.error
import urllib.request
from http.server import ThreadingHTTPServer

from function import Quiet


class Throttling(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, service):
        super().__init__(("127.0.0.1", 0), Handler)
        self.service, self.url, self.lock = service, f"http://127.0.0.1:{self.server_port}", threading.Lock()
        # Operations, such as `ExecuteStatement`. A request for the first one is refused, and removes it.
        self.ahead = []

    def refuses(self, operation):
        with self.lock:
            if self.ahead[:1] != [operation]:
                return False
            self.ahead.pop(0)
            return True


class Handler(Quiet):
    def do_POST(self):
        body, target = self.body(), self.headers["X-Amz-Target"]
        if self.server.refuses(target.rsplit(".", 1)[-1]):
            refusal = {"__type": "ThrottlingException", "message": "Rate exceeded"}
            return self.reply(400, json.dumps(refusal).encode(), x_amzn_RequestId="throttled")
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ["host", "transfer-encoding"]}
        request = urllib.request.Request(self.server.service, body, headers, method="POST")
        try:
            with urllib.request.urlopen(request) as response:
                self.reply(response.status, response.read())
        except urllib.error.HTTPError as error:
            self.reply(error.code, error.read(), **{"X_Amzn_ErrorType": error.headers.get("X-Amzn-ErrorType", "")})


@contextlib.contextmanager
def throttling(service):
    server = Throttling(service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
