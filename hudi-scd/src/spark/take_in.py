"""Takes raw files into a Hudi table with Spark, each only once. Runs as a job of AWS Glue, or on any Spark 3 with Hudi 0.14 or later.

    spark-submit ... take_in.py --table s3://lake/customer --options '{"hoodie.table.name": ...}' \
        --profile reference --files '[["s3://raw/customer/1.csv", "d41d8cd98f00b204e9800998ecf8427e"]]'

hudi-scd (https://docs.rs/hudi-scd, module `spark`) renders the options from the definition of the table. A file is a name and a
version, usually a URL and the object's version id or ETag. Each commit records its files in its metadata, and a ledger in
`.hoodie/.aux` records the files of all commits. hudi-scd reads both, so neither engine takes in a file that the other one has
taken in. The content of a file must not change between listing it and running the program.

Rows are cleaned by the same rules as in the Lambda handler `hudi` of sfn-adapter. A batch without new files causes no commit.
The last line of the output is a JSON object with the `instant` of the commit or null, the numbers of `new` and `known` files,
and `rows`.
"""

import argparse
import datetime
import hashlib
import json
import re

from pyspark.sql import SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

# The entry of a commit's metadata that lists its files. Spark copies options with this prefix into the metadata.
PREFIX = "hudi_scd."
FILES = PREFIX + "files"
AUXILIARY = ".hoodie/.aux"
LEDGERS = AUXILIARY + "/tombstones"
OWN_PROPERTIES = AUXILIARY + "/hudi_scd.properties"
COMMIT = re.compile(r"(\d{14}|\d{17})\.(commit|replacecommit)")
LEDGER = re.compile(r"(\d{14}|\d{17})\.ledger")
# A string that no file contains. It distinguishes an empty field without quotes (NULL) from one with quotes (the empty string).
NO_VALUE = "\x00"
FILE, ROW = "_take_in_file", "_take_in_row"


class Refused(Exception):
    """The input or the table is invalid. The message says what to do."""


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--table", required=True, help="URL of the table's folder; the table is created if it does not exist")
    parser.add_argument("--options", required=True, type=json.loads, help="JSON object with Hudi's options")
    parser.add_argument("--files", type=json.loads, default=[], help="JSON array of [name, version]; rows are applied in this order")
    parser.add_argument("--files-from", help="URL of a file that contains such an array, for many files")
    parser.add_argument("--source-table", help="table in the catalog whose files are read; without --files, all of its files")
    parser.add_argument("--read-from", action="append", default=[], metavar="PREFIX=PREFIX", help="replace the first prefix of file names by the second one when reading, such as s3://=s3a://")
    parser.add_argument("--format", choices=("csv", "json", "parquet"), help="format of the files; default: determined by their extensions")
    parser.add_argument("--profile", default="{}", help="cleaning rules: `reference`, or a JSON object")
    parser.add_argument("--columns", type=json.loads, help="columns of a new table, as Spark's StructType in JSON; default: the columns of the files")
    parser.add_argument("--own-properties", type=json.loads, default={}, help="properties of a new table that only hudi-scd reads")
    # Glue adds its own arguments.
    given, _ = parser.parse_known_args(arguments)
    spark = SparkSession.builder.getOrCreate()
    settings = {"spark.sql.session.timeZone": "UTC", "spark.sql.ansi.enabled": "true"}
    before = {name: spark.conf.get(name, None) for name in settings}
    for name, value in settings.items():
        spark.conf.set(name, value)
    try:
        report = take_in(spark, given)
    finally:
        for name, value in before.items():
            spark.conf.set(name, value) if value is not None else spark.conf.unset(name)
    print(json.dumps(report), flush=True)
    return report


