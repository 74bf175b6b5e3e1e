"""Tables of other Hudi versions, packed with the tests of hudi-scd: hudi-scd and Spark write to them in turns.

Spark has the options of the table's own writer and Hudi's defaults otherwise, so Hudi 0.11 and later keep a
metadata table. After each turn Spark reads the rows with the metadata table and without it.
"""

import datetime
import json
import pathlib

import pyarrow

import both
import changes
import golden
import sides
import table

ARCHIVES = {archive.name.removesuffix(".tar.gz"): archive for archive in sorted(golden.FOLDER.glob("*.tar.gz"))}
# The Hudi version that created a table, by the end of the table's name.
HOME = {"0.9": "0.9.0", "0.10": "0.10.0", "0.12": "0.12.2", "0.14": "0.14.0", "0.15": "0.15.0", "1.0-v6": "1.0.2"}
# hudi-scd does not write table versions 8 and 9, nor the tables named `read-`.
WRITABLE = {name: HOME[name.removeprefix("mdt-").partition("-")[2]] for name in ARCHIVES if not name.startswith(("v8-", "v9-", "read-"))}
# Tables of `shapes.py` that only the version of their creator writes on: clusterings, odd folders, nested types, dead writers with a lock.
SHAPES = ("clustered-0.12", "levels-0.9", "levels-1.0-v6", "nested-0.12", "shared-0.15")
# The subset for CI.
QUICK = ("mdt-files-0.15", "mdt-stats-0.15", "mdt-rli-1.0-v6", "mdt-unpartitioned-0.14")
QUICK_UPGRADES = (("old-0.9", "0.15.0"), ("old-0.12", "1.0.2"))
# The versions that write tables older than version 6. Later ones upgrade or refuse such tables.
OLD = ("0.9.0", "0.10.0", "0.12.2")
# Options of a global record index that moves keys between partitions.
RECORD_INDEX = {
    "hoodie.metadata.record.index.enable": "true",
    "hoodie.index.type": "RECORD_INDEX",
    "hoodie.record.index.update.partition.path": "true",
    "hoodie.metadata.record.index.min.filegroup.count": "2",
    "hoodie.metadata.record.index.max.filegroup.count": "2",
}
# The options of `spark_hudi.write_options` that differ from Hudi's defaults.
DEFAULTS = (
    "hoodie.metadata.enable",
    "hoodie.index.type",
    "hoodie.bloom.index.update.partition.path",
    "hoodie.datasource.write.hive_style_partitioning",
    "hoodie.datasource.write.payload.class",
)
METADATA = {"on": {"hoodie.metadata.enable": "true"}, "off": {"hoodie.metadata.enable": "false"}}


def plans(version, quick):
    """Yields the tables for a version of Hudi, each with further options of its writer and a number of turns."""
    for name, home in WRITABLE.items():
        if quick:
            if name in QUICK and home == version:
                yield name, {}, 3
            continue
        if name in SHAPES:
            if version == home:
                yield name, {}, 4
        elif home in OLD:
            # Hudi 0.15 upgrades these tables, 0.14.0 only version 5, and 1.x refuses them.
            if version in (home, "0.15.0", "0.15.1") or (version, home) == ("0.14.0", "0.12.2"):
                yield name, {}, 4
        elif version not in OLD:
            yield name, {}, 4
            if name.startswith("mdt-files"):
                yield name, RECORD_INDEX, 4


def upgrades(version, quick):
    """Yields the tables of old versions that are upgraded and then written by a version of Hudi, or only read by their own."""
    for name, home in WRITABLE.items():
        if home not in OLD or name in SHAPES:
            continue
        if quick:
            if (name, version) in QUICK_UPGRADES:
                yield name
        elif version in (home, "0.14.0", "0.15.0", "0.15.1", "1.0.2"):
            yield name


def check(report, ours, spark, quick):
    for name, options, count in plans(spark.version, quick):
        with_index = " with RECORD_INDEX" if options else ""
        folder = ours.folder / f"field-{spark.version}{with_index.replace(' ', '-')}"
        subject = f"{name}{with_index}"
        report.check(spark.name, "tables of the field, written on", subject, turns, name, folder, ours.ours, spark, options, count)
    for folder in died(ours.died, spark.version, quick):
        subject = f"{folder.name}, copy {folder.parent.name}"
        report.check(spark.name, "writes of ours that died beside a metadata table", subject, goes_on, folder, ours.ours, spark)
    if spark.version == "0.12.2":
        folder = ours.folder / "version-4"
        report.check(spark.name, "tables of the field, written on", "old-0.12 as version 4", version_4, folder, ours.ours, spark)
    for name in upgrades(spark.version, quick):
        folder = ours.folder / f"upgraded-{spark.version}"
        report.check(spark.name, "tables of the field, upgraded", name, upgraded, name, folder, ours.ours, spark)


