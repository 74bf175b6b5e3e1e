"""Apache Hudi on Spark, on local tables of version 6 without a metadata table.

Import it in a Python that has pyspark; `scripts/spark/install --python HUDI` prints its path.
"""

import base64
import datetime
import decimal
import os
import pathlib
import tempfile

SPARK = {"0.14.0": "3.4", "0.15.0": "3.5", "1.0.2": "3.5", "1.2.0": "3.5"}

LOG = """\
rootLogger.level=error
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.target=SYSTEM_ERR
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%p %c{1}: %m%n%ex
"""


def bundle(hudi):
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    return cache / "redshift-orchestrator" / "spark-jars" / f"hudi-spark{SPARK[hudi]}-bundle_2.12-{hudi}.jar"


def start(hudi, cores=2, memory="2g", settings=(), java=""):
    """Creates a Spark session with this version of Hudi, with further settings and options of Java. A process can have only one."""
    os.environ["TZ"] = "UTC"  # Spark passes timestamps to Python in local time
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    folder = tempfile.mkdtemp(prefix="spark-hudi-")
    pathlib.Path(folder, "log4j2.properties").write_text(LOG)
    os.environ["SPARK_CONF_DIR"] = folder

    from pyspark.sql import SparkSession

    settings = dict(settings) | {
        "spark.driver.memory": memory,
        "spark.driver.extraClassPath": str(bundle(hudi)),
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
        "spark.kryo.registrator": "org.apache.spark.HoodieSparkKryoRegistrar",
        "spark.sql.extensions": "org.apache.spark.sql.hudi.HoodieSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.hudi.catalog.HoodieCatalog",
    }
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
        options |= {"hoodie.write.table.version": "6", "hoodie.write.auto.upgrade": "false"}
    return options


def write_options(hudi, name, key, ordering=None, partition="", operation="upsert", others=()):
    """Returns a careful user's options for upserts with a global index and an ordering column."""
    options = base_options(hudi) | {
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
        options |= {
            "hoodie.datasource.write.precombine.field": ordering,
            "hoodie.datasource.write.payload.class": payload,
        }
    return options | dict(others)


def plain(value, of):
    """Converts a value to JSON: decimals, dates and times as strings, binary as base64."""
    from pyspark.sql import types

    match of:
        case _ if value is None:
            return None
        case types.StructType():
            return {field.name: plain(value[field.name], field.dataType) for field in of.fields}
        case types.ArrayType():
            return [plain(item, of.elementType) for item in value]
        case types.MapType():
            return {str(key): plain(item, of.valueType) for key, item in value.items()}
        case types.TimestampType():
            return value.isoformat(timespec="microseconds") + "Z"
    match value:
        case decimal.Decimal():
            return f"{value:f}"
        case datetime.datetime():
            return value.isoformat(timespec="microseconds")
        case datetime.date():
            return value.isoformat()
        case bytes() | bytearray():
            return base64.b64encode(value).decode()
    return value
