"""Makes tables with a version of Hudi for the tests of hudi-scd: the table, a description, and the rows that Spark reads.

    $(scripts/spark/install --python 0.12.2) scripts/spark/make_tables.py 0.12.2 FOLDER [NAME...]

Each table becomes FOLDER/NAME with `table/`, `about.json`, `expected.jsonl`, `expected_meta.jsonl`, and `expected.asof-INSTANT.jsonl`, and
FOLDER/NAME.tar.gz, which belongs in hudi-scd/tests/data/tables. Writers have Hudi's defaults otherwise: Hudi 0.11 and later keep a metadata
table. This runs in the Python of the oldest Spark, 3.8.
"""

import gzip
import io
import json
import os
import pathlib
import shutil
import sys
import tarfile

import shapes
import spark_hudi

# Filters of a few hundred bytes instead of 430 KB in every file.
BLOOM = {"hoodie.index.bloom.num_entries": "100", "hoodie.bloom.index.filter.dynamic.max.entries": "100"}
# A check before the commit that always fails: the writer dies with its files written.
DIES = {
    "hoodie.precommit.validators": "org.apache.hudi.client.validator.SqlQuerySingleResultPreCommitValidator",
    "hoodie.precommit.validators.single.value.sql.queries": "select count(1) from <TABLE_NAME>#-1",
}