def died(folder, version, quick):
    """Returns the copies of the tables of a version in which a write of ours died, in the order of the storage calls."""
    copies = sorted(copy for copy in folder.glob("*/*") if WRITABLE[copy.name] == version)
    return copies[1::4] if quick else copies


def goes_on(folder, ours, spark):
    """Spark at its defaults reads and writes after a write of ours that died, and then we write."""
    of = Field(folder, ours, {})
    expected = [json.loads(line) for line in (folder / "expected.jsonl").read_text().splitlines() if line]
    compared = table.same("after the death", changes.plain_rows(of.stored.values(), of.schema), expected)
    compared += of.agreed(spark)
    # A pending instant of the dead write may keep Spark from making the metadata table in its next writes.
    of.spark_writes(spark, delete=True, makes_metadata=False)
    compared += of.agreed(spark)
    of.we_write()
    return compared + of.agreed(spark)


def version_4(folder, ours, spark):
    """Hudi 0.12 goes on with a table of version 4, and makes it version 5.

    No release that creates version 4 is available, and for copy-on-write tables it differs from version 5 in the name of the partition of
    nulls alone. So this is a table of version 5 under another number.
    """
    of = unpacked("old-0.12", folder, ours)
    properties = of.path / ".hoodie/hoodie.properties"
    properties.write_text(properties.read_text().replace("hoodie.table.version=5", "hoodie.table.version=4"))
    properties.with_name(".hoodie.properties.crc").unlink(missing_ok=True)
    compared = 0
    for write, version in [(of.we_write, "4"), (lambda: of.spark_writes(spark, delete=True), "5"), (of.we_write, "5")]:
        write()
        compared += of.agreed(spark)
        table.require("the version", of.properties_now()["hoodie.table.version"], version)
    return compared


def upgraded(name, folder, ours, spark):
    """hudi-scd writes to a table of an old version and upgrades it. Later versions of Hudi then write it, its own only reads it, as the command says."""
    of = unpacked(name, folder, ours)
    of.we_write()
    told = of.ours.run("upgrade", of.path)
    table.require("the version", of.properties_now()["hoodie.table.version"], "6")
    compared = of.agreed(spark)
    if spark.version in OLD:
        table.require("the releases that the command locks out", "0.9 to 0.13" in json.dumps(told), True)
        try:
            of.spark_write(spark, of.batch())
        except sides.Refused as refused:
            table.require("the reason for a refused write", "Unknown versionCode:6" in str(refused), True)
            # The refused write leaves its request on the timeline, and our next write removes it.
            pending = [json.loads(line)["invariant"] for line in of.findings() - of.found_before]
            table.require("findings after a refused write", pending, ["pending"])
            of.we_write()
            return compared + of.agreed(spark)
        raise table.Difference(f"Hudi {spark.version} writes a table of version 6")
    for turn in range(4):
        of.we_write() if turn % 2 else of.spark_writes(spark, delete=turn > 1)
        compared += of.agreed(spark)
    table.require("the version after turns", of.properties_now()["hoodie.table.version"], "6")
    return compared + of.check_past()


def turns(name, folder, ours, spark, options, count):
    of = unpacked(name, folder, ours, options)
    compared = 0
    for turn in range(count):
        of.we_write() if turn % 2 == 0 else of.spark_writes(spark, delete=turn > 1)
        compared += of.agreed(spark)
    return compared + of.check_past()


def unpacked(name, folder, ours, options={}):
    golden.extract(ARCHIVES[name], folder)
    return Field(folder / name, ours, options)