def take_in(spark, given):
    table = Table(spark, given.table)
    source = Source.of_catalog(spark, given.source_table) if given.source_table else Source(given.format)
    files = [tuple(file) for file in (json.loads(table.files.read(given.files_from)) if given.files_from else given.files)]
    if not files and given.source_table:
        files = source.files(table.files)
    table.check()
    known = table.known()
    new = [file for number, file in enumerate(files) if digest(*file) not in known and file not in files[:number]]
    report = {"instant": None, "new": len(new), "known": len(files) - len(new), "rows": 0}
    if table.exists:
        table.keep_own(given.own_properties)
    if not new:
        return report
    stored = table.columns() if table.exists else T.StructType.fromJson(given.columns) if given.columns else None
    profile = Profile(given.profile, datetime.datetime.now(datetime.timezone.utc))
    rows, columns = None, stored
    for number, (name, _) in enumerate(new):
        cleaned = profile.clean(source.read(spark, place(name, given.read_from)), columns).withColumn(FILE, F.lit(number))
        cleaned = cleaned.withColumn(ROW, F.monotonically_increasing_id())
        columns = extended(columns, cleaned.schema)
        rows = cleaned if rows is None else rows.unionByName(cleaned, allowMissingColumns=True)
    rows = newest(rows, given.options).cache()
    report["rows"] = rows.count()
    if report["rows"]:
        rows = conformed(spark, rows, columns)
        options = {**given.options, "hoodie.datasource.write.commitmeta.key.prefix": PREFIX, FILES: json.dumps(new, separators=(",", ":"))}
        before = set(table.commits())
        rows.write.format("hudi").options(**options).mode("append").save(given.table)
        table = Table(spark, given.table)
        report["instant"] = max(set(table.commits()) - before)
        table.keep(report["instant"], known | {digest(*file) for file in new})
        table.keep_own(given.own_properties)
    rows.unpersist()
    return report


def place(name, prefixes):
    """Returns the URL that Spark uses to read a file."""
    for known, _, other in (pair.partition("=") for pair in prefixes):
        if name.startswith(known):
            return other + name[len(known) :]
    return name


def digest(name, version):
    """Returns the digest of a file, as in hudi-scd's ledger."""
    name, version = name.encode(), version.encode()
    return hashlib.sha256(len(name).to_bytes(8, "little") + name + version).digest()[:16]


def newest(rows, options):
    """Keeps, for each key, the row with the highest ordering value and, on a tie, the last one."""
    key = [F.col(name) for name in options["hoodie.datasource.write.recordkey.field"].split(",")]
    # Hudi 1.1 and later use the second name.
    names = ("hoodie.datasource.write.precombine.field", "hoodie.table.ordering.fields")
    ordering = next((options[name] for name in names if name in options), None)
    order = [F.col(name).desc_nulls_last() for name in [ordering] if name] + [F.col(FILE).desc(), F.col(ROW).desc()]
    numbered = rows.withColumn("_take_in_rank", F.row_number().over(Window.partitionBy(*key).orderBy(*order)))
    return numbered.where("_take_in_rank = 1").drop("_take_in_rank", FILE, ROW)


def extended(columns, found):
    """Adds the columns that the table lacks."""
    known = columns.names if columns else []
    added = [field for field in found.fields if field.name not in known and field.name not in (FILE, ROW)]
    return T.StructType((columns.fields if columns else []) + added)


def conformed(spark, rows, columns):
    """Orders the columns as in the table. A column that is not nullable stays so."""
    rows = rows.select(*[F.col(quoted(field.name)).cast(field.dataType).alias(field.name) for field in columns.fields])
    schema = spark._jvm.org.apache.spark.sql.types.DataType.fromJson(columns.json())
    frame = spark._jsparkSession.createDataFrame(rows._jdf.toJavaRDD(), schema)
    return type(rows)(frame, spark)


def quoted(name):
    return "`" + name.replace("`", "``") + "`"


class Files:
    """Accesses files through the file systems of Hadoop: S3, a local disk."""

    def __init__(self, spark):
        self.jvm, self.configuration = spark._jvm, spark._jsc.hadoopConfiguration()

    def at(self, url):
        path = self.jvm.org.apache.hadoop.fs.Path(url)
        return path.getFileSystem(self.configuration), path

    def read(self, url):
        system, path = self.at(url)
        stream = system.open(path)
        try:
            return self.jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8")
        finally:
            stream.close()

    def exists(self, url):
        system, path = self.at(url)
        return system.exists(path)

    def names(self, url):
        """Returns the names in a folder."""
        system, path = self.at(url)
        return [status.getPath().getName() for status in system.listStatus(path)] if system.exists(path) else []

    def below(self, url):
        """Returns (URL, size, time of the last change in milliseconds) of the files below a folder."""
        system, path = self.at(url)
        found, files = [], system.listFiles(path, True)
        while files.hasNext():
            status = files.next()
            if not status.getPath().getName().startswith((".", "_")):
                found.append((status.getPath().toString(), status.getLen(), status.getModificationTime()))
        return sorted(found)

    def move(self, source, target):
        system, path = self.at(target)
        system.delete(path, False)
        if not system.rename(self.jvm.org.apache.hadoop.fs.Path(source), path):
            raise OSError(f"{source} cannot be renamed to {target}")

    def delete(self, url):
        system, path = self.at(url)
        system.delete(path, True)

    def write_properties(self, url, properties):
        system, path = self.at(url)
        java = self.jvm.java.util.Properties()
        for name, value in properties.items():
            java.setProperty(name, value)
        stream = system.create(path, True)
        try:
            java.store(stream, None)
        finally:
            stream.close()


