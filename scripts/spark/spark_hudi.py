"""Apache Hudi on Spark, on local tables.

Import it in a Python that has pyspark; `scripts/spark/install --python HUDI` prints its path. Spark 3.1 has Python 3.8.
"""

import base64
import datetime
import decimal
import os
import pathlib
import tempfile

SPARK = {"0.9.0": "3.1", "0.10.0": "3.1", "0.12.2": "3.3", "0.14.0": "3.4", "0.15.0": "3.5", "0.15.1": "3.5", "1.0.2": "3.5", "1.2.0": "3.5"}
# The releases before 0.12 have one bundle for all of Spark 3, which needs two libraries beside it; the Scala of Spark 3.1 cannot
# deserialize lambdas on Java 17.
BUNDLES = {"0.9.0": "hudi-spark3-bundle_2.12", "0.10.0": "hudi-spark3-bundle_2.12"}
BESIDE = {"3.1": ["scala-library-2.12.18.jar", "spark-avro_2.12-3.1.3.jar"]}
# Packages that Spark 3.1 needs opened on Java 17.
OPENS = """java.lang java.lang.invoke java.lang.reflect java.io java.net java.nio java.util java.util.concurrent
    java.util.concurrent.atomic sun.nio.ch sun.nio.cs sun.security.action sun.util.calendar jdk.internal.ref jdk.internal.misc"""

LOG = """\
rootLogger.level=error
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.target=SYSTEM_ERR
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%p %c{1}: %m%n%ex
"""
# The same for Spark before 3.3.
LOG_1 = """\
log4j.rootCategory=ERROR, console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.target=System.err
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%p %c{1}: %m%n
"""


# Hadoop's file system on S3 for Spark 3.5.
S3A = ["hadoop-aws-3.3.4.jar", "aws-java-sdk-bundle-1.12.262.jar"]


def s3a(endpoint):
    """Returns the settings of Hadoop's file system for a server on this machine, with the credentials of scripts/s3/server."""
    settings = {
        "endpoint": endpoint,
        "access.key": "id",
        "secret.key": "secret",
        "path.style.access": "true",
        "connection.ssl.enabled": "false",
        "impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
        "endpoint.region": "us-east-1",
        # The default of Hadoop 3.4. The one of 3.3 deletes the markers of all parent folders after each write.
        "directory.marker.retention": "keep",
    }
    return {f"spark.hadoop.fs.s3a.{name}": value for name, value in settings.items()}


def jars(hudi, beside=()):
    """The bundle of a version of Hudi, behind what it needs."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    bundle = BUNDLES.get(hudi, f"hudi-spark{SPARK[hudi]}-bundle_2.12")
    names = [*beside, *BESIDE.get(SPARK[hudi], []), f"{bundle}-{hudi}.jar"]
    return [str(cache / "redshift-orchestrator" / "spark-jars" / name) for name in names]


def start(hudi, cores=2, memory="2g", settings=(), java="", beside=()):
    """Creates a Spark session with this version of Hudi, with further settings, options of Java and jars. A process can have only one."""
    os.environ["TZ"] = "UTC"  # Spark passes timestamps to Python in local time
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    folder = tempfile.mkdtemp(prefix="spark-hudi-")
    pathlib.Path(folder, "log4j2.properties").write_text(LOG)
    pathlib.Path(folder, "log4j.properties").write_text(LOG_1)
    os.environ["SPARK_CONF_DIR"] = folder

    from pyspark.sql import SparkSession

    if SPARK[hudi] == "3.1":
        java += "".join(f" --add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENS.split())
    settings = {
        **dict(settings),
        "spark.driver.memory": memory,
        "spark.driver.extraClassPath": ":".join(jars(hudi, beside)),
        # The last two silence a library that measures objects.
        "spark.driver.extraJavaOptions": "-Duser.timezone=UTC -XX:+UseParallelGC "
        f"-Djdk.attach.allowAttachSelf=true -Djol.skipHotspotSAAttach=true {java}",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.local.dir": folder,
        "spark.sql.warehouse.dir": folder + "/warehouse",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": cores,
        "spark.default.parallelism": cores,
        "spark.serializer": "org.apache.spark.serializer.KryoSerializer",
        "spark.sql.extensions": "org.apache.spark.sql.hudi.HoodieSparkSessionExtension",
        # Hudi 0.12 on Spark 3.3.2 and later.
        "spark.hadoop.spark.sql.legacy.parquet.nanosAsLong": "false",
    }
    if hudi not in ("0.9.0", "0.10.0", "0.12.2"):
        settings["spark.kryo.registrator"] = "org.apache.spark.HoodieSparkKryoRegistrar"
        settings["spark.sql.catalog.spark_catalog"] = "org.apache.spark.sql.hudi.catalog.HoodieCatalog"
    builder = SparkSession.builder.master(f"local[{cores}]").appName(f"hudi {hudi}")
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


def base_options(hudi):
    """Returns the options that keep a table readable for old engines, whatever version writes it."""
    options = {"hoodie.metadata.enable": "false"}
    if not hudi.startswith("0."):
        options.update({"hoodie.write.table.version": "6", "hoodie.write.auto.upgrade": "false"})
    return options


def write_options(hudi, name, key, ordering=None, partition="", operation="upsert", others=()):
    """Returns a careful user's options for upserts with a global index and an ordering column.

    `others` override them; a value of None leaves the option at Hudi's default.
    """
    options = {
        **base_options(hudi),
        "hoodie.table.name": name,
        "hoodie.datasource.write.table.type": "COPY_ON_WRITE",
        "hoodie.datasource.write.operation": operation,
        "hoodie.datasource.write.recordkey.field": key,
        "hoodie.datasource.write.partitionpath.field": partition,
        "hoodie.datasource.write.hive_style_partitioning": "true",
        "hoodie.index.type": "GLOBAL_BLOOM",
        "hoodie.bloom.index.update.partition.path": "true",
        "hoodie.upsert.shuffle.parallelism": "2",
        "hoodie.insert.shuffle.parallelism": "2",
        "hoodie.delete.shuffle.parallelism": "2",
        "hoodie.bulkinsert.shuffle.parallelism": "1",
    }
    if ordering:
        # Hudi 0.x would let an older row win without this class.
        payload = "org.apache.hudi.common.model.DefaultHoodieRecordPayload"
        options["hoodie.datasource.write.precombine.field"] = ordering
        options["hoodie.datasource.write.payload.class"] = payload
    options.update(dict(others))
    return {name: value for name, value in options.items() if value is not None}


def plain(value, of):
    """Converts a value to JSON: decimals, dates and times as strings, binary as base64."""
    from pyspark.sql import types

    if value is None:
        return None
    if isinstance(of, types.StructType):
        return {field.name: plain(value[field.name], field.dataType) for field in of.fields}
    if isinstance(of, types.ArrayType):
        return [plain(item, of.elementType) for item in value]
    if isinstance(of, types.MapType):
        return {str(key): plain(item, of.valueType) for key, item in value.items()}
    if isinstance(of, types.TimestampType):
        return value.isoformat(timespec="microseconds") + "Z"
    if isinstance(value, decimal.Decimal):
        return f"{value:f}"
    if isinstance(value, datetime.datetime):
        return value.isoformat(timespec="microseconds")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    return value
