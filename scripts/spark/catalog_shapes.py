"""Tables of many shapes, each synchronized by both sides: several partition columns, folders without names, days, hours, encoded values,
nested types, other options. A table with options of a sync gives them to both.
"""

import json
import pathlib
import subprocess
from dataclasses import dataclass, field
from typing import Callable

import hudi_glue
from hudi_glue import same

SYNC = "hoodie.datasource.hive_sync."
EXTRACTOR = SYNC + "partition_extractor_class"
REGIONS = ["eu", "us", "ap", "sa"]


def time(at):
    return f"2026-03-01T00:00:{at:02}Z"


@dataclass
class Shape:
    """A table: its columns, and its row of a key at a time."""

    name: str
    columns: str
    row: Callable
    partitions: list = field(default_factory=list)
    create: list = field(default_factory=list)
    options: dict = field(default_factory=dict)


def several(key, at):
    return {"id": key, "region": REGIONS[key % 4], "day": f"2026-02-0{key % 3 + 1}", "slot": key % 2, "at": time(at)}


def dated(form):
    return lambda key, at: {"id": key, "day": form.format(key % 5 + 1), "at": time(at)}


def deep(key, at):
    place = {"city": "x", "geo": {"lat": 1.5, "seen": time(at)}}
    items = [{"sku": "a", "price": "1.25", "days": ["2026-03-01"]}]
    return {"id": key, "place": place, "items": items, "tags": {"k": "2026-03-01"}, "amount": "1.5", "d1": "1", "at": time(at)}


def plain(key, at):
    return {"id": key, "region": REGIONS[key % 4], "at": time(at)}


def odd(key, at):
    return {"id": key, "region": ["a b=c", "x/y", None, "100%", "ü"][key % 5], "at": time(at)}


SEVERAL = "id bigint, region string, day date, slot int, at timestamp"
DAYS = "id bigint, day string, at timestamp"
DEEP = ("id bigint, place struct<city: string, geo: struct<lat: double, seen: timestamp>>, items array<struct<sku: string, price: decimal(9,2), "
        "days: array<date>>>, tags map<string, date>, amount decimal(38,10), d1 decimal(1,0), at timestamp")
PLAIN = "id bigint, region string, at timestamp"

SHAPES = [
    Shape("several", SEVERAL, several, ["region", "day", "slot"]),
    Shape("unnamed", SEVERAL, several, ["region", "day", "slot"], ["--no-hive-style"]),
    Shape("one_unnamed", PLAIN, plain, ["region"], ["--no-hive-style"]),
    Shape("encoded", PLAIN, odd, ["region"], ["--url-encode"]),
    Shape("days", DAYS, dated("2026/3/{}"), ["day"], ["--no-hive-style"],
          {EXTRACTOR: "org.apache.hudi.hive.SlashEncodedDayPartitionValueExtractor"}),
    Shape("hours", DAYS, dated("2026/03/01/0{}"), ["day"], ["--no-hive-style"],
          {EXTRACTOR: "org.apache.hudi.hive.SlashEncodedHourPartitionValueExtractor"}),
    Shape("slashes", DAYS, dated("2026/03/0{}"), ["day"], ["--no-hive-style"]),
    Shape("unpartitioned", PLAIN, plain),
    Shape("deep", DEEP, deep),
    Shape("deep_bigints", DEEP, deep, [], [], {SYNC + "support_timestamp": "false"}),
    Shape("no_meta", PLAIN, plain, ["region"], [], {SYNC + "omit_metadata_fields": "true"}),
    Shape("no_spark", PLAIN, plain, ["region"], [], {SYNC + "sync_as_datasource": "false"}),
    Shape("properties", PLAIN, plain, ["region"], [],
          {SYNC + "table_properties": "team=data\nclassification = parquet\nempty", SYNC + "serde_properties": "s1=v1"}),
    Shape("short", DEEP, deep, [], [], {SYNC + "schema_string_length_thresh": "100"}),
    Shape("conditional", PLAIN, plain, ["region"], [], {"hoodie.datasource.meta_sync.condition.sync": "true"}),
]