class Table:
    """A Hudi table: its columns, and its ledger of raw files."""

    def __init__(self, spark, url):
        self.spark, self.files, self.url = spark, Files(spark), url.rstrip("/")
        self.exists = self.files.exists(f"{self.url}/.hoodie/hoodie.properties")

    def check(self):
        """Rejects a table whose timeline is in a different folder, because Redshift and hudi-scd cannot continue to use it."""
        if self.exists:
            text = self.files.read(f"{self.url}/.hoodie/hoodie.properties")
            version = re.search(r"^hoodie\.table\.version=(\d+)", text, re.MULTILINE)
            if version and int(version[1]) > 6:
                raise Refused(f"{self.url} has table version {version[1]}; downgrade it to 6 by Hudi's procedure upgrade_or_downgrade")

    def commits(self):
        """Returns the completed commits of the active timeline: names by instants."""
        found = (COMMIT.fullmatch(name) for name in self.files.names(f"{self.url}/.hoodie"))
        return {match[1]: match[0] for match in found if match}

    def columns(self):
        fields = self.spark.read.format("hudi").load(self.url).schema.fields
        return T.StructType([field for field in fields if not field.name.startswith("_hoodie_") or field.name == "_hoodie_is_deleted"])

    def known(self):
        """Returns the digests of the files that completed commits took in."""
        if not self.exists:
            return set()
        commits = self.commits()
        first = min(commits, default="")
        ledgers = sorted(match[1] for match in map(LEDGER.fullmatch, self.files.names(f"{self.url}/{LEDGERS}")) if match)
        archived = None
        while ledgers and ledgers[-1] not in commits:
            # A ledger without a commit belongs to a write that died.
            if ledgers[-1] < first:
                archived = self.archived() if archived is None else archived
                if ledgers[-1] in archived:
                    break
            ledgers.pop()
        since = ledgers[-1] if ledgers else ""
        known = set()
        if since:
            rows = self.spark.read.parquet(f"{self.url}/{LEDGERS}/{since}.ledger").collect()
            known.update(bytes(row[0]) for row in rows)
        if since < first:
            archived = self.archived() if archived is None else archived
            for instant, taken in archived.items():
                known.update(taken if since < instant < first else ())
        for instant, name in commits.items():
            if instant > since:
                known.update(taken_in(self.files.read(f"{self.url}/.hoodie/{name}")))
        return known

    def archived(self):
        """Returns the digests of the files of archived commits, by instants."""
        jvm, configuration = self.spark._jvm, self.spark._jsc.hadoopConfiguration()
        utilities = jvm.org.apache.hudi.hadoop.fs.HadoopFSUtils
        # Hudi 0.14 accepts Hadoop's configuration itself, and lacks the class.
        if type(utilities).__name__ != "JavaPackage":
            configuration = utilities.getStorageConf(configuration)
        client = jvm.org.apache.hudi.common.table.HoodieTableMetaClient.builder().setConf(configuration).setBasePath(self.url).build()
        timeline = client.getArchivedTimeline()
        timeline.loadCompletedInstantDetailsInMemory()
        found = {}
        for instant in timeline.getCommitsTimeline().filterCompletedInstants().getInstants():
            # `[20260101000000000__commit__COMPLETED]`, and 1.x has another name for the method that returns the time.
            time = re.search(r"\d+", instant.toString())[0]
            details = timeline.getInstantDetails(instant)
            found[time] = taken_in(bytes(details.get()).decode()) if details.isPresent() else set()
        return found

    def keep(self, instant, digests):
        """Writes the ledger of a commit. If the program dies before that, only the commit's metadata name its files."""
        folder = f"{self.url}/{LEDGERS}"
        columns = T.StructType([T.StructField("file", T.BinaryType(), False)])
        rows = self.spark.createDataFrame([(bytearray(one),) for one in sorted(digests)], columns)
        parts = f"{folder}/_{instant}"
        rows.coalesce(1).write.mode("overwrite").parquet(parts)
        (part,) = [name for name in self.files.names(parts) if name.endswith(".parquet")]
        self.files.move(f"{parts}/{part}", f"{folder}/{instant}.ledger")
        self.files.delete(parts)

    def keep_own(self, properties):
        """Stores properties that Hudi does not take from its options: retention and codec."""
        if properties and not self.files.exists(f"{self.url}/{OWN_PROPERTIES}"):
            self.files.write_properties(f"{self.url}/{OWN_PROPERTIES}", properties)