class Maker:
    def __init__(self, hudi):
        self.hudi = hudi
        self.spark = spark_hudi.start(hudi, memory="2g", settings={"spark.sql.adaptive.enabled": "false"}, java="-XX:TieredStopAtLevel=1")
        self.jvm = self.spark.sparkContext._jvm

    def make(self, shape, folder):
        folder = folder / shape["name"]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        table = folder / "table"
        self.catalog(shape, table)
        for step in shape["steps"]:
            self.take(shape, str(table), dict(step))
            print(shape["name"], step.get("operation", "upsert"), len(step.get("rows", [])), flush=True)
        properties = read_properties(table)
        about = {
            "describe": shape["describe"],
            "hudi": self.hudi,
            "schema": shape["schema"],
            "key": shape["key"],
            "ordering": shape.get("ordering"),
            "partition": shape.get("partition"),
            "hive_style": shape.get("hive_style", False),
            "options": {**BLOOM, **shape.get("options", {})},
            "table_version": properties.get("hoodie.table.version"),
            "metadata_partitions": properties.get("hoodie.table.metadata.partitions", ""),
            "expected": {"as_of": {}},
        }
        # The types of partition columns that the files lack are those of the catalog.
        source = "called" if "sql" in shape else table
        rows = self.dump(folder / "expected.jsonl", source)
        self.dump(folder / "expected_meta.jsonl", source, meta=True)
        self.dump(folder / "expected_off.jsonl", source, {"hoodie.metadata.enable": "false"})
        if (folder / "expected.jsonl").read_text() != (folder / "expected_off.jsonl").read_text():
            raise SystemExit(shape["name"] + ": the metadata table makes a difference")
        (folder / "expected_off.jsonl").unlink()
        commits = completed(table)
        retained = [] if "sql" in shape else sorted({commits[0], commits[len(commits) // 2], commits[-2]} if len(commits) > 2 else commits[:1])
        for instant in retained:
            name = "expected.asof-" + instant + ".jsonl"
            try:
                found = self.dump(folder / name, table, {"as.of.instant": instant})
                about["expected"]["as_of"][instant] = {"rows": found, "dump": name}
            except Exception as cause:
                about["expected"]["as_of"][instant] = {"error": str(cause).splitlines()[0][:200]}
        (folder / "about.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n")
        for file in [*folder.rglob("*.crc"), *folder.rglob("_SUCCESS")]:
            file.unlink()
        pack(folder)
        print(shape["name"], "version", about["table_version"], rows, "rows", "metadata", about["metadata_partitions"], flush=True)

    def catalog(self, shape, table):
        """Names the table `called` in SQL, if the shape defines it there."""
        self.spark.sql("drop table if exists called")
        if "sql" in shape:
            self.spark.sql(shape["sql"] + " location '" + str(table) + "'")

    def take(self, shape, table, step):
        if "call" in step:
            return step["call"](self, shape, table)
        if "sql" in step:
            return [self.spark.sql(statement) for statement in step["sql"]]
        schema = step.get("schema", shape["schema"])
        lines = [json.dumps(row, ensure_ascii=False) for row in step["rows"]]
        file = pathlib.Path(table).parent / "input.jsonl"
        file.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        rows = self.spark.read.schema(schema).json(str(file)).coalesce(1)
        options = self.options(shape, step)
        try:
            rows.write.format("hudi").options(**options).mode("append").save(table)
        except Exception:
            if not step.get("dies"):
                raise
        else:
            if step.get("dies"):
                raise SystemExit(shape["name"] + ": a write that must die did not")
        file.unlink()

    def options(self, shape, step):
        options = {
            "hoodie.table.name": "t",
            "hoodie.datasource.write.table.type": "COPY_ON_WRITE",
            "hoodie.datasource.write.recordkey.field": shape["key"],
            "hoodie.datasource.write.partitionpath.field": shape.get("partition", ""),
            "hoodie.datasource.write.hive_style_partitioning": str(shape.get("hive_style", False)).lower(),
            "hoodie.datasource.write.operation": step.get("operation", "upsert"),
            "hoodie.upsert.shuffle.parallelism": "2",
            "hoodie.insert.shuffle.parallelism": "2",
            "hoodie.delete.shuffle.parallelism": "2",
            "hoodie.bulkinsert.shuffle.parallelism": "1",
        }
        if shape.get("ordering"):
            options["hoodie.datasource.write.precombine.field"] = shape["ordering"]
        if not self.hudi.startswith("0.") and shape.get("version") == 6:
            options.update({"hoodie.write.table.version": "6", "hoodie.write.auto.upgrade": "false"})
        if not shape.get("partition"):
            options["hoodie.datasource.write.keygenerator.class"] = "org.apache.hudi.keygen.NonpartitionedKeyGenerator"
        options.update(BLOOM)
        options.update(shape.get("options", {}))
        options.update(step.get("options", {}))
        if step.get("dies"):
            options.update(DIES)
        return options

    def client(self, shape, table, options=()):
        properties = self.jvm.java.util.Properties()
        for key, value in {**self.options(shape, {}), **dict(options)}.items():
            properties.setProperty(key, value)
        config = self.jvm.org.apache.hudi.config.HoodieWriteConfig.newBuilder()
        config = config.withPath(table).forTable("t").withProperties(properties).build()
        context = self.jvm.org.apache.hudi.client.common.HoodieSparkEngineContext(self.spark.sparkContext._jsc)
        return self.jvm.org.apache.hudi.client.SparkRDDWriteClient(context, config)

    def dump(self, file, table, options=(), meta=False):
        if table == "called":
            found = self.spark.table("called")
        else:
            found = self.spark.read.format("hudi").options(**dict(options)).load(str(table))
        if not meta:
            found = found.drop(*[name for name in found.columns if name.startswith("_hoodie_") and name != "_hoodie_is_deleted"])
        rows = [json.dumps(spark_hudi.plain(row, found.schema), ensure_ascii=False, sort_keys=True) for row in found.collect()]
        file.write_text("".join(row + "\n" for row in sorted(rows)), encoding="utf-8")
        return len(rows)


def read_properties(table):
    lines = (table / ".hoodie/hoodie.properties").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def completed(table):
    """Returns the instants of the completed commits."""
    folder = table / ".hoodie/timeline"
    folder = folder if folder.exists() else table / ".hoodie"
    files = [file.name.split(".") for file in folder.iterdir() if file.name[0].isdigit()]
    return sorted(parts[0].partition("_")[0] for parts in files if len(parts) == 2 and parts[1] in ("commit", "replacecommit"))


def pack(folder):
    """Packs a folder, with nothing of this machine or of this time in the archive's headers."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                entry = tarfile.TarInfo(str(file.relative_to(folder.parent)))
                entry.size = file.stat().st_size
                with file.open("rb") as content:
                    archive.addfile(entry, content)
    folder.with_name(folder.name + ".tar.gz").write_bytes(gzip.compress(packed.getvalue(), 9, mtime=0))


def main(hudi, folder, *names):
    folder = pathlib.Path(folder).resolve()
    maker = Maker(hudi)
    for shape in shapes.SHAPES:
        if shape["hudi"] == hudi and (not names or shape["name"] in names):
            try:
                maker.make(shape, folder)
            except Exception as cause:
                print(shape["name"], "FAILED", type(cause).__name__, "; ".join(str(cause).splitlines()[:3])[:1500], flush=True)
    maker.spark.stop()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