QUICK = {"several", "days", "deep"}


class Table:
    """A table of a shape on the local disk."""

    def __init__(self, shape, binary, endpoint, lake):
        self.shape, self.binary, self.endpoint, self.lake, self.at = shape, binary, endpoint, pathlib.Path(lake), 0
        self.more = {}
        (self.lake / "columns.txt").write_text(shape.columns)
        partitions = ["--partition-by", ",".join(shape.partitions)] if shape.partitions else []
        self.run("create", "--name", shape.name, "--record-key", "id", "--ordering-field", "at", *partitions, *shape.create,
                 "--schema", "columns.txt")

    def run(self, command, *words):
        words = [self.binary, *command.split(), self.shape.name, *words]
        done = subprocess.run(words, cwd=self.lake, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(words)}: {done.stdout}{done.stderr}")

    def put(self, keys, command="upsert", *words):
        self.at += 1
        rows = [json.dumps(self.shape.row(key, self.at) | self.more) for key in keys]
        (self.lake / "rows.jsonl").write_text("\n".join(rows) + "\n")
        self.run(command, "--input", "rows.jsonl", *words)

    def add(self, column, value):
        self.more[column] = value
        self.put([1, 5])

    def catalog(self, action, database):
        options = {SYNC + "support_timestamp": "true"} | self.shape.options
        words = [word for name, value in options.items() for word in ("--option", f"{name}={value}")]
        location = f"{hudi_glue.BUCKET}/{self.shape.name}"
        self.run(f"catalog {action}", "--database", database, "--location", location, "--endpoint-url", self.endpoint, *words)


def steps(table):
    return [
        ("first", lambda: table.put([1, 2])),
        ("a commit", lambda: table.put([1])),
        ("new partitions", lambda: table.put([3, 4])),
        ("a new column", lambda: table.add("points", 7)),
        ("overwritten", lambda: table.put([2], "insert-overwrite")),
        ("overwritten whole", lambda: table.put([1], "insert-overwrite", "--whole-table")),
        ("dropped partitions again", lambda: table.put([2, 3])),
    ]


def turns(binary, endpoint, lake, hudis, glue, quick):
    """Both sides synchronize each table, apart and in turns. The catalogs are equal, and the second of two syncs changes nothing."""
    for shape in (shape for shape in SHAPES if shape.name in QUICK or not quick):
        table = Table(shape, binary, endpoint, lake)
        options = {"hoodie.datasource.write.hive_style_partitioning": str("--no-hive-style" not in shape.create).lower()} | shape.options
        theirs = lambda database: hudis.sync(database, shape.name, ",".join(shape.partitions), **options)
        for number, (step, write) in enumerate(steps(table)):
            where = f"{shape.name}, {step}"
            write()
            table.catalog("sync", "by_us")
            commit = glue.last_commit("by_us", shape.name)
            # Hudi 0.15.0 does not await its updates, and can lose a new column.
            if step == "a new column":
                table.catalog("sync", "by_hudi")
            theirs("by_hudi")
            glue.wait_for("by_hudi", shape.name, commit)
            syncs = [lambda: table.catalog("sync", "in_turns"), lambda: theirs("in_turns")]
            for turn, sync in enumerate(syncs if number % 2 == 0 or step == "a new column" else reversed(syncs)):
                before = glue.state("in_turns", shape.name) if turn else None
                sync()
                glue.wait_for("in_turns", shape.name, commit)
                if turn:
                    glue.unchanged(where, "in_turns", shape.name, before)
            by_us = glue.contents("by_us", shape.name)
            same(where, "Hudi's catalog", glue.contents("by_hudi", shape.name), by_us)
            same(where, "the catalog of both", glue.contents("in_turns", shape.name), by_us)
            for database in ("by_us", "by_hudi", "in_turns"):
                table.catalog("check", database)
        print(f"{shape.name}: the three catalogs are equal after each commit, {len(by_us['Partitions'])} partitions")
