"""Hudi's sync to AWS Glue and that of hudi-scd, on one table and one server: in turns, or timed.

    catalog.py --binary HUDI_SCD --endpoint URL --jars FOLDER [--quick | --bench]

Start it by scripts/spark/catalog. It exits with 1 and names what differs, or a limit that is exceeded.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import time

import catalog_results
import catalog_shapes
import hudi_glue
from hudi_glue import same

TABLE = "customer"
COLUMNS = "id bigint, name string, region string, balance decimal(15,2), at timestamp"
OPTION = ["--option", "hoodie.datasource.hive_sync.support_timestamp=true"]
# Times of Hudi's sync over ours.
LIMIT = 5


class Ours:
    """A table of hudi-scd on the local disk, and its sync."""

    def __init__(self, binary, endpoint, lake):
        self.binary, self.endpoint, self.lake = os.path.abspath(binary), endpoint, pathlib.Path(lake)
        self.time, self.more = 0, []
        self.write("columns.txt", COLUMNS)
        self.run("create", TABLE, "--name", TABLE, "--record-key", "id", "--ordering-field", "at", "--partition-by", "region",
                 "--schema", "columns.txt")

    def write(self, name, text):
        (self.lake / name).write_text(text)

    def run(self, *words):
        found = subprocess.run([self.binary, *words], cwd=self.lake, capture_output=True, text=True)
        if found.returncode:
            raise SystemExit(f"hudi-scd {' '.join(words)}: {found.stdout}{found.stderr}")
        return found.stdout

    def put(self, rows, *words):
        """Writes rows of a key and a region by a command."""
        self.time += 1
        lines = [",".join([f"{key},n{key},{region},{key}.25,2026-03-01T00:00:{self.time:02}Z", *("7" for _ in self.more)]) for key, region in rows]
        self.write("rows.csv", "\n".join([",".join(["id,name,region,balance,at", *self.more]), *lines]) + "\n")
        self.run(words[0], TABLE, "--input", "rows.csv", *words[1:])

    def upsert(self, rows):
        self.put(rows, "upsert")

    def add_column(self, name, rows):
        self.more.append(name)
        self.put(rows, "upsert")

    def delete(self, key):
        self.write("keys.csv", f"id\n{key}\n")
        self.run("delete", TABLE, "--keys", "keys.csv")

    def catalog(self, action, database):
        location = f"{hudi_glue.BUCKET}/{TABLE}"
        return self.run("catalog", action, TABLE, "--database", database, "--location", location, "--endpoint-url", self.endpoint, *OPTION)

    def sync(self, database):
        """Synchronizes the table, and returns the seconds of the whole process."""
        begin = time.monotonic()
        self.catalog("sync", database)
        return time.monotonic() - begin


def turns(ours, hudis, glue):
    """Each side alone syncs a table into a database, and both in turns into a third. The catalogs are equal after each commit, and the
    second of two syncs changes nothing. A new column is registered by us first: Hudi 0.15.0 does not await its updates, and can lose it.
    """
    steps = [
        ("first", lambda: ours.upsert([(1, "eu"), (2, "us"), (3, "eu")])),
        ("a commit", lambda: ours.upsert([(1, "eu")])),
        ("a new partition", lambda: ours.upsert([(4, "ap"), (2, "us")])),
        ("a row moves to a new partition", lambda: ours.upsert([(3, "sa")])),
        ("a deleted row", lambda: ours.delete(1)),
        ("a partition overwritten", lambda: ours.put([(9, "us")], "insert-overwrite")),
        ("two partitions at once", lambda: ours.upsert([(5, "q 1"), (6, "q2")])),
        ("a new column", lambda: ours.add_column("points", [(5, "q 1"), (7, "eu")])),
        ("a commit after it", lambda: ours.upsert([(5, "q 1")])),
        ("the table overwritten", lambda: ours.put([(1, "eu"), (8, "me")], "insert-overwrite", "--whole-table")),
        ("a dropped partition again", lambda: ours.upsert([(2, "us")])),
    ]
    for number, (step, write) in enumerate(steps):
        write()
        ours.sync("by_us")
        commit = glue.last_commit("by_us", TABLE)
        if step == "a new column":
            ours.sync("by_hudi")
        hudis.sync("by_hudi", TABLE, "region")
        glue.wait_for("by_hudi", TABLE, commit)
        syncs = [lambda: ours.sync("in_turns"), lambda: hudis.sync("in_turns", TABLE, "region")]
        for turn, sync in enumerate(syncs if number % 2 == 0 or step == "a new column" else reversed(syncs)):
            before = glue.state("in_turns", TABLE) if turn else None
            sync()
            glue.wait_for("in_turns", TABLE, commit)
            if turn:
                glue.unchanged(step, "in_turns", TABLE, before)
        by_us = glue.contents("by_us", TABLE)
        same(step, "Hudi's catalog", glue.contents("by_hudi", TABLE), by_us)
        same(step, "the catalog of both", glue.contents("in_turns", TABLE), by_us)
        for database in ("by_us", "by_hudi", "in_turns"):
            ours.catalog("check", database)
        print(f"{step}: the three catalogs are equal, {len(by_us['Partitions'])} partitions")


def drop(glue, database):
    glue.call("DeleteTable", DatabaseName=database, Name=TABLE)


def bench(ours, hudis, glue, partitions, runs):
    """Returns rows of case, medians of both, and their quotient."""
    ours.upsert([(key, f"r{key:05}") for key in range(partitions)])
    cases = {"first sync": [], "nothing to do": [], "one new partition": []}

    def both(case):
        begin = ours.sync("by_us")
        commit = glue.last_commit("by_us", TABLE)
        cases[case].append((begin, hudis.sync("by_hudi", TABLE, "region")))
        glue.wait_for("by_hudi", TABLE, commit)

    for warm in range(5):
        hudis.sync("by_hudi", TABLE, "region")
        ours.sync("by_us")
        time.sleep(1)
    for _ in range(runs):
        drop(glue, "by_us"), drop(glue, "by_hudi")
        both("first sync")
    for _ in range(runs):
        both("nothing to do")
    for run in range(runs):
        ours.upsert([(partitions + run, f"s{run:05}")])
        both("one new partition")
    same("end", "Hudi's catalog", glue.contents("by_hudi", TABLE), glue.contents("by_us", TABLE))
    return [(case, *(statistics.median(side) for side in zip(*seconds))) for case, seconds in cases.items()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--jars", required=True)
    parser.add_argument("--folder", required=True, help="a temporary folder")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--bench", action="store_true")
    parser.add_argument("--partitions", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=7)
    a = parser.parse_args()
    lake = pathlib.Path(a.folder, "lake")
    lake.mkdir()
    hudis, glue = hudi_glue.Tool(a.jars, a.endpoint, lake, a.folder), hudi_glue.Glue(a.endpoint)
    ours = Ours(a.binary, a.endpoint, lake)
    try:
        if a.bench:
            rows = bench(ours, hudis, glue, a.partitions, a.runs)
            catalog_results.publish(rows, a.partitions, a.runs, "debug" if "/debug/" in a.binary else "release", LIMIT)
        else:
            turns(ours, hudis, glue)
            catalog_shapes.turns(ours.binary, a.endpoint, lake, hudis, glue, a.quick)
    finally:
        hudis.close()


if __name__ == "__main__":
    main()
