"""Checks of tables that hudi-scd and one version of Spark with Hudi both write: turns, cleaners, savepoints, crashes, rollbacks."""

import subprocess
import time

import golden
import sides
import table
from table import Difference, Table, require, same

TURNS = 10
# All kinds of turns occur in so many.
QUICK_TURNS = 8
# The subset for CI: one table for each form of paths and keys.
QUICK_GOLDENS = ("address-1.0-v6", "complexkey-part-0.15", "customer-0.14", "replaced-0.15", "timestampkey-0.15")
# The subset for CI: the checks of each version that writes. The other versions only read.
QUICK = {
    "0.15.0": (
        "a turn each",
        f"{QUICK_TURNS} turns each",
        "show_commits",
        "a partition overwritten by Spark",
        "cleaners delete the same",
        "Spark's write dies, we repair",
    ),
    "1.0.2": (
        "a turn each",
        "merge, update, delete by SQL",
        "a savepoint keeps its files",
        "a clean that died is finished",
        "ours is killed, Spark repairs",
        "rollbacks",
        "tables of Spark's, written on",
        "Spark's batches written by us, written on",
    ),
}


def check(report, ours, spark, quick):
    """Runs all checks that write, on copies of the tables that hudi-scd wrote."""
    tables = {of.folder.name: of for of in ours.tables}
    readers = [ours.ours, spark, sides.HudiRs()]
    count = QUICK_TURNS if quick else TURNS

    def of(check, subject, do, *arguments):
        if not quick or check in QUICK[spark.version]:
            report.check(spark.name, check, subject, do, *arguments)

    for name, each in tables.items():
        if each.kind.spark_writes:
            of("a turn each", name, turns, each.copy(f"{name}-{spark.version}"), spark, readers, 1)
    own = tables["by_day"].copy(f"by_day-turns-{spark.version}")
    of(f"{count} turns each", "by_day, begun by hudi-scd", turns, own, spark, readers, count)
    of("show_commits", "by_day", show_commits, own, spark)
    of("a partition overwritten by Spark", "by_day", overwritten, own, spark)
    of("merge, update, delete by SQL", "types", statements, tables["types"], spark)
    kind = tables["two_fields"].kind
    theirs = Table(ours.folder / f"two_fields-of-{spark.version}", kind, ours.ours, ours.seed)
    of(f"{count} turns each", "two_fields, begun by Spark", turns, theirs, spark, readers, count)
    for policy in POLICIES:
        if (spark.version, policy) == ("0.14.0", "KEEP_LATEST_BY_HOURS"):
            # It deletes the versions that a read as of the earliest retained commit needs
            # (docs/other-engines.md).
            continue
        of("cleaners delete the same", f"address, {policy}", golden_cleaners, ours, spark, policy)
        of("cleaners delete the same", f"by_day, {policy}", own_cleaners, own, spark, policy)
    of("a savepoint keeps its files", "by_day", savepoints, tables["by_day"], spark)
    of("a clean that died is finished", "by_day", pending_cleans, tables["by_day"], spark)
    of("Spark's write dies, we repair", "by_day", crash_of_spark, tables["by_day"], spark)
    of("ours is killed, Spark repairs", "by_day", crash_of_ours, tables["by_day"], spark)
    of("rollbacks", "types", rollbacks, tables["types"], spark)
    for archive in golden.ARCHIVES:
        if (spark.version, archive.stem) == ("0.14.0", "singlecomplex-0.15"):
            # Hudi 0.14.0 writes the name of a single key field into the keys of complex tables (`code:2`),
            # 0.14.1 to 1.0.2 do not (`2`).
            # The later versions find none of the rows, and store each key again.
            continue
        if not quick or archive.stem in QUICK_GOLDENS:
            of("tables of Spark's, written on", archive.stem, golden_written_on, archive, ours, spark)
    for replayed in ours.replayed:
        if not quick or replayed.folder.name in QUICK_GOLDENS:
            of("Spark's batches written by us, written on", replayed.folder.name, replayed_written_on, replayed, ours, spark)


def last(report, ours, spark):
    """Checks that end the session."""
    of = next(of for of in ours.tables if of.folder.name == "by_day")
    report.check(spark.name, "Spark is killed, we repair", "by_day", spark_killed, of, spark)