def taken_in(metadata):
    """Returns the digests of the files that a commit took in, according to its metadata."""
    extra = (json.loads(metadata) if metadata else {}).get("extraMetadata") or {}
    return {digest(name, version) for name, version in json.loads(extra.get(FILES) or "[]")}


class Source:
    """Raw files: their format, and the names of their columns if a catalog contains them."""

    def __init__(self, format=None, location=None, names=None, options=()):
        self.format, self.location, self.names, self.options = format, location, names, dict(options)

    @classmethod
    def of_catalog(cls, spark, name):
        """A table in the catalog. Columns that appear only in folder names are omitted."""
        session = spark._jsparkSession.sessionState()
        found = session.catalog().getTableMetadata(session.sqlParser().parseTableIdentifier(name))
        storage = found.storage()
        text = " ".join(option.get() for option in (found.provider(), storage.serde()) if option.isDefined()).lower()
        format = next((format for format in ("csv", "json", "parquet") if format in text), "csv" if "lazysimpleserde" in text else None)
        if format is None:
            raise Refused(f"the files of {name} are neither CSV, JSON lines nor Parquet ({text}); name the files with --files")
        properties = {}
        for pairs in (found.properties(), storage.properties()):
            pairs = pairs.iterator()
            while pairs.hasNext():
                pair = pairs.next()
                properties[pair._1()] = pair._2()
        separator = properties.get("field.delim") or properties.get("separatorChar") or properties.get("sep") or properties.get("delimiter") or ","
        header = properties.get("skip.header.line.count", "0") != "0" or properties.get("header", "false").lower() == "true"
        partitions = set(found.partitionColumnNames().mkString("\n").split("\n"))
        names = [field for field in found.schema().fieldNames() if field not in partitions]
        return cls(format, storage.locationUri().get().toString(), names, {"sep": separator, "header": str(header).lower()})

    def files(self, files):
        """Returns all files of the table, with their versions."""
        return [(url, version(url, size, time)) for url, size, time in files.below(self.location)]

    def read(self, spark, name):
        """Returns the rows of a file. The values of text files are strings."""
        bare = re.sub(r"\.(gz|gzip)$", "", name.lower())
        format = self.format or {"csv": "csv", "json": "json", "jsonl": "json", "ndjson": "json", "parquet": "parquet"}.get(bare.rsplit(".", 1)[-1])
        if format is None:
            raise Refused(f"the extension of {name} does not tell its format; name it with --format")
        if format == "parquet":
            return Raw(spark.read.parquet(name), "parquet")
        if format == "csv":
            options = {"header": "true", "quote": '"', "escape": '"', "multiLine": "true", "nullValue": NO_VALUE, "mode": "FAILFAST"}
            read = spark.read.options(**{**options, **self.options})
            if self.names:
                read = read.schema(T.StructType([T.StructField(column, T.StringType()) for column in self.names]))
            return Raw(read.csv(name), "csv")
        typed = spark.read.option("mode", "FAILFAST").json(name).schema
        nested = (T.ArrayType, T.StructType)
        text = [T.StructField(field.name, field.dataType if isinstance(field.dataType, nested) else T.StringType()) for field in typed.fields]
        rows = spark.read.schema(T.StructType(text)).option("mode", "FAILFAST").json(name)
        return Raw(rows, "json", {field.name: field.dataType for field in typed.fields})


def version(url, size, time):
    """Returns the version of a file: the version id or the ETag of an object in S3; otherwise its size and time."""
    match = re.fullmatch(r"s3[an]?://([^/]+)/(.+)", url)
    if not match:
        return f"{size}-{time}"
    import boto3

    found = boto3.client("s3").head_object(Bucket=match[1], Key=match[2])
    id = found.get("VersionId")
    return id if id and id != "null" else found["ETag"].strip('"')