class Field(golden.Golden):
    """A table of `hudi-scd/tests/data/tables`, with further options of its writer."""

    def __init__(self, folder, ours, options):
        super().__init__(folder, ours)
        about = json.loads((self.folder / "about.json").read_text())
        self.options = dict.fromkeys(DEFAULTS) | about["options"] | options
        if not self.partition:
            self.options["hoodie.datasource.write.keygenerator.class"] = "org.apache.hudi.keygen.NonpartitionedKeyGenerator"
        else:
            self.options["hoodie.datasource.write.hive_style_partitioning"] = str(about["hive_style"]).lower()
        # With an index per partition, Spark stores a moved key twice.
        self.moves = any(option.endswith("update.partition.path") for option in about["options"] | options)
        found, self.schema = Field.rows(self)
        self.stored = {self.key_of(row): row for row in found}
        table.require("distinct keys", len(self.stored), len(found))
        # The keys that the last turn wrote.
        self.touched = sorted(self.stored)[:1]
        self.found_before = self.findings()
        self.past = {}  # instant -> rows

    def key_of(self, row):
        return tuple(row[name] for name in self.key)

    def newer(self, row):
        self.time += 1
        return row | {self.ordering: datetime.datetime(2040, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(seconds=self.time)}

    def properties_now(self):
        lines = (self.path / ".hoodie/hoodie.properties").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))

    def metadata_partitions(self):
        return [name for name in self.properties_now().get("hoodie.table.metadata.partitions", "").split(",") if name]

    def findings(self):
        return {json.dumps(line, sort_keys=True) for line in self.ours.validate(self.path)}

    def completed(self):
        """Returns the instants of completed commits, with 17 digits or, by Hudi 0.9, with 14."""
        files = [file.name.split(".") for file in (self.path / ".hoodie").iterdir() if file.name[0].isdigit()]
        return sorted(parts[0] for parts in files if len(parts) == 2 and parts[1] in ("commit", "replacecommit"))

    def batch(self):
        """Returns updates of the rows that the other side wrote last, a new key, and a move to another partition."""
        rows = [self.newer(self.stored[key]) for key in self.touched[-2:] if key in self.stored]
        known = sorted(self.stored)
        rows.append(self.another_key(self.newer(self.stored[known[-1]])))
        if self.partition and self.moves:
            moving = rows[0]
            elsewhere = {tuple(row[name] for name in self.partition) for row in self.stored.values()}
            elsewhere -= {tuple(moving[name] for name in self.partition)}
            rows[0] = moving | dict(zip(self.partition, min(elsewhere, key=str)))
        return rows

    def victim(self, batch):
        """Returns a stored row for deletion that is not in the batch."""
        written = {self.key_of(row) for row in batch}
        keys = [key for key in sorted(self.stored) if key not in written]
        return self.stored[keys[len(keys) // 2]]

    def done(self, batch, deleted=None):
        for row in batch:
            self.stored[self.key_of(row)] = row
        if deleted:
            del self.stored[self.key_of(deleted)]
        self.touched = [self.key_of(row) for row in batch]
        self.past[self.completed()[-1]] = changes.plain_rows(self.stored.values(), self.schema)

    def we_write(self):
        batch = self.batch()
        victim = self.victim(batch)
        self.upsert(batch, self.schema)
        keys = pyarrow.schema([self.schema.field(name) for name in self.key])
        self.ours.delete(self.path, changes.save([{name: victim[name] for name in self.key}], keys, self.folder / "keys.parquet"))
        self.ours.run("clean", self.path, "--retain-commits", 2)
        self.done(batch, victim)
        table.require("metadata partitions after a write of ours", self.metadata_partitions(), [])

    def spark_writes(self, spark, delete, makes_metadata=True):
        batch = self.batch()
        self.spark_write(spark, batch)
        victim = self.victim(batch) if delete else None
        if victim:
            self.spark_write(spark, [victim], "delete")
        self.done(batch, victim)
        if spark.version in ("0.9.0", "0.10.0") or not makes_metadata:
            return
        partitions = self.metadata_partitions()
        wanted = {"files"}
        for option, partition in (("record.index.enable", "record_index"), ("bloom.filter.enable", "bloom_filters"), ("column.stats.enable", "column_stats")):
            if any(name.endswith(option) and value == "true" for name, value in self.options.items()):
                wanted.add(partition)
        table.require("metadata partitions that Spark's write lacks", sorted(wanted - set(partitions)), [])

    def spark_write(self, spark, rows, operation="upsert"):
        spark.ask(
            "write",
            table=self.path,
            name=self.name,
            input=changes.save(rows, self.schema, self.folder / "input.parquet"),
            key=",".join(self.key),
            ordering=self.ordering,
            partition=",".join(self.partition),
            operation=operation,
            options=self.options,
        )

    def agreed(self, spark):
        """Compares the rows of both sides with the model, those of Spark with a metadata table and without one."""
        expected = changes.plain_rows(self.stored.values(), self.schema)
        compared = table.same("in hudi-scd", self.ours.rows(self.path), expected)
        expected = self.in_spark(expected)
        if new := self.findings() - self.found_before:
            raise table.Difference(f"hudi-scd validate finds {sorted(new)}")
        for state, options in METADATA.items():
            compared += table.same(f"in Spark, metadata {state}", self.in_spark(spark.rows(self.path, options=options)), expected)
        return compared

    def in_spark(self, rows):
        """Returns the rows as Spark reads them: it takes partition columns from the path, where nulls and empty texts have one name."""
        nulls = ("", "default") if int(self.properties["hoodie.table.version"]) < 5 else ("",)
        return [row | {name: None for name in self.partition if row[name] in nulls} for row in rows]

    def check_past(self):
        """Compares our reads as of the retained turns with the model."""
        earliest = both.newest_clean(self.ours, self.path) or ""
        past = [(instant, rows) for instant, rows in self.past.items() if instant >= earliest]
        return sum(table.same(f"as of {instant}", self.ours.rows(self.path, as_of=instant), rows) for instant, rows in past)