def golden_written_on(archive, ours, spark):
    return golden.unpack(archive.stem, ours.folder / f"golden-{spark.version}", ours.ours).go_on(spark)


def replayed_written_on(replayed, ours, spark):
    return replayed.copy(ours.folder / f"{replayed.folder.name}-{spark.version}").go_on(spark)


def turns(of, spark, readers, count):
    """Each side upserts, cleans and archives; after each turn the rows match the model."""
    rows = 0
    for turn in range(count):
        if turn == 6:
            of.spark_delete(spark)
        else:
            of.spark_upsert(spark)
        rows += agreed(of, spark)
        of.upsert() if turn != 7 else of.delete()
        rows += agreed(of, spark)
    return rows + of.check_as_of(*readers) + of.check_since(*readers)


def agreed(of, spark):
    of.check_sound()
    return of.check_latest(of.ours, spark)


def overwritten(of, spark):
    of.spark_overwrite(spark)
    rows = agreed(of, spark)
    of.upsert()
    return rows + agreed(of, spark) + of.check_as_of(of.ours, spark) + of.check_since(of.ours, spark)


def statements(of, spark):
    copy = of.copy(f"{of.folder.name}-sql-{spark.version}")
    copy.spark_sql(spark)
    # Statements retain the default number of commits.
    of.ours.run("clean", copy.path, "--retain-commits", table.RETAINED)
    rows = agreed(copy, spark)
    copy.upsert()
    return rows + agreed(copy, spark) + copy.check_as_of(of.ours, spark) + copy.check_since(of.ours, spark)


def show_commits(of, spark):
    """Spark's procedures report the same facts for each commit as our listing, and find the archived commits."""
    theirs = {row["commit_time"]: row for row in spark.ask("call", procedure="show_commits", table=of.path, arguments="limit => 100")}
    ours = {line["instant"]: line for line in of.ours.run("timeline", of.path) if line["instant"] in of.completed()}
    require("show_commits", sorted(theirs), sorted(of.completed()))
    for instant, line in ours.items():
        row = theirs[instant]
        told = (row["total_bytes_written"], row["total_update_records_written"], row["total_files_added"] + row["total_files_updated"])
        require(f"show_commits of {instant}", told, (line["bytes"], line["updates"], line["files"]))
    ever = "limit => 1000, start_ts => '20000101000000', end_ts => '29991231000000'"
    theirs = [row["commit_time"] for row in spark.ask("call", procedure="show_archived_commits", table=of.path, arguments=ever)]
    lines = of.ours.run("timeline", of.path, "--archived")
    archived = [line["instant"] for line in lines if line["state"] == "ARCHIVED" and line["action"] == "commit"]
    require("show_archived_commits", sorted(theirs), sorted(archived))
    return len(ours) + len(archived)


# Retention: a policy in Spark's options, and in ours.
POLICIES = {
    "KEEP_LATEST_COMMITS": ({"hoodie.cleaner.commits.retained": "2"}, ("--retain-commits", 2)),
    "KEEP_LATEST_FILE_VERSIONS": ({"hoodie.cleaner.fileversions.retained": "2"}, ("--retain-versions", 2)),
    "KEEP_LATEST_BY_HOURS": ({"hoodie.cleaner.hours.retained": "1"}, ("--retain-hours", 1)),
}


def golden_cleaners(ours, spark, policy):
    """Cleans a table that Spark wrote many hours ago, twice: the second clean continues from the other side's."""
    of = golden.unpack("address-0.15", ours.folder / f"clean-{policy}-{spark.version}", ours.ours)
    rows, schema = of.rows()
    deleted = 0
    for again in range(2):
        # Fewer than the ten commits after which a commit would clean.
        for turn in range(2):
            of.upsert([of.newer(row) for row in rows[turn::3]], schema)
        by_spark, by_us = (of.copy(of.folder.parent / f"{of.folder.name}-{side}") for side in ("spark", "ours"))
        deleted += cleaned_alike(of, by_spark, by_us, spark, policy)
        of = by_us if again == 0 else by_spark
    if not deleted:
        raise Difference(f"{policy} deletes nothing: that proves nothing")