class Raw:
    """Rows of a file before cleaning."""

    def __init__(self, rows, format, typed=None):
        self.rows, self.format, self.typed = rows, format, typed or {}

    def guesses(self, names):
        """Returns the narrowest types that can represent the values of columns, by hudi-scd's rules. None for columns without values."""
        types = {field.name: field.dataType for field in self.rows.schema.fields}
        texts = [name for name in names if isinstance(types[name], T.StringType) and self.format != "parquet"]
        classes = [F.collect_set(F.expr(guess(quoted(name), self.typed.get(name)))).alias(str(at)) for at, name in enumerate(texts)]
        found = self.rows.agg(*classes).first() if texts else []
        guessed = {name: widest(set(seen)) for name, seen in zip(texts, found)}
        return {name: guessed[name] if name in guessed else types[name] for name in names}


def guess(column, typed):
    """Returns the SQL that determines the type of a string. `00501` is text. In JSON, only a value without quotes is a number."""
    clock = f"length({column}) > 10 and {column} rlike '^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[T ]' and try_cast({column} as timestamp) is not null"
    times = f"when {column} rlike '^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}$' and try_cast({column} as date) is not null then 'date' when {clock} then 'timestamp'"
    if isinstance(typed, T.StringType):
        return f"case when {column} is null then null {times} else 'text' end"
    padded = f"{column} rlike '^-?0[0-9eE+-]'"
    number = f"{column} rlike '^-?[0-9][0-9.eE+-]*$' and not {padded} and try_cast({column} as double) is not null"
    return (
        f"case when {column} is null then null when lower({column}) in ('true', 'false') then 'bool' "
        f"when {number} and {column} rlike '^-?[0-9]+$' then if(try_cast({column} as bigint) is null, 'text', 'int') "
        f"when {number} then 'float' {times} else 'text' end"
    )


def widest(seen):
    known = {"bool": T.BooleanType(), "int": T.LongType(), "float": T.DoubleType(), "date": T.DateType(), "timestamp": T.TimestampType()}
    for pair, both in (({"int", "float"}, "float"), ({"date", "timestamp"}, "timestamp")):
        if seen == pair:
            seen = {both}
    return None if not seen else known.get(*seen, T.StringType()) if len(seen) == 1 else T.StringType()


