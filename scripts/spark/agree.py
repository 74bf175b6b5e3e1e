"""Compares hudi-scd's tables in Spark, Spark's tables in hudi-scd, and tables written by both in turns, row by row with a model.

    scripts/spark/run [--quick] [--hudi VERSION]... [--seed N]... [--only TEXT]... [--keep]

Prints a line for each comparison, with the differences, and then a table of engines and checks. Exits with 1 if a comparison
differs or cannot be made.
"""

import argparse
import concurrent.futures
import os
import pathlib
import shutil
import sys
import tempfile
import time

import pyarrow

import at_once
import both
import changes
import field
import golden
import later
import sides
from report import Report
from table import Table, require, same

WRITERS = ["0.15.0", "1.0.2", "0.14.0"]
READERS = ["1.2.0"]
# They only write to tables of old versions.
OLD = ["0.12.2", "0.10.0", "0.9.0"]
# They write if `--hudi` names them.
ASKED = ["0.15.1"]


class Ours:
    """The tables that hudi-scd writes, read in every engine."""

    def __init__(self, folder, ours, seed, replayed, died):
        self.folder, self.ours, self.seed, self.replayed, self.died = folder, ours, seed, replayed, died
        self.tables = []

    def write_all(self, report):
        for kind in changes.KINDS:
            report.check(self.ours.name, "a table's life", kind.name, self.write, kind)

    def write(self, kind):
        """Creates a table written only by hudi-scd: changes, moves, late rows, deletes, cleans, archival, a savepoint, a rollback, evolution."""
        of = Table(self.folder / kind.name, kind, self.ours, self.seed)
        of.create()
        for turn in range(8):
            if turn == 4:
                of.delete()
            else:
                of.upsert(size=24 if turn == 0 else 12)
        if kind.name == "types":
            of.add_column("later", pyarrow.decimal128(12, 3))
            of.widen("small", pyarrow.int64())
            of.upsert()
        of.upsert()
        if kind.name == "plain_folders":
            self.ours.run("savepoint", of.path, "--instant", of.model.instants[-1])
            of.upsert()
            of.upsert()
        of.upsert()
        of.rollback()
        of.upsert()
        late_for_a_deleted_key(of)
        of.upsert()
        actions = {action for _, action, _ in of.timeline()}
        require("actions", actions - {"savepoint"}, {"commit", "clean", "rollback"})
        require("an archive", any((of.path / ".hoodie/archived").iterdir()), True)
        of.check_sound()
        self.tables.append(of)
        return len(of.model.rows)

    def read(self, report, reader):
        for of in self.tables:
            name = of.folder.name
            report.check(reader.name, "latest rows", name, of.check_latest, reader)
            report.check(reader.name, "as of each retained commit", name, of.check_as_of, reader)
            report.check(reader.name, "since each retained commit", name, of.check_since, reader)
        for of in self.replayed:
            report.check(reader.name, "Spark's batches written by us", of.folder.name, of.check_all, reader)

    def read_in_hive(self, report, hive):
        for of in self.tables:
            report.check(hive.name, "latest rows", of.folder.name, same_in_hive, of, hive)


def same_in_hive(of, hive):
    return same(f"{of.folder.name}, read by {hive.name}", hive.rows(of.path, of.schema), of.model.rows.values())


def late_for_a_deleted_key(of):
    """Checks that a late row of a deleted key does not restore it. A batch without changes makes no commit."""
    key = sorted(of.model.rows)[0]
    stored = of.model.rows[key]
    types = dict(zip(of.schema.names, of.schema.types))
    row = of.changes.row(tuple(changes.typed(value, types[name]) for name, value in zip(of.kind.key, key)))
    row[of.kind.ordering] = changes.older(changes.typed(stored[of.kind.ordering], types[of.kind.ordering]))
    keys = of.save([{name: row[name] for name in of.kind.key}], pyarrow.schema([(name, types[name]) for name in of.kind.key]))
    of.committed(of.ours.delete(of.path, keys), of.model.delete([key]))
    require(f"{of.folder.name}: the commit of a late row of a deleted key", of.upsert([row]), None)


def session(version, written, report, folder, quick):
    """Runs all checks for one version of Hudi, in one session of Spark."""
    begin = time.monotonic()
    writes = version in (both.QUICK if quick else WRITERS + ASKED)
    spark = sides.Spark(version, folder / f"spark-{version}.log")
    report.say(f"{spark.name} started", begin)
    for tables in written:
        if version not in OLD:
            tables.read(report, spark)
        # Engines with Hive's reader have a release before 1.0.
        if version.startswith("0."):
            tables.read_in_hive(report, sides.Hive(spark))
        if writes:
            both.check(report, tables, spark, quick)
    field.check(report, written[0], spark, quick)
    later.check(report, written[0], spark, quick)
    if version not in OLD:
        at_once.check(report, written[0], spark, quick)
    spent = ", ".join(f"{len(times)} {what} {sum(times):.0f} s" for what, times in spark.seconds.items())
    report.say(f"{spark.name}: {spent}; {spark.cpu_seconds():.0f} s of processor time")
    if writes:
        both.last(report, written[0], spark)
    spark.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--replayed", required=True, type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="the subset for CI: each check of writes with one version or two")
    parser.add_argument("--hudi", action="append", choices=WRITERS + READERS + OLD + ASKED, help="only with this version; may be repeated")
    parser.add_argument("--seed", action="append", help="of the changes; may be repeated (1, and 2 and 3 unless --quick)")
    parser.add_argument("--only", action="append", metavar="TEXT", help="only checks whose output line contains this text; may be repeated")
    parser.add_argument("--keep", action="store_true", help="keep the tables")
    a = parser.parse_args()
    seeds = a.seed or (["1"] if a.quick else ["1", "2", "3"])
    versions = a.hudi or WRITERS + READERS + ([] if a.quick else OLD)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="hudi-scd-and-spark-"))
    report = Report(a.only or ())
    report.say(f"changes from seed {', '.join(seeds)}; tables and logs in {folder}")
    ours = sides.Ours(a.binary)
    replayed = [golden.Golden(about.parent, ours) for about in sorted(a.replayed.glob("*/about.json"))]
    written = [Ours(folder / f"seed-{seed}", ours, seed, [] if turn else replayed, a.replayed / "died") for turn, seed in enumerate(seeds)]
    for tables in written:
        tables.write_all(report)
        tables.read(report, ours)
        tables.read(report, sides.HudiRs())
    # A session keeps one core busy, most of the time.
    with concurrent.futures.ThreadPoolExecutor(min(2, os.cpu_count())) as pool:
        sessions = [pool.submit(session, version, written, report, folder, a.quick) for version in versions]
        try:
            for done in sessions:
                done.result()
        except BaseException as cause:
            print(f"given up, the tables are in {folder}: {cause!r}", file=sys.stderr, flush=True)
            os._exit(1)  # A regular exit would wait for the other session to end.
    print(f"\n{report.table()}\n")
    if report.failures:
        print(f"{len(report.failures)} checks differ; the tables are in {folder}:\n  " + "\n  ".join(report.failures))
        sys.exit(1)
    if not a.keep:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