def own_cleaners(of, spark, policy):
    """Cleans a table that both sides wrote, with partitions and replaced file groups."""
    of = of.copy(f"{of.folder.name}-{policy}")
    # Spark does not clean without new commits, for example after a write that cleaned.
    of.spark_upsert(spark, options={"hoodie.clean.automatic": "false"})
    by_spark, by_us = (of.copy(f"{of.folder.name}-{policy}-{side}") for side in ("spark", "ours"))
    deleted = cleaned_alike(of, by_spark, by_us, spark, policy)
    if not deleted and policy != "KEEP_LATEST_BY_HOURS":
        raise Difference(f"{policy} deletes nothing: that proves nothing")


def cleaned_alike(of, by_spark, by_us, spark, policy):
    """Both sides clean a copy. Returns the number of deleted files."""
    theirs, ours = POLICIES[policy]
    before = of.base_files()
    spark.ask("clean", table=by_spark.path, name=of.name, options={"hoodie.cleaner.policy": policy} | theirs)
    of.ours.run("clean", by_us.path, *ours)
    gone = before - by_us.base_files()
    require(f"what {policy} deletes", sorted(gone), sorted(before - by_spark.base_files()))
    earliest = [newest_clean(of.ours, side.path) for side in (by_us, by_spark)]
    require(f"the earliest commit that {policy} retains", *earliest)
    return len(gone)


def newest_clean(ours, path):
    cleans = [line for line in ours.run("timeline", path) if line["action"] == "clean" and line["state"] == "COMPLETED"]
    return cleans[-1]["earliest"] if cleans else None


def savepoints(of, spark):
    """One side's cleaner respects the other's savepoint; Spark restores it, and both continue writing."""
    rows = 0
    for side in ("ours", "spark"):
        copy = of.copy(f"{of.folder.name}-savepoint-{side}-{spark.version}")
        instant, files = copy.model.instants[-1], copy.latest_files()
        if side == "ours":
            of.ours.run("savepoint", copy.path, "--instant", instant)
        else:
            spark.ask("savepoint", table=copy.path, name=copy.kind.name, instant=instant)
        for _ in range(table.RETAINED + 1):
            copy.spark_upsert(spark) if side == "ours" else copy.upsert()
        missing = files - copy.base_files()
        require(f"savepointed by {side}, deleted by the other side", sorted(missing), [])
        rows += agreed(copy, spark)
        spark.ask("restore", table=copy.path, name=copy.kind.name, instant=instant)
        copy.model.restored(instant)
        rows += agreed(copy, spark)
        copy.upsert() if side == "ours" else copy.spark_upsert(spark)
        rows += agreed(copy, spark)
    return rows


def pending_cleans(of, spark):
    """If a clean of one side dies after deleting its files, the other side's next write finishes it, under its instant."""
    rows = 0
    for side in ("ours", "spark"):
        copy = of.copy(f"{of.folder.name}-pending-clean-{side}-{spark.version}")
        copy.upsert() if side == "ours" else copy.spark_upsert(spark)
        cleans = [instant for instant, action, state in copy.timeline() if (action, state) == ("clean", "completed")]
        for file in (f"{cleans[-1]}.clean", f".{cleans[-1]}.clean.crc"):
            (copy.path / ".hoodie" / file).unlink(missing_ok=True)
        rows += copy.check_latest(of.ours, spark)
        copy.spark_upsert(spark) if side == "ours" else copy.upsert()
        require(f"the clean of {side}", (cleans[-1], "clean", "completed") in copy.timeline(), True)
        rows += copy.check_latest(of.ours, spark)
        # The write that finishes a clean does not plan another one.
        copy.spark_upsert(spark) if side == "ours" else copy.upsert()
        rows += agreed(copy, spark)
    return rows


# Crashes and rollbacks.


def crash_of_spark(of, spark):
    """A Spark write that fails after writing its files, with either kind of markers, is invisible, and our next write undoes it."""
    copy = of.copy(f"{of.folder.name}-crash-of-{spark.version}")
    rows = 0
    for markers in ("TIMELINE_SERVER_BASED", "DIRECT"):
        before = {instant for instant, _, _ in copy.timeline()}
        try:
            copy.spark_write(spark, copy.changes.batch(copy.model), options=table.CRASH | {"hoodie.write.markers.type": markers})
            raise Difference("the write did not crash")
        except sides.Refused:
            pass
        dead = {instant for instant, _, _ in copy.timeline()} - before
        require("instants of the crashed write", len(dead), 1)
        same("latest rows after the crash", of.ours.rows(copy.path), copy.model.rows.values())
        copy.upsert()
        rolled_back(copy, dead)
        rows += agreed(copy, spark)
    return rows


