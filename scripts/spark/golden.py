"""Tables that Spark created, packed with the tests of hudi-scd, for further writes by either side."""

import datetime
import json
import pathlib
import shutil
import tarfile

import pyarrow.parquet

import changes
import table

FOLDER = pathlib.Path(__file__).parents[2] / "hudi-scd/tests/data/tables"
ARCHIVES = [
    archive
    for archive in sorted(FOLDER.glob("*.tar"))
    # Only Spark can finish a clustering that it has planned: we refuse to write.
    if not archive.stem.startswith("clusterplan")
]


def unpack(name, folder, ours):
    """Unpacks a table that Spark created."""
    extract(next(archive for archive in ARCHIVES if archive.stem == name), folder)
    return Golden(folder / name, ours)


def extract(archive, folder):
    with tarfile.open(archive) as archive:
        archive.extractall(folder, filter="data")


class Golden:
    """A folder of `table/`, `about.json`, and the expected rows of the table: `expected.jsonl`, `expected.asof-INSTANT.jsonl`."""

    def __init__(self, folder, ours):
        self.folder = folder
        self.path = folder / "table"
        self.ours = ours
        lines = (self.path / ".hoodie/hoodie.properties").read_text().splitlines()
        self.properties = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
        about = json.loads((folder / "about.json").read_text())
        self.name = self.properties["hoodie.table.name"]
        self.key = about["key"].split(",")
        self.ordering = about["ordering"]
        self.partition = (about["partition"] or "").split(",") if about["partition"] else []
        self.by_time = "Timestamp" in self.properties.get("hoodie.table.keygenerator.class", "")
        self.time = 0

    def copy(self, folder):
        other = Golden.__new__(Golden)
        other.__dict__ |= self.__dict__
        other.folder = folder
        other.path = other.folder / "table"
        shutil.copytree(self.folder, other.folder)
        return other

    base_files = table.Table.base_files

    def rows(self):
        """Returns the latest rows as typed values, and their schema."""
        file = self.folder / "rows.parquet"
        self.ours.save_rows(self.path, file)
        found = pyarrow.parquet.read_table(file)
        return found.to_pylist(), found.schema

    def newer(self, row):
        """Returns the row with an ordering above all existing ones."""
        self.time += 1
        ordering = row[self.ordering]
        at = 10**12 + self.time if isinstance(ordering, int) else datetime.datetime(2040, 1, 1, 0, 0, self.time, tzinfo=ordering.tzinfo)
        return row | {self.ordering: at}

    def another_key(self, row):
        self.time += 1
        return row | {name: self.time + 424_242 if isinstance(row[name], int) else f"new {self.time}" for name in self.key}

    def upsert(self, rows, schema):
        return self.ours.upsert(self.path, changes.save(rows, schema, self.folder / "input.parquet"))

    def spark_upsert(self, spark, rows, schema):
        options = {name: self.properties[name] for name in ("hoodie.datasource.write.hive_style_partitioning",) if name in self.properties}
        generator = self.properties.get("hoodie.table.keygenerator.class")
        if self.by_time:
            # Spark's writers need this option at each write, for their own tables too.
            options |= {"hoodie.datasource.write.keygenerator.class": generator, "hoodie.keygen.timebased.timestamp.type": "DATE_STRING"}
            unescaped = {name: value.replace("\\:", ":") for name, value in self.properties.items()}
            options |= {name: value for name, value in unescaped.items() if name.startswith("hoodie.keygen.")}
        elif generator and len(self.key) == 1 and "Complex" in generator:
            options["hoodie.datasource.write.keygenerator.class"] = generator
        spark.ask(
            "write",
            table=self.path,
            name=self.name,
            input=changes.save(rows, schema, self.folder / "input.parquet"),
            key=",".join(self.key),
            ordering=self.ordering,
            partition=",".join(self.partition),
            options=table.SPARK_OPTIONS | options,
        )

    def in_spark(self, rows):
        """Returns the rows as Spark reads them: it takes partition columns from the path, where an empty string is null and a time is the folder's name."""
        return [row | {name: None for name in self.partition if row[name] == "" or self.by_time} for row in rows]

    def agreed(self, rows, schema, spark):
        """Asserts that both sides read these rows."""
        expected = changes.plain_rows(rows, schema)
        table.same("in hudi-scd", self.ours.rows(self.path), expected)
        if findings := self.ours.validate(self.path):
            raise table.Difference(f"hudi-scd validate finds {findings}")
        return table.same("in Spark", self.in_spark(spark.rows(self.path)), self.in_spark(expected))

    def check_all(self, reader):
        """Compares with the expected rows, also as of each readable instant."""
        rows = 0
        for file in sorted(self.folder.glob("expected*.jsonl")):
            instant = file.stem.partition("asof-")[2] or None
            expected = [json.loads(line) for line in file.read_text().splitlines() if line]
            what = f"{self.folder.name}, read by {reader.name}" + (f" as of {instant}" if instant else "")
            rows += table.same(what, self.in_spark(reader.rows(self.path, as_of=instant)), self.in_spark(expected))
        return rows

    def go_on(self, spark):
        """We write to it and clean it, Spark writes to it, and we write again."""
        rows, schema = self.rows()
        if all(row[name] is not None for row in rows for name in self.partition):
            # A null may be an empty string here, which reads as null.
            table.require("the commit of rows that are there already", self.upsert(rows, schema), None)
        compared = 0
        # A stored delete marker is false or null.
        for writer in (self.upsert, self.spark_upsert, self.upsert):
            batch = [self.newer(rows[0]), self.another_key(self.newer(rows[-1]))]
            writer(spark, batch, schema) if writer == self.spark_upsert else writer(batch, schema)
            rows = [batch[0], *rows[1:], batch[1]]
            self.ours.run("clean", self.path, "--retain-commits", 2)
            compared += self.agreed(rows, schema, spark)
        return compared
