"""Trino reads a table of hudi-scd on S3 by its entry in a Glue catalog: columns, partitions and rows after each sync.

    trino.py --binary HUDI_SCD --endpoint URL --trino FOLDER --folder TEMPORARY

Start it by scripts/spark/trino. It exits with 1 and names what differs.
"""

import argparse
import http.server
import json
import os
import pathlib
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

BUCKET, DATABASE, TABLE = "trino", "lake", "customer"
COLUMNS = "id bigint, name string, region string, day date, balance decimal(15,2), at timestamp"
TYPES = {"id": "bigint", "name": "varchar", "balance": "decimal(15,2)", "at": "timestamp(6)", "region": "varchar", "day": "date"}
CONFIG = {
    "node.properties": "node.environment=test\nnode.id=one\nnode.data-dir={folder}/data",
    "config.properties": "coordinator=true\nnode-scheduler.include-coordinator=true\nhttp-server.http.port={port}\n"
    "node.internal-address=127.0.0.1\ndiscovery.uri=http://127.0.0.1:{port}\nquery.max-memory=512MB",
    "jvm.config": "-server\n-Xmx1500M\n-XX:+UseG1GC\n-XX:+ExitOnOutOfMemoryError\n-Duser.timezone=UTC\n"
    "-Djdk.attach.allowAttachSelf=true\n--add-opens=java.base/java.nio=ALL-UNNAMED",
    "log.properties": "io.trino=WARN",
    # Moto returns all partitions for each segment.
    "catalog/hive.properties": "connector.name=hive\nhive.metastore=glue\nhive.metastore.glue.region=us-east-1\n"
    "hive.metastore.glue.endpoint-url={glue}\nhive.metastore.glue.aws-access-key=id\n"
    "hive.metastore.glue.aws-secret-key=secret\nhive.metastore.glue.partitions-segments=1\n"
    "hive.s3.endpoint={endpoint}\nhive.s3.aws-access-key=id\nhive.s3.aws-secret-key=secret\n"
    "hive.s3.path-style-access=true\nhive.s3.ssl.enabled=false\nhive.timestamp-precision=MICROSECONDS",
}


class Filled(http.server.BaseHTTPRequestHandler):
    """A proxy of the server's Glue that adds the members with which AWS fills up a storage descriptor, and which Trino needs."""

    endpoint = None
    filled = {"NumberOfBuckets": 0, "Compressed": False, "BucketColumns": [], "SortColumns": [], "StoredAsSubDirectories": False}

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kept = {name: self.headers[name] for name in ("X-Amz-Target", "Content-Type", "Authorization") if name in self.headers}
        try:
            with urllib.request.urlopen(urllib.request.Request(self.endpoint, body, kept), timeout=60) as reply:
                status, text = reply.status, reply.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        text = json.dumps(self.fill(json.loads(text or b"{}"))).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def fill(self, value):
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        if not isinstance(value, dict):
            return value
        value = {name: self.fill(item) for name, item in value.items()}
        if "StorageDescriptor" in value:
            value["StorageDescriptor"] = self.filled | value["StorageDescriptor"]
        return value

    def log_message(self, *_):
        pass


def glue_of(endpoint):
    """Starts the proxy, and returns its URL."""
    Filled.endpoint = endpoint
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Filled)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


class Trino:
    """A server of its own, and queries to it."""

    def __init__(self, home, endpoint, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        etc, values = pathlib.Path(folder, "etc"), {"folder": folder, "port": port, "endpoint": endpoint, "glue": glue_of(endpoint)}
        for name, text in CONFIG.items():
            file = etc / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text.format(**values) + "\n")
        self.log = pathlib.Path(folder, "trino.log")
        launcher = ["python3", f"{home}/bin/launcher.py", "run", "--etc-dir", str(etc)]
        # The launcher becomes the server, so its process is the one to end.
        self.process = subprocess.Popen(launcher, stdout=self.log.open("w"), stderr=subprocess.STDOUT)
        self.url = f"http://127.0.0.1:{port}/v1/statement"

    def wait(self):
        end = time.monotonic() + 300
        while True:
            try:
                if self.query("select 1", "system") == [[1]]:
                    return
            except (urllib.error.URLError, ConnectionError, SystemExit):
                pass
            if self.process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"Trino does not start: {self.log.read_text()[-3000:]}")
            time.sleep(1)

    def query(self, sql, catalog="hive"):
        """Returns the rows of a query."""
        headers = {"X-Trino-User": "test", "X-Trino-Catalog": catalog, "X-Trino-Schema": DATABASE, "X-Trino-Time-Zone": "UTC",
                   # Times with microseconds.
                   "X-Trino-Client-Capabilities": "PARAMETRIC_DATETIME"}
        request, rows = urllib.request.Request(self.url, sql.encode(), headers), []
        while request:
            with urllib.request.urlopen(request, timeout=120) as reply:
                page = json.loads(reply.read())
            if "error" in page:
                raise SystemExit(f"{sql}: {page['error']['message']}")
            rows += page.get("data", [])
            request = page.get("nextUri")
        return rows

    def close(self):
        self.process.terminate()
        self.process.wait(60)