def spark_killed(of, spark):
    """A write of a killed Spark process is invisible, and our next write undoes it."""
    copy = of.copy(f"{of.folder.name}-killed-{spark.version}")
    before = {instant for instant, _, _ in copy.timeline()}
    spark.begin("write", **copy.spark_job(copy.changes.batch(copy.model)))
    until = time.monotonic() + 120
    while not any(instant not in before and state == "inflight" for instant, _, state in copy.timeline()):
        if time.monotonic() > until:
            raise Difference("nothing is inflight after two minutes")
        time.sleep(0.001)
    spark.kill()
    states = {state for instant, _, state in copy.timeline() if instant not in before}
    require("states of the killed write", states, {"requested", "inflight"})
    dead = {instant for instant, _, _ in copy.timeline()} - before
    copy.check_latest(of.ours, sides.HudiRs())
    copy.upsert()
    rolled_back(copy, dead)
    copy.check_sound()
    return copy.check_all(of.ours, sides.HudiRs())


def crash_of_ours(of, spark):
    """Spark does not see the rows of our killed process, and undoes its write."""
    for attempt in range(10):
        copy = of.copy(f"{of.folder.name}-crash-before-{spark.version}-{attempt}")
        dead = killed_upsert(copy)
        if dead:
            break
    else:
        raise Difference("ten writes were over before they could be killed")
    same("latest rows after the kill", spark.rows(copy.path), copy.model.rows.values())
    copy.spark_upsert(spark)
    # Hudi deletes heartbeats only where writers share a table (HeartbeatUtils.deleteHeartbeatFile: failed
    # writes LAZY).
    rolled_back(copy, dead, but=[f".hoodie/.heartbeat/{instant}" for instant in dead])
    rows = agreed(copy, spark)
    copy.upsert()
    rolled_back(copy, dead)
    return rows + agreed(copy, spark)


def killed_upsert(of):
    """Kills our upsert once it is inflight. Returns its instant, or nothing if the upsert was faster."""
    before = {instant for instant, _, _ in of.timeline()}
    # Enough rows for the kill to arrive in time.
    known = len(of.changes.keys)
    of.changes.keys += [of.changes.key(number) for number in range(1000, 1000 + 30000)]
    input = of.save(of.changes.batch(of.model, 20000))
    of.changes.keys = of.changes.keys[:known]
    command = ["nice", "-n", "19", of.ours.binary, "upsert", of.path, "--input", input]
    writer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while writer.poll() is None and not any(file.name[:17] not in before for file in (of.path / ".hoodie").glob("*.inflight")):
        time.sleep(0.0005)
    writer.kill()
    writer.wait()
    new = [entry for entry in of.timeline() if entry[0] not in before]
    if any(state == "completed" for _, _, state in new):
        return None
    dead = {instant for instant, _, _ in new}
    require("instants of the killed write", len(dead), 1)
    return dead


def rolled_back(of, dead, but=()):
    """Asserts that only the rollback and the files in `but` remain of a dead write."""
    left = [str(file.relative_to(of.path)) for file in of.path.rglob("*") if file.is_file() and any(i in file.name for i in dead)]
    require(f"what is left of {dead}", left, list(but))


def rollbacks(of, spark):
    """Each side rolls back a commit of the other, and both continue writing."""
    copy = of.copy(f"{of.folder.name}-rollback-{spark.version}")
    newest = copy.upsert()
    require("rollback by Spark", spark.ask("rollback", table=copy.path, name=copy.kind.name, instant=newest), True)
    copy.model.rolled_back(newest)
    rows = agreed(copy, spark)
    copy.spark_upsert(spark)
    copy.rollback()
    rows += agreed(copy, spark)
    copy.spark_upsert(spark)
    copy.upsert()
    return rows + agreed(copy, spark)
