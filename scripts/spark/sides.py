"""The sides of the comparison: ours, a version of Spark with Hudi, and the official reader in Rust. Each returns rows in the form of JSON."""

import base64
import datetime
import decimal
import importlib.metadata
import json
import os
import pathlib
import select
import signal
import subprocess
import time

import hudi
import pyarrow

import changes

# Maximum seconds for a response of Spark.
PATIENCE = 600
HERE = pathlib.Path(__file__).parent


class Refused(Exception):
    """An engine responded with an error."""


class Ours:
    """The binary `hudi-scd`."""

    name = "hudi-scd"
    decodes_since = True

    def __init__(self, binary):
        self.binary = binary

    def run(self, *arguments, json_lines=True):
        """Returns the JSON lines that a command prints."""
        command = [self.binary, *map(str, arguments), *(["--json"] if json_lines else [])]
        done = subprocess.run(command, capture_output=True, text=True)
        found = [json.loads(line) for line in done.stdout.splitlines() if line] if json_lines else []
        if done.returncode and not (arguments[0] == "validate" and found):
            raise Refused(f"hudi-scd {' '.join(command[1:])}: {done.stderr.strip()}")
        return found

    def save_rows(self, table, file):
        """Writes the latest rows to a Parquet file."""
        self.run("read", table, "--format", "parquet", "--output", file, json_lines=False)

    def create(self, table, kind, like, retained):
        self.run(
            *("create", table, "--name", kind.name, "--like", like, "--retain-commits", retained),
            *("--record-key", ",".join(kind.key), "--ordering-field", kind.ordering),
            *(("--partition-by", ",".join(kind.partition)) if kind.partition else ()),
            *(() if kind.hive_style else ("--no-hive-style",)),
            *(("--url-encode",) if kind.url_encode else ()),
        )

    def upsert(self, table, input):
        """Returns the commit's instant, or None if nothing changed."""
        return self.run("upsert", table, "--input", input)[0]["instant"]

    def delete(self, table, keys):
        return self.run("delete", table, "--keys", keys)[0]["instant"]

    def rows(self, table, as_of=None, since=None, until=None):
        query = {"--as-of": as_of, "--since": since, "--until": until}
        return self.run("read", table, *(word for pair in query.items() if pair[1] for word in pair))

    def validate(self, table):
        return [line for line in self.run("validate", table) if "invariant" in line]