class Ours:
    """The table, and a model of its rows."""

    def __init__(self, binary, endpoint, folder):
        self.binary, self.folder, self.rows, self.time, self.more = os.path.abspath(binary), pathlib.Path(folder), {}, 0, []
        self.environment = os.environ | {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1",
                                         "AWS_ENDPOINT_URL": endpoint}
        (self.folder / "columns.txt").write_text(COLUMNS)
        self.run("create", "--name", TABLE, "--record-key", "id", "--ordering-field", "at", "--partition-by", "region,day",
                 "--schema", "columns.txt")

    def run(self, command, *words):
        table = [*command.split(), f"s3://{BUCKET}/lake/{TABLE}"]
        done = subprocess.run([self.binary, *table, *words], cwd=self.folder, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"hudi-scd {command}: {done.stdout}{done.stderr}")

    def put(self, command, rows, *words):
        self.time += 1
        names = ["id", "name", "region", "day", "balance", "at", *self.more]
        lines = []
        for key, region, day in rows:
            at = f"2026-03-01T00:00:{self.time:02}.123456Z"
            row = [key, f"n{key} at {self.time}", region, day, f"{key}.25", at, *("7" for _ in self.more)]
            lines.append(",".join(map(str, row)))
            self.rows[key] = {**dict(zip(names, row)), "at": f"2026-03-01 00:00:{self.time:02}.123456"}
        (self.folder / "rows.csv").write_text("\n".join([",".join(names), *lines]) + "\n")
        self.run(command, "--input", "rows.csv", *words)

    def overwrite(self, rows):
        replaced = {(region, day) for _, region, day in rows}
        self.rows = {key: row for key, row in self.rows.items() if (row["region"], row["day"]) not in replaced}
        self.put("insert-overwrite", rows)

    def delete(self, key):
        (self.folder / "keys.csv").write_text(f"id\n{key}\n")
        self.run("delete", "--keys", "keys.csv")
        del self.rows[key]

    def sync(self):
        self.run("catalog sync", "--database", DATABASE, "--option", "hoodie.datasource.hive_sync.support_timestamp=true")


def same(step, what, found, expected):
    if found != expected:
        raise SystemExit(f"{step}: Trino finds the {what} {found!r}, and not {expected!r}")


def compare(step, trino, ours, partitions):
    columns = [name for name, *_ in trino.query(f"show columns from {TABLE}") if not name.startswith("_hoodie_")]
    types = {name: kind for name, kind, *_ in trino.query(f"show columns from {TABLE}") if name in columns}
    same(step, "columns", types, TYPES | {name: "bigint" for name in ours.more})
    listed = sorted("/".join(map(str, row)) for row in trino.query(f'select region, day from "{TABLE}$partitions"'))
    same(step, "partitions", listed, sorted(partitions))
    names = sorted(columns)
    found = trino.query(f"select {', '.join(names)} from {TABLE} order by id")
    expected = [[row.get(name) if name not in ours.more else int(row[name]) if name in row else None for name in names]
                for _, row in sorted(ours.rows.items())]
    same(step, "rows", found, expected)
    for region in {row["region"] for row in ours.rows.values()}:
        count = sum(row["region"] == region for row in ours.rows.values())
        same(step, f"number of rows in {region}", trino.query(f"select count(*) from {TABLE} where region = '{region}'"), [[count]])
    print(f"{step}: Trino finds {len(types)} columns, {len(listed)} partitions, {len(found)} rows")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("binary", "endpoint", "trino", "folder"):
        parser.add_argument(f"--{name}", required=True)
    a = parser.parse_args()
    trino = Trino(os.path.abspath(a.trino), a.endpoint, a.folder)
    try:
        urllib.request.urlopen(urllib.request.Request(f"{a.endpoint}/{BUCKET}", method="PUT"), timeout=60).close()
        ours = Ours(a.binary, a.endpoint, a.folder)
        first, second = "2026-03-01", "2026-03-02"
        steps = [
            ("first", lambda: ours.put("upsert", [(1, "eu", first), (2, "us", first), (3, "eu", second)]),
             ["eu/2026-03-01", "us/2026-03-01", "eu/2026-03-02"]),
            ("updates", lambda: ours.put("upsert", [(1, "eu", first), (2, "us", first)]), None),
            ("a new partition", lambda: ours.put("upsert", [(4, "q r", first)]), ["eu/2026-03-01", "us/2026-03-01", "eu/2026-03-02", "q r/2026-03-01"]),
            ("a row moves", lambda: ours.put("upsert", [(3, "us", first)]), None),
            ("a deleted row", lambda: ours.delete(1), None),
            ("a partition overwritten", lambda: ours.overwrite([(9, "us", first)]), None),
            ("a new column", lambda: (ours.more.append("points"), ours.put("upsert", [(9, "us", first), (5, "eu", first)])), None),
        ]
        trino.wait()
        partitions = []
        for step, write, now in steps:
            write()
            ours.sync()
            partitions = now or partitions
            compare(step, trino, ours, partitions)
    finally:
        trino.close()


if __name__ == "__main__":
    main()
