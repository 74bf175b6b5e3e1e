"""Servers that the checks start: the emulator, and MiniStack."""
import contextlib
import os
import socket
import subprocess
import time

KEYS = {"region_name": "us-east-1", "aws_access_key_id": "123456789012", "aws_secret_access_key": "x"}


def check(name, condition, found):
    if not condition:
        raise SystemExit(f"{name}: {found}")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def running(arguments, **options):
    process = subprocess.Popen(arguments, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def emulator(program, postgres):
    with running([program, "--listen", "127.0.0.1:0", "--postgres", postgres], stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().removeprefix("listening on ").strip()


@contextlib.contextmanager
def ministack(arguments, log, scale, config=None, **variables):
    """Starts MiniStack with pauses of `scale` of their length. Its output goes to the file `log`. Returns its URL, and a client
    of Step Functions."""
    import boto3

    port = free_port()
    environment = {**os.environ, "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "SFN_WAIT_SCALE": scale,
                   "MINISTACK_ACCOUNT_ID": KEYS["aws_access_key_id"], **variables}
    with open(log, "w") as output, running(arguments, env=environment, stdout=output, stderr=subprocess.STDOUT) as process:
        url = f"http://127.0.0.1:{port}"
        client = boto3.client("stepfunctions", endpoint_url=url, config=config, **KEYS)
        for _ in range(150):
            check("MiniStack ended", process.poll() is None, log)
            try:
                client.list_state_machines()
                break
            except Exception:
                time.sleep(0.2)
        else:
            check("MiniStack does not respond", False, log)
        yield url, client