class Spark:
    """A process with a session of Spark with a version of Hudi."""

    def __init__(self, version, log):
        python = subprocess.run([HERE / "install", "--python", version], check=True, capture_output=True, text=True).stdout.strip()
        self.version = version
        # In reads since a commit, 1.2.0 returns URL-encoded folder names unchanged (docs/other-engines.md).
        self.decodes_since = version != "1.2.0"
        self.seconds = {}
        self.log = log
        command = [python, HERE / "engine.py", version]
        # Its own files lie beside its log. It has its own process group, so that it can be killed with its
        # JVM.
        environment = os.environ | {"TMPDIR": str(log.parent)}
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(log, "w"), text=True)
        self.process = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)
        self.name = f"Spark {self.answer('start')}, Hudi {version}"

    def answer(self, what):
        begin = time.monotonic()
        if not select.select([self.process.stdout], [], [], PATIENCE)[0]:
            self.kill()
            raise SystemExit(f"Spark with Hudi {self.version} has not responded for {PATIENCE} s: see {self.log}")
        line = self.process.stdout.readline()
        self.seconds.setdefault(what, []).append(time.monotonic() - begin)
        if not line:
            raise SystemExit(f"Spark with Hudi {self.version} died: {self.log} tells why")
        reply = json.loads(line)
        if "error" in reply:
            raise Refused(reply["error"])
        return reply["ok"]

    def ask(self, do, **arguments):
        self.begin(do, **arguments)
        return self.answer(do)

    def begin(self, do, **arguments):
        arguments = {name: str(value) if isinstance(value, pathlib.Path) else value for name, value in arguments.items()}
        self.process.stdin.write(json.dumps({"do": do} | arguments) + "\n")
        self.process.stdin.flush()

    def rows(self, table, **query):
        return self.ask("rows", table=table, **query)

    def cpu_seconds(self):
        """Returns the processor time used by the session's processes."""
        used = 0
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # The process has ended.
            if int(fields[2]) == self.process.pid:
                used += int(fields[11]) + int(fields[12])
        return used / os.sysconf("SC_CLK_TCK")

    def close(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait(60)

    def kill(self):
        """Kills the session without any cleanup, like a power failure."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Hive:
    """Hive 2.3 with the input format of a version of Hudi, in a session of Spark."""

    def __init__(self, spark):
        self.spark = spark
        self.name = f"Hive 2.3, Hudi {spark.version}"

    def rows(self, table, schema):
        """Returns the latest rows of the table."""
        # Base files contain the partition columns too.
        folders = sorted({str(file.parent) for file in pathlib.Path(table).rglob("*.parquet") if ".hoodie" not in file.parts})
        types = [hive_type(of) for of in schema.types]
        found = self.spark.ask("hive_rows", folders=folders, columns=schema.names, types=types)
        return [{field.name: changes.plain(from_hive(row[field.name.lower()], field.type), field.type) for field in schema} for row in found]


def hive_type(of):
    """Returns Hive's name of an Arrow type."""
    types = pyarrow.types
    if types.is_decimal(of):
        return f"decimal({of.precision},{of.scale})"
    if types.is_list(of):
        return f"array<{hive_type(of.value_type)}>"
    if types.is_map(of):
        return f"map<{hive_type(of.key_type)},{hive_type(of.item_type)}>"
    if types.is_struct(of):
        return "struct<" + ",".join(f"{field.name}:{hive_type(field.type)}" for field in of) + ">"
    if types.is_timestamp(of):
        return "bigint"
    names = {"bool": "boolean", "int32": "int", "int64": "bigint", "date32[day]": "date"}
    return names.get(str(of), str(of))


def from_hive(value, of):
    """Converts a value of Hive to an Arrow type."""
    types = pyarrow.types
    if value is None:
        return None
    if types.is_list(of):
        return [from_hive(item, of.value_type) for item in value]
    if types.is_map(of):
        return [(key, from_hive(item, of.item_type)) for key, item in value]
    if types.is_struct(of):
        return {field.name: from_hive(value[field.name.lower()], field.type) for field in of}
    if types.is_decimal(of):
        # Hive removes zeros at the end.
        return decimal.Decimal(value).quantize(decimal.Decimal(1).scaleb(-of.scale), context=decimal.Context(prec=of.precision))
    if types.is_timestamp(of):
        return changes.EPOCH + datetime.timedelta(microseconds=value)
    if types.is_date(of):
        return datetime.date.fromisoformat(value)
    return base64.b64decode(value) if types.is_binary(of) else value


class HudiRs:
    """The official reader in Rust, from its package on PyPI."""

    decodes_since = True
    name = f"hudi-rs {importlib.metadata.version('hudi')}"

    def rows(self, table, as_of=None, since=None, until=None):
        opened = hudi.HudiTableBuilder.from_base_uri(str(table)).build()
        options = hudi.HudiReadOptions()
        if since:
            options = options.with_query_type(hudi.HudiQueryType.Incremental).with_start_timestamp(since)
            if until:
                options = options.with_end_timestamp(until)
        elif as_of:
            options = options.with_as_of_timestamp(as_of)
        rows = []
        for batch in opened.read(options):
            schema = batch.schema
            for row in batch.to_pylist():
                rows.append(
                    {
                        field.name: changes.plain(row[field.name], field.type)
                        for field in schema
                        if not field.name.startswith("_hoodie_") or field.name == "_hoodie_is_deleted"
                    }
                )
        return rows
