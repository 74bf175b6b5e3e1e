"""A version of Hudi on Spark as a server: one JSON object per line in, one out, until the input ends.

    $(scripts/spark/install --python 0.15.0) scripts/spark/engine.py 0.15.0

Starting the session takes ten seconds, and its first write another ten, so a check keeps one session for all requests. Spark's output goes to the
standard error stream. A reply is `{"ok": ...}` or `{"error": "..."}`.
"""

import json
import os
import pathlib
import sys

import hive
import spark_hudi

# The program of the library, hudi_scd::spark::SCRIPT.
sys.path.append(str(pathlib.Path(__file__).parents[2] / "hudi-scd" / "src" / "spark"))
sys.dont_write_bytecode = True


class Engine:
    def __init__(self, hudi):
        self.hudi = hudi
        # Spark runs many small jobs here, and optimizing their code takes longer than running it.
        settings = {"spark.sql.adaptive.enabled": "false"}
        if hudi != "0.12.2":
            # The reader of 0.12.2 fails without it: it returns column batches as rows.
            settings["spark.sql.codegen.wholeStage"] = "false"
        self.spark = spark_hudi.start(hudi, memory="1g", settings=settings, java="-XX:TieredStopAtLevel=1")
        self.jvm = self.spark.sparkContext._jvm

    def rows(self, table, as_of=None, since=None, until=None, meta=False, options={}):
        """Returns the latest rows, the rows as of an instant, or those of the commits since (exclusive) until (inclusive)."""
        options = dict(options)
        if as_of:
            options["as.of.instant"] = as_of
        if since is not None:
            options["hoodie.datasource.query.type"] = "incremental"
            options["hoodie.datasource.read.begin.instanttime"] = since
        if until is not None:
            options["hoodie.datasource.read.end.instanttime"] = until
        found = self.spark.read.format("hudi").options(**options).load(table)
        if not meta:
            found = found.drop(*[name for name in found.columns if name.startswith("_hoodie_") and name != "_hoodie_is_deleted"])
        return [spark_hudi.plain(row, found.schema) for row in found.collect()]

    def hive_rows(self, folders, columns, types):
        """Returns the rows of partition folders as Hive reads them. The types are Hive's."""
        return list(hive.rows(self.jvm, folders, columns, types))

    def write(self, table, name, input, key, ordering=None, partition="", operation="upsert", options={}):
        """Writes the rows of a Parquet file."""
        options = spark_hudi.write_options(self.hudi, name, key, ordering, partition, operation, options)
        self.spark.read.parquet(input).write.format("hudi").options(**options).mode("append").save(table)

    def clean(self, table, name, options={}):
        with self._client(table, name, options) as client:
            client.clean()

    def rollback(self, table, name, instant, options={}):
        with self._client(table, name, options) as client:
            return client.rollback(instant)

    def savepoint(self, table, name, instant, options={}):
        with self._client(table, name, options) as client:
            client.savepoint(instant, "a check", "kept")

    def restore(self, table, name, instant, options={}):
        with self._client(table, name, options) as client:
            client.restoreToSavepoint(instant)

    def sql(self, table, statements, input=None):
        """Runs statements on the table as `called`, and the rows of a Parquet file as `changes`."""
        if input:
            self.spark.read.parquet(input).createOrReplaceTempView("changes")
        options = spark_hudi.base_options(self.hudi)
        for name, value in options.items():
            self.spark.conf.set(name, value)
        self.spark.sql(f"create table called using hudi location '{table}'")
        try:
            for statement in statements:
                self.spark.sql(statement)
        finally:
            self.spark.sql("drop table called")
            for name in options:
                self.spark.conf.unset(name)

    def call(self, procedure, table, arguments=""):
        """Calls a procedure of Hudi's SQL, such as `show_commits`."""
        more = f", {arguments}" if arguments else ""
        self.spark.sql(f"create table called using hudi location '{table}'")
        try:
            found = self.spark.sql(f"call {procedure}(table => 'called'{more})")
            return [spark_hudi.plain(row, found.schema) for row in found.collect()]
        finally:
            self.spark.sql("drop table called")

    def take_in(self, arguments):
        """Runs the library's program in this session."""
        import take_in

        return take_in.main(arguments)

    def _client(self, table, name, options):
        properties = self.jvm.java.util.Properties()
        for key, value in {**spark_hudi.base_options(self.hudi), **options}.items():
            properties.setProperty(key, value)
        config = self.jvm.org.apache.hudi.config.HoodieWriteConfig.newBuilder()
        config = config.withPath(table).forTable(name).withProperties(properties).build()
        context = self.jvm.org.apache.hudi.client.common.HoodieSparkEngineContext(self.spark.sparkContext._jsc)
        return Closing(self.jvm.org.apache.hudi.client.SparkRDDWriteClient(context, config))


def reason(cause):
    """Returns the first line of an error and of each of its causes."""
    lines = [line for line in str(cause).splitlines() if not line.lstrip().startswith(("at ", "..."))]
    told = [line for line in lines[1:] if line.startswith((": ", "Caused by: "))]
    return "; ".join([lines[0], *told])[:4000]


class Closing:
    def __init__(self, client):
        self.client = client

    def __enter__(self):
        return self.client

    def __exit__(self, *_):
        self.client.close()


def main(hudi):
    # The JVM also writes to the inherited standard output, which must not mix with the replies.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    engine = Engine(hudi)

    def reply(**what):
        print(json.dumps(what), file=replies, flush=True)

    reply(ok=engine.spark.version)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply(ok=getattr(engine, request.pop("do"))(**request))
        except Exception as cause:
            reply(error=reason(cause))
    gateway = engine.spark.sparkContext._gateway
    engine.spark.stop()
    gateway.proc.stdin.close()
    gateway.proc.wait()


if __name__ == "__main__":
    main(sys.argv[1])
