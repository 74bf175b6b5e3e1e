"""The AWS CLI against the emulator, as a shell script uses it. Usage: with_aws_cli.py PROGRAM POSTGRESQL_URL"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

AWS = pathlib.Path(sys.executable).parent / "aws"
PLACE = ["--cluster-identifier", "dwh", "--database", "dev"]
FAULTS = """
seed = 9
[[fault]]
fault = "throttle"
rate = 0.2
[[fault]]
fault = "internal error"
rate = 0.15
[[fault]]
fault = "lost reply"
rate = 0.15
"""


def start(program, *arguments):
    emulator = subprocess.Popen([program, "--listen", "127.0.0.1:0", *arguments], stdout=subprocess.PIPE, text=True)
    return emulator, emulator.stdout.readline().removeprefix("listening on ").strip()


def cli(url, *words, expect=0):
    environment = os.environ | {
        "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_MAX_ATTEMPTS": "10", "AWS_RETRY_MODE": "standard", "AWS_PAGER": "", "AWS_CONFIG_FILE": os.devnull,
    }
    command = [sys.executable, AWS, "--endpoint-url", url, "--output", "json", "redshift-data", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    # 255: the service responded with an error.
    assert done.returncode == expect, (words, done.returncode, done.stdout, done.stderr)
    return json.loads(done.stdout) if done.stdout else done.stderr


def uses(url):
    done = cli(url, "execute-statement", "--sql", "SELECT n, 'x' || n AS name FROM generate_series(1, :high::int) AS n",
               "--parameters", "name=high,value=1200", "--wait-time-seconds", "20", *PLACE)
    assert done["Status"] == "FINISHED", done
    result = cli(url, "get-statement-result", "--id", done["Id"])
    assert len(result["Records"]) == 1200 and result["Records"][-1] == [{"longValue": 1200}, {"stringValue": "x1200"}], "all pages"
    assert [column["typeName"] for column in result["ColumnMetadata"]] == ["int4", "varchar"], result["ColumnMetadata"]

    batch = cli(url, "batch-execute-statement", "--sqls", "SELECT 1", "SELECT 1 / 0", "--execution-mode", "AUTO_COMMIT",
                "--statement-name", "cli-batch", *PLACE)
    ended = cli(url, "describe-statement", "--id", batch["Id"], "--wait-time-seconds", "20")
    assert [sub["Status"] for sub in ended["SubStatements"]] == ["FINISHED", "FAILED"], ended
    listed = cli(url, "list-statements", "--statement-name", "cli-", "--status", "ALL")
    assert batch["Id"] in [statement["Id"] for statement in listed["Statements"]], listed

    nap = cli(url, "execute-statement", "--sql", "SELECT pg_sleep(600)", *PLACE)
    cli(url, "describe-statement", "--id", nap["Id"], "--wait-time-seconds", "1")
    return nap["Id"]


def main(program, postgres):
    emulator, url = start(program, "--postgres", postgres)
    assert cli(url, "cancel-statement", "--id", uses(url))["Status"] is True
    assert "ResourceNotFoundException" in cli(url, "describe-statement", "--id", "d9b6c0c9-0747-4bf4-b142-e8883122f766", expect=255)
    assert "regular expression" in cli(url, "describe-statement", "--id", "not-an-id", expect=255)
    tables = cli(url, "list-tables", "--schema-pattern", "pg_catalog", "--page-size", "50", *PLACE)["Tables"]
    assert len(tables) > 100, len(tables)
    emulator.send_signal(signal.SIGTERM)
    assert emulator.wait() == 0

    # The same calls while every second request is throttled, gets a status 500 or loses its connection.
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as faults:
        faults.write(FAULTS)
        faults.flush()
        emulator, url = start(program, "--postgres", postgres, "--faults", faults.name)
        uses(url)
        emulator.send_signal(signal.SIGTERM)
        assert emulator.wait() == 0
    version = subprocess.run([sys.executable, AWS, "--version"], capture_output=True, text=True).stdout.split()[0]
    print(f"{version}: results on all pages, batch, cancel, listings, errors; the same with faults")


if __name__ == "__main__":
    main(*sys.argv[1:])
