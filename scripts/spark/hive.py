"""Hive's way to read a table: Hudi's input format lists the files and reads them, and Hive's Parquet library makes the rows.

The classes come with Spark, so no Hive is installed. Timestamps are declared as `bigint`, as Hudi's catalog synchronization does by default.
"""

import base64

INPUT_FORMAT = "org.apache.hudi.hadoop.HoodieParquetInputFormat"


def rows(jvm, folders, columns, types):
    """Yields the rows of partition folders, as the values of Hive's types in JSON: dates and decimals as text, bytes in base64, maps as pairs."""
    hadoop, hive = jvm.org.apache.hadoop, jvm.org.apache.hadoop.hive
    job = hadoop.mapred.JobConf()
    job.set("columns", ",".join(columns))
    job.set("columns.types", ":".join(types))
    job.set("hive.io.file.readcolumn.ids", ",".join(str(number) for number in range(len(columns))))
    job.set("hive.io.file.readcolumn.names", ",".join(columns))
    # The name that Hive gives its jobs. Hudi looks for it to know its reader.
    job.set("mapreduce.job.name", "hive")
    hadoop.mapred.FileInputFormat.setInputPaths(job, ",".join(folder.replace("\\", "\\\\").replace(",", "\\,") for folder in folders))
    properties = jvm.java.util.Properties()
    properties.setProperty("columns", job.get("columns"))
    properties.setProperty("columns.types", job.get("columns.types"))
    parser = hive.ql.io.parquet.serde.ParquetHiveSerDe()
    parser.initialize(job, properties)
    inspector = parser.getObjectInspector()
    files = jvm.java.lang.Class.forName(INPUT_FORMAT).getDeclaredConstructor(None).newInstance(None)
    files.setConf(job)
    for split in files.getSplits(job, 1):
        reader = files.getRecordReader(split, job, hadoop.mapred.Reporter.NULL)
        key, value = reader.createKey(), reader.createValue()
        while reader.next(key, value):
            yield plain(parser.deserialize(value), inspector)
        reader.close()


def plain(value, inspector):
    if value is None:
        return None
    category = inspector.getCategory().toString()
    if category == "STRUCT":
        fields = inspector.getAllStructFieldRefs()
        return {field.getFieldName(): plain(inspector.getStructFieldData(value, field), field.getFieldObjectInspector()) for field in fields}
    if category == "LIST":
        of = inspector.getListElementObjectInspector()
        return [plain(inspector.getListElement(value, number), of) for number in range(inspector.getListLength(value))]
    if category == "MAP":
        keys, values = inspector.getMapKeyObjectInspector(), inspector.getMapValueObjectInspector()
        return [[plain(entry.getKey(), keys), plain(entry.getValue(), values)] for entry in inspector.getMap(value).entrySet()]
    value = inspector.getPrimitiveJavaObject(value)
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    return value.toString() if hasattr(value, "getClass") else value
