"""hudi-scd and Spark write to one table at the same time: Spark under optimistic concurrency control, with lazy rollbacks.

Local disks have no lock that hudi-scd and Hudi share (on S3 it is StorageBasedLockProvider's). Here the check takes
Hudi's file lock for each of our writes, as a `TableLock` of a service that embeds the library would.

Each new key belongs to one writer, and the row that all of them update is stored before. The check does not show that
a key is stored once if several writers insert it at the same time: Hudi compares file groups, and stores it twice.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import threading
import time

import pyarrow

import changes
import sides
import table

KIND = changes.Kind(
    "at_once",
    {"id": pyarrow.int64(), "words": changes.text, "region": changes.text, "at": pyarrow.int64()},
    partition=("region",),
)
# Each of these processes of ours writes at a time.
WRITERS = 2
# All writers update this row.
SHARED = 0
RETAINED = 10


def options(lock):
    return {
        "hoodie.write.concurrency.mode": "optimistic_concurrency_control",
        "hoodie.cleaner.policy.failed.writes": "LAZY",
        "hoodie.write.lock.provider": "org.apache.hudi.client.transaction.lock.FileSystemBasedLockProvider",
        "hoodie.write.lock.filesystem.path": str(lock),
        "hoodie.write.lock.wait_time_ms_between_retry": "50",
        "hoodie.write.lock.num_retries": "1000",
        "hoodie.cleaner.commits.retained": str(RETAINED),
        "hoodie.keep.min.commits": str(RETAINED + 2),
        "hoodie.keep.max.commits": str(RETAINED + 4),
        "hoodie.index.bloom.num_entries": "1000",
        "hoodie.bloom.index.filter.dynamic.max.entries": "2000",
    }


@contextlib.contextmanager
def hudis_lock(folder):
    """Holds the lock of Hudi's FileSystemBasedLockProvider: whoever creates its file has it."""
    file = folder / "lock"
    while True:
        try:
            handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            break
        except FileExistsError:
            time.sleep(0.005)
    os.write(handle, b"{}")
    os.close(handle)
    try:
        yield
    finally:
        file.unlink()


class AtOnce:
    def __init__(self, folder, ours, spark, commits):
        self.folder, self.ours, self.spark, self.commits = pathlib.Path(folder), ours, spark, commits
        self.path, self.lock = self.folder / "table", self.folder / "lock"
        self.lock.mkdir(parents=True)
        self.changed = threading.Condition()
        self.attempts, self.writing, self.over = 0, False, False  # of Spark
        self.at, self.overlapped, self.conflicts, self.inputs = 0, 0, 0, 0
        self.rows = {}  # id -> row, of all writes that were reported as done
        self.instants = []  # of our commits

    def row(self, id, region):
        with self.changed:
            self.at += 1
            return {"id": id, "words": f"write {self.at}", "region": region, "at": self.at}

    def save(self, rows):
        with self.changed:
            self.inputs += 1
            number = self.inputs
        return changes.save(rows, KIND.schema, self.folder / f"{number:03}.parquet")

    def done(self, rows):
        with self.changed:
            for row in rows:
                if row["at"] > self.rows.get(row["id"], {"at": -1})["at"]:
                    self.rows[row["id"]] = row

    def we_upsert(self, rows):
        input = self.save(rows)
        with hudis_lock(self.lock):
            instant = self.ours.upsert(self.path, input)
        self.done(rows)
        with self.changed:
            self.instants.append(instant)
            self.overlapped += self.writing

    def we_write(self, number):
        """Commits once for each write that Spark begins, while that is pending."""
        for write in range(self.commits):
            with self.changed:
                self.changed.wait_for(lambda: self.attempts > write or self.over)
            while not self.over and not self.pending_of_spark():
                time.sleep(0.005)
            self.we_upsert([self.row(1 + number * self.commits + write, "ours"), self.row(SHARED, "shared")])

    def pending_of_spark(self):
        """Returns the instants with a heartbeat of Spark's, which is empty, unlike ours."""
        folder = self.path / ".hoodie/.heartbeat"
        try:
            return [file.name for file in folder.iterdir() if file.suffix != ".crc" and not file.stat().st_size]
        except FileNotFoundError:
            return []  # No heartbeat was written yet, or one was deleted a moment ago.

    def spark_writes(self):
        """Repeats each write until no other commit conflicts with it. Every second one updates the shared row."""
        done = 0
        while done < self.commits:
            rows = [self.row(1_000_000 + done, "spark")] + ([self.row(SHARED, "shared")] if done % 2 else [])
            input = self.save(rows)
            with self.changed:
                self.attempts, self.writing = self.attempts + 1, True
                self.changed.notify_all()
            try:
                job = dict(table=self.path, name=KIND.name, input=input, key="id", ordering="at", partition="region")
                self.spark.ask("write", **job, options=options(self.lock))
                self.done(rows)
                done += 1
            except sides.Refused as refused:
                if "ConcurrentModification" not in str(refused) and "WriteConflict" not in str(refused):
                    raise
                self.conflicts += 1
                if self.conflicts > 4 * self.commits:
                    raise
            finally:
                with self.changed:
                    self.writing = False

    def run(self):
        self.ours.create(self.path, KIND, self.save([]), RETAINED)
        self.we_upsert([self.row(SHARED, "shared")])
        with concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
            writers = [pool.submit(self.we_write, number) for number in range(WRITERS)]
            try:
                self.spark_writes()
            finally:
                with self.changed:
                    self.over = True
                    self.changed.notify_all()
            for writer in writers:
                writer.result()
        # Our next write repairs what the failed writes of Spark left.
        self.we_upsert([self.row(SHARED, "shared")])
        if not self.overlapped or not self.conflicts:
            raise table.Difference("no commit of ours was in the way of a write of Spark: that proves nothing")
        # The heartbeats of failed writes go on until Hudi 0.x ends: nobody may roll these writes back.
        alive = self.pending_of_spark()
        if findings := [line for line in self.ours.validate(self.path) if not any(instant in line["subject"] for instant in alive)]:
            raise table.Difference(f"hudi-scd validate finds {json.dumps(findings)[:1000]}")
        lines = self.ours.run("timeline", self.path, "--archived")
        completed = {line["instant"] for line in lines if line["action"] == "commit" and line["state"] in ("COMPLETED", "ARCHIVED")}
        table.require("commits of ours that are not on the timeline", sorted(set(self.instants) - completed), [])
        table.require("completed commits", len(completed), len(self.instants) + self.commits)
        expected = list(self.rows.values())
        readers = (self.ours, self.spark, sides.HudiRs())
        return sum(table.same(f"read by {reader.name}", reader.rows(self.path), expected) for reader in readers)


def check(report, ours, spark, quick):
    """With 8 commits of each writer in the quick form, and 50 in the long one."""
    if quick and spark.version != "1.0.2":
        return
    commits = 8 if quick else 50
    at_once = AtOnce(ours.folder / f"at-once-{spark.version}", ours.ours, spark, commits)
    report.check(spark.name, "writers at the same time", f"{1 + WRITERS} writers, {commits} commits each", at_once.run)
    if at_once.attempts:
        told = f"{at_once.attempts} writes of Spark, {at_once.conflicts} of them in conflict; {at_once.overlapped} commits of ours during them"
        report.say(f"{spark.name}: {told}")