class Profile:
    """Cleaning rules, as in `HUDI_PROFILE` of sfn-adapter's handler `hudi`."""

    REFERENCE = {
        "columns": {"processing_datetime": "epoch-seconds", "*_datetime": "timestamp", "*_date": "date", "zip": "text"},
        "doubles": "decimal(15,2)",
        "processing_time": "etl_processing_datetime",
    }
    MEMBERS = {"preset", "columns", "doubles", "processing_time", "date"}

    def __init__(self, text, now):
        written = {"preset": "reference"} if text == "reference" else json.loads(text)
        if set(written) - self.MEMBERS or written.get("preset") not in (None, "reference"):
            raise Refused(f"a profile has the members {', '.join(sorted(self.MEMBERS))}, and the preset is `reference`")
        preset = self.REFERENCE if written.get("preset") else {}
        self.columns = {**preset.get("columns", {}), **written.get("columns", {})}
        self.doubles = written.get("doubles") or preset.get("doubles")
        self.processing_time = written.get("processing_time") or preset.get("processing_time")
        self.date = written.get("date")
        self.now = now.strftime("%Y-%m-%d %H:%M:%S")
        for rule in [*self.columns.values(), *([self.doubles] if self.doubles else [])]:
            if rule not in ("timestamp", "epoch-seconds", "date", "text") and not decimal(rule):
                raise Refused(f"{rule}: a type must be timestamp, epoch-seconds, date, text or decimal(P,S)")

    def rule(self, name):
        """Returns the rule for a column: its own, or the rule of the longest matching pattern."""
        if name in self.columns:
            return self.columns[name]

        def fits(pattern):
            return name.endswith(pattern[1:]) if pattern.startswith("*") else pattern.endswith("*") and name.startswith(pattern[:-1])

        patterns = [pattern for pattern in self.columns if fits(pattern)]
        return self.columns[max(patterns, key=lambda pattern: (len(pattern), pattern))] if patterns else None

    def added(self):
        return [name for name in (self.processing_time, (self.date or {}).get("column")) if name]

    def clean(self, raw, table):
        """Returns the rows of a file with the types of the table; `table` is None before its first commit."""
        types = {field.name: field.dataType for field in table.fields} if table else {}
        missing = [name for name in types if name not in raw.rows.columns and name not in self.added()]
        if missing and raw.format != "json":
            raise Refused(f"a file lacks the column {missing[0]} of the table, which would set it to NULL")
        unruled = [name for name in raw.rows.columns if self.rule(name) is None]
        guesses = raw.guesses([name for name in unruled if self.doubles or name not in types])
        columns = []
        for field in raw.rows.schema.fields:
            name, rule = field.name, self.rule(field.name)
            guessed = guesses.get(name, field.dataType)
            if rule is None and self.doubles and isinstance(guessed, (T.DoubleType, T.FloatType)):
                rule = self.doubles
            column = F.col(quoted(name))
            if rule:
                column = ruled(column, field.dataType, rule, name)
            elif name in types:
                column = exact(column, field.dataType, types[name], name)
            elif guessed is None:
                continue  # The type of a column without values would be a guess.
            else:
                column = exact(column, field.dataType, guessed, name)
            columns.append(column.alias(name))
        rows = raw.rows.select(*columns)
        if self.processing_time:
            rows = rows.withColumn(self.processing_time, F.lit(self.now).cast("timestamp"))
        if self.date:
            if self.date["of"] not in rows.columns:
                raise Refused(f"a file lacks the column {self.date['of']} with the time of its date")
            rows = rows.withColumn(self.date["column"], F.col(quoted(self.date["of"])).cast("date"))
        for name in [name for name in types if name not in rows.columns]:
            rows = rows.withColumn(name, F.lit(None).cast(types[name]))
        conform = [F.col(quoted(name)).cast(types[name]).alias(name) if name in types else F.col(quoted(name)) for name in rows.columns]
        return rows.select(*conform)


def decimal(rule):
    match = re.fullmatch(r"decimal\(\s*(\d+)\s*,\s*(\d+)\s*\)", rule)
    return T.DecimalType(int(match[1]), int(match[2])) if match and 1 <= int(match[1]) <= 38 and int(match[2]) <= int(match[1]) else None


def ruled(column, found, rule, name):
    """Converts a column by a rule of the profile."""
    if rule == "text":
        return column.cast("string")
    if decimal(rule):
        return column.cast(decimal(rule))  # Spark rounds half up, by the digits with which a double is written.
    if rule == "date":
        return exact(column, found, T.DateType(), name)
    if rule == "epoch-seconds" and not isinstance(found, T.TimestampType):
        return F.timestamp_seconds(column.cast("bigint"))
    if isinstance(found, (T.StringType, T.DateType, T.TimestampType)):
        return exact(column, found, T.TimestampType(), name)
    raise Refused(f"{name}: a number is not a time, because it has no unit; give the column the type epoch-seconds in the profile")


def exact(column, found, wanted, name):
    """Converts a column to a type. A value that the type cannot represent is an error."""
    if found == wanted:
        return column
    if isinstance(wanted, (T.DateType, T.TimestampType)) and isinstance(found, T.StringType):
        shape = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$" if isinstance(wanted, T.DateType) else "^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].*)?$"
        return checked(column, column.rlike(shape), column.cast(wanted), name, wanted)
    if isinstance(wanted, T.BinaryType) and isinstance(found, T.StringType):
        return F.unbase64(column)
    converted = column.cast(wanted)
    whole = isinstance(wanted, (T.IntegerType, T.LongType))
    if whole or (isinstance(wanted, T.DecimalType) and wanted.scale <= 18 and wanted.precision - wanted.scale <= 20):
        wide = column.cast("decimal(38,18)")
        converted = wide.cast(wanted)
        return checked(column, converted.cast("decimal(38,18)") == wide, converted, name, wanted)
    return converted


def checked(column, holds, converted, name, wanted):
    message = F.concat(F.lit(f"{name}: "), F.coalesce(column.cast("string"), F.lit("NULL")), F.lit(f" does not fit {wanted.simpleString()} exactly"))
    return F.when(column.isNull() | holds, converted).otherwise(F.raise_error(message).cast(wanted))


if __name__ == "__main__":
    main()
