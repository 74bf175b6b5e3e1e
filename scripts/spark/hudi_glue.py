"""Hudi's sync to AWS Glue, in a JVM of its own, and the calls with which its result is read.

The tool of 0.15.0 is `org.apache.hudi.aws.sync.AwsGlueCatalogSyncTool`. The table is on the local disk, and the JVM sees the folder as
one of a bucket, so that the catalog has locations as in production.
"""

import json
import os
import pathlib
import time
import urllib.request

import spark_hudi

BUCKET = "s3://bucket/lake"


class Tool:
    """A JVM with Hudi's sync. `lake` is the folder that it sees as `s3://bucket/lake`; its settings are in `folder`."""

    def __init__(self, jars, endpoint, lake, folder):
        from pyspark import SparkConf
        from pyspark.java_gateway import launch_gateway

        pathlib.Path(folder, "log4j2.properties").write_text(spark_hudi.LOG)
        os.environ |= {"SPARK_CONF_DIR": str(folder), "SPARK_LOCAL_IP": "127.0.0.1", "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "id",
                       "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}
        path = [*spark_hudi.jars("0.15.0"), *map(str, sorted(pathlib.Path(jars).glob("*.jar")))]
        conf = SparkConf(loadDefaults=False).setAll([("spark.driver.memory", "1g"), ("spark.driver.extraClassPath", ":".join(path)),
                                                    ("spark.driver.extraJavaOptions", "-Duser.timezone=UTC -XX:+UseParallelGC")])
        self.gateway = launch_gateway(conf)
        self.endpoint = endpoint
        self.hadoop = self.gateway.jvm.org.apache.hadoop.conf.Configuration()
        views = "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme"
        for name, value in [("fs.s3.impl", views), ("fs.viewfs.overload.scheme.target.s3.impl", "org.apache.hadoop.fs.LocalFileSystem"),
                            ("fs.viewfs.mounttable.bucket.link./lake", pathlib.Path(lake).resolve().as_uri()),
                            # Otherwise the Spark schema says of every list that it has no nulls.
                            ("parquet.avro.write-old-list-structure", "false")]:
            self.hadoop.set(name, value)

    def sync(self, database, table, partition="", **options):
        """Synchronizes a table, and returns the seconds on the JVM's clock. `options` replace those of the tool."""
        jvm = self.gateway.jvm
        properties = jvm.org.apache.hudi.common.config.TypedProperties()
        for name, value in {
            "hoodie.datasource.meta.sync.base.path": f"{BUCKET}/{table}",
            "hoodie.datasource.hive_sync.database": database,
            "hoodie.datasource.hive_sync.table": table,
            "hoodie.datasource.hive_sync.partition_fields": partition,
            "hoodie.datasource.write.hive_style_partitioning": "true",
            "hoodie.datasource.hive_sync.support_timestamp": "true",
            "hoodie.aws.glue.endpoint": self.endpoint,
            "hoodie.aws.glue.region": "us-east-1",
            **options,
        }.items():
            properties.setProperty(name, value)
        begin = jvm.System.nanoTime()
        tool = jvm.org.apache.hudi.aws.sync.AwsGlueCatalogSyncTool(properties, self.hadoop)
        tool.syncHoodieTable()
        seconds = (jvm.System.nanoTime() - begin) / 1e9
        tool.close()
        return seconds

    def close(self):
        self.gateway.shutdown()
        self.gateway.proc.terminate()


class Glue:
    """Calls to the server, without an SDK."""

    def __init__(self, endpoint):
        self.endpoint = endpoint

    def call(self, action, **body):
        headers = {
            "X-Amz-Target": f"AWSGlue.{action}",
            "Content-Type": "application/x-amz-json-1.1",
            # The server reads the service in a signature, and does not check it.
            "Authorization": "AWS4-HMAC-SHA256 Credential=id/20260101/us-east-1/glue/aws4_request, SignedHeaders=host, Signature=0",
        }
        request = urllib.request.Request(self.endpoint, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.loads(reply.read() or b"{}")

    def table(self, database, table):
        return self.call("GetTable", DatabaseName=database, Name=table)["Table"]

    def last_commit(self, database, table):
        return self.table(database, table)["Parameters"].get("last_commit_time_sync")

    def wait_for(self, database, table, commit):
        """Waits for the last update of Hudi's sync, whose reply the tool does not await."""
        for _ in range(200):
            if self.last_commit(database, table) == commit:
                # An earlier update may be in flight.
                time.sleep(0.3)
                return
            time.sleep(0.05)
        raise SystemExit(f"{database}.{table}: the catalog does not reach the commit {commit}")

    def unchanged(self, step, database, table, before):
        """Exits and names what a sync has changed in the catalog, compared with `before`: a version and its contents."""
        version, contents = before
        same(step, "the catalog after the second sync", self.contents(database, table), contents)
        same(step, "the version after the second sync", self.table(database, table)["VersionId"], version)

    def state(self, database, table):
        """Returns the version of a table, and its contents."""
        return self.table(database, table)["VersionId"], self.contents(database, table)

    def contents(self, database, table):
        """Returns all that a reader sees of a table, without times and versions."""
        found = self.table(database, table)
        kept = {name: found.get(name) for name in ("Name", "TableType", "Parameters", "PartitionKeys", "StorageDescriptor")}
        partitions = self.call("GetPartitions", DatabaseName=database, TableName=table).get("Partitions", [])
        kept["Partitions"] = {"/".join(part["Values"]): part["StorageDescriptor"] for part in partitions}
        return kept


def same(step, what, found, expected):
    """Exits and names the first difference, unless both are equal."""
    if found == expected:
        return
    if isinstance(found, dict) and isinstance(expected, dict):
        for name in sorted(found.keys() | expected.keys()):
            same(step, f"{what}, {name}", found.get(name), expected.get(name))
    raise SystemExit(f"{step}: {what} is {found!r}, and not {expected!r}")
