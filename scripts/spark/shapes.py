"""The tables that `make_tables.py` makes: their writers' options and what is written, step by step."""

import pathlib
import shutil

DAYS = ["2024-01-03", "2024-02-29", "1969-12-31"]
ODD = ["north sea", "süd/über", "a=b", "100%", "", None]

VIRTUAL = {"hoodie.populate.meta.fields": "false", "hoodie.index.type": "SIMPLE"}
DROPPED = {"hoodie.datasource.write.drop.partition.columns": "true"}
PAYLOAD = {"hoodie.datasource.write.payload.class": "org.apache.hudi.common.model.DefaultHoodieRecordPayload"}
MOVES = {"hoodie.index.type": "GLOBAL_BLOOM", "hoodie.bloom.index.update.partition.path": "true"}
RETAINED = {"hoodie.cleaner.policy": "KEEP_LATEST_COMMITS", "hoodie.cleaner.commits.retained": "3"}


def of(rows, operation="upsert", **more):
    return {"rows": list(rows), "operation": operation, **more}


# Few columns; partitioned by text, day and number.
FEW = "id bigint, name string, amount decimal(12,3), region string, day date, level int, upd bigint"


def few(key, version=0, **more):
    row = {
        "id": key,
        "name": f"name {key} v{version}",
        "amount": f"{key * 7 + version}.125",
        "region": ["n", "s"][key % 2],
        "day": DAYS[key % 2],
        "level": key % 3,
        "upd": version * 100 + key,
    }
    return {**row, **more}


def fews(keys, version=0, **more):
    return [few(key, version, **more) for key in keys]


BASE = {"schema": FEW, "key": "id", "ordering": "upd"}
CHANGES = [of(fews(range(1, 13))), of(fews([1, 2, 13], 1)), of(fews([3], 2), "delete"), of(fews([4, 14], 3))]

SHAPES = []


def add(name, hudi, describe, version=None, **shape):
    SHAPES.append({**BASE, "name": name, "hudi": hudi, "describe": describe, "version": version, "steps": CHANGES, **shape})


COMPLEX = {"hoodie.datasource.write.keygenerator.class": "org.apache.hudi.keygen.ComplexKeyGenerator"}
ENCODED = {"hoodie.datasource.write.partitionpath.urlencode": "true"}
for name, hudi in [("read-virtual-0.15", "0.15.0"), ("v9-virtual-1.2", "1.2.0")]:
    add(name, hudi, f"Hudi {hudi} without meta columns, in two partitions", partition="region", hive_style=True, options={**PAYLOAD, **VIRTUAL})
for name, hudi in [("read-virtual-flat-0.12", "0.12.2"), ("v8-virtual-flat-1.0", "1.0.2")]:
    add(name, hudi, f"Hudi {hudi} without meta columns, unpartitioned", options={**PAYLOAD, **VIRTUAL})
for name, hudi in [("read-dropped-0.12", "0.12.2"), ("read-dropped-0.15", "0.15.0"), ("v8-dropped-1.0", "1.0.2")]:
    add(
        name,
        hudi,
        f"Hudi {hudi} without the partition columns in its files: text, day and number",
        partition="region,day,level",
        hive_style=True,
        options={**PAYLOAD, **DROPPED, **COMPLEX},
    )
for name, hudi in [("read-dropped-plain-0.12", "0.12.2"), ("read-dropped-plain-0.15", "0.15.0"), ("v9-dropped-plain-1.2", "1.2.0")]:
    add(
        name,
        hudi,
        f"Hudi {hudi} without the partition column in its files, whose folders are its values, encoded, with a null",
        partition="region",
        options={**PAYLOAD, **DROPPED, **ENCODED},
        steps=[of(few(key, region=ODD[key % 6]) for key in range(12)), of([few(1, 1, region=ODD[1]), few(20, 1, region="neu")])],
    )
add(
    "read-dropped-sql-0.15",
    "0.15.0",
    "Hudi 0.15.0 without the partition columns in its files, whose types the table's schema has",
    partition="day,level",
    hive_style=True,
    sql="create table called (id bigint, name string, upd bigint, day date, level int) using hudi partitioned by (day, level)"
    " tblproperties (type = 'cow', primaryKey = 'id', preCombineField = 'upd', 'hoodie.datasource.write.drop.partition.columns' = 'true')",
    steps=[
        {"sql": ["set hoodie.datasource.write.drop.partition.columns = true"]},
        {"sql": ["insert into called values (1, 'a', 1, date'2024-01-03', 7), (2, 'b', 1, date'1969-12-31', -1), (3, 'c', 1, null, null)"]},
        {"sql": ["insert into called values (1, 'd', 2, date'2024-01-03', 7)", "set hoodie.datasource.write.drop.partition.columns = false"]},
    ],
)


# Every type, nested.
NESTED = (
    "id string, tags array<string>, items array<struct<sku:string,n:int,price:decimal(9,2)>>, props map<string,struct<a:bigint,b:array<double>>>,"
    " place struct<at:timestamp,inner:struct<day:date,codes:array<int>>>, d4 decimal(4,0), d9 decimal(9,2), d18 decimal(18,6), d38 decimal(38,10),"
    " day date, at timestamp, raw binary, f float, g double, ok boolean, n int, upd timestamp"
)


def time(seconds):
    return f"2025-03-{1 + seconds // 86400:02}T{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{seconds % 1000:03}Z"


def nested(key, version=0):
    n = key * 10 + version
    if key % 5 == 4:
        # Nulls, and empty values of every kind.
        return {"id": f"key {key}", "tags": [], "items": [], "props": {}, "place": {"inner": {"codes": []}}, "upd": time(n)}
    return {
        "id": ["plain", "a,b", "c:d", "süß "][key % 4] + str(key),
        "tags": ["x", f"tag {version}", ""],
        "items": [{"sku": f"s{n}", "n": n, "price": f"{n}.25"}, {"sku": None, "n": None, "price": None}],
        "props": {"one": {"a": n, "b": [0.5, n / 4]}, "zwei ü": {"a": None, "b": None}},
        "place": {"at": time(n), "inner": {"day": DAYS[key % 3], "codes": [1, n]}},
        "d4": str(n % 9999),
        "d9": f"-{n}.07",
        "d18": f"{n}.000001",
        "d38": f"1234567890123456789012345678.{n:010}",
        "day": DAYS[key % 3],
        "at": time(n),
        "raw": ["", "AAEC", "/w=="][key % 3],
        "f": n / 8,
        "g": n / 3,
        "ok": key % 2 == 0,
        "n": -n,
        "upd": time(n),
    }


def nesteds(keys, version=0):
    return [nested(key, version) for key in keys]


# Partitioned by three columns, with null, empty and odd values.
LEVELS = "id bigint, name string, region string, day date, level int, upd timestamp"


def leveled(key, version=0, **more):
    row = {
        "id": key,
        "name": f"name {key} v{version}",
        "region": ODD[key % 6],
        "day": DAYS[key % 3],
        "level": [-1, 0, 7, None][key % 4],
        "upd": time(version * 100 + key),
    }
    return {**row, **more}


def leveleds(keys, version=0, **more):
    return [leveled(key, version, **more) for key in keys]


def savepoint(maker, shape, table):
    """Saves the newest commit."""
    client = maker.client(shape, table)
    client.savepoint(newest(table), "a test", "kept")
    client.close()


def rollback(maker, shape, table):
    """Rolls the newest commit back."""
    client = maker.client(shape, table)
    client.rollback(newest(table))
    client.close()


def restore(maker, shape, table):
    """Restores the table to its only savepoint."""
    import pathlib

    folder = pathlib.Path(table) / ".hoodie"
    folder = folder / "timeline" if (folder / "timeline").exists() else folder
    saved = sorted(file.name.partition(".")[0].partition("_")[0] for file in folder.glob("*.savepoint"))
    client = maker.client(shape, table)
    client.restoreToSavepoint(saved[-1])
    client.close()


def newest(table):
    import pathlib

    import make_tables

    return make_tables.completed(pathlib.Path(table))[-1]


RECORD_TIME = {"schema": LEVELS, "key": "id", "ordering": "upd"}
FLAT = "id bigint, name string, upd timestamp"


def flat(key, version=0, **more):
    return {"id": key, "name": f"name {key} v{version}", "upd": time(version * 100 + key), **more}


def flats(keys, version=0, **more):
    return [flat(key, version, **more) for key in keys]


TWO = {"hoodie.cleaner.policy": "KEEP_LATEST_COMMITS", "hoodie.cleaner.commits.retained": "2"}
CLUSTERED = {
    "hoodie.clustering.inline": "true",
    "hoodie.clustering.inline.max.commits": "2",
    "hoodie.clustering.plan.strategy.sort.columns": "name",
    "hoodie.parquet.small.file.limit": "0",
}
SHARED = {
    "hoodie.write.concurrency.mode": "optimistic_concurrency_control",
    "hoodie.cleaner.policy.failed.writes": "LAZY",
    "hoodie.write.lock.provider": "org.apache.hudi.client.transaction.lock.InProcessLockProvider",
    "hoodie.client.heartbeat.interval_in_ms": "5000",
}

NESTED_STEPS = [of(nesteds(range(10))), of(nesteds([0, 4, 10], 1)), of(nesteds([1], 2), "delete"), of(nesteds([2, 9], 3))]
LEVEL_STEPS = [
    of(leveleds(range(18))),
    of([leveled(1, 1, region="moved"), leveled(18, 1), leveled(4, 1, region=None)]),
    of([leveled(30, 2, region="a=b", day=DAYS[2], level=7), leveled(31, 2, region="a=b", day=DAYS[2], level=7)], "insert_overwrite"),
    of(leveleds([3, 5], 3), "delete"),
    of(leveleds([6, 19], 4)),
]


def for_hudi_0_9(steps):
    """Returns the steps for Hudi 0.9.0. It does not find its files again in folders with other characters than ASCII's, and cannot read the
    partition of a number that is null."""

    def fit(row):
        return {**row, "region": row["region"] and row["region"].replace("ü", "u"), "level": 8 if row["level"] is None else row["level"]}

    return [{**step, "rows": [fit(row) for row in step["rows"]]} for step in steps]


CLUSTER_STEPS = [
    of(flats(range(8))),
    of(flats([0, 8, 9], 1)),
    {"call": savepoint, "operation": "savepoint"},
    of(flats([1, 10], 2)),
    {"call": rollback, "operation": "rollback"},
    of(flats([2, 11], 3)),
    of(flats([3], 4), "delete"),
    of(flats([4, 12], 5)),
]
RESTORE_STEPS = [
    of(flats(range(8))),
    of(flats([0, 8], 1)),
    {"call": savepoint, "operation": "savepoint"},
    of(flats([1, 10], 2)),
    of(flats([30, 31], 3), "insert_overwrite_table"),
    {"call": restore, "operation": "restore"},
    of(flats([2, 11], 4)),
    of(flats([3], 5), "delete"),
]
WIDER = "id bigint, n bigint, x double, name string, upd timestamp, added struct<a:int,b:string>"
NARROW = "id bigint, n int, x float, name string, upd timestamp"


def evolving(key, version, **more):
    return {"id": key, "n": key * 3 + version, "x": key / 4, "name": f"name {key} v{version}", "upd": time(version * 100 + key), **more}


EVOLVE_STEPS = [
    of([evolving(key, 0) for key in range(8)], schema=NARROW),
    of([evolving(key, 1, added={"a": key, "b": "new"}) for key in (0, 8)], schema=WIDER),
    of([evolving(key, 2, n=2**40 + key, added=None) for key in (1, 9)], schema=WIDER),
    of([evolving(key, 3, added={"a": key, "b": None}) for key in (2,)], "delete", schema=WIDER),
    of([evolving(key, 4, added={"a": key, "b": None}) for key in (3, 10)], schema=WIDER),
]
SHARED_STEPS = [
    of(flats(range(8))),
    of(flats([0, 8], 1)),
    {**of(flats([1, 9], 2)), "dies": True},
    of(flats([2], 3)),
    {**of(flats([3, 10], 4)), "dies": True},
]
for end, hudi, version in [("0.9", "0.9.0", None), ("0.12", "0.12.2", None), ("0.15", "0.15.0", None), ("1.0-v6", "1.0.2", 6), ("1.0", "1.0.2", None), ("1.2", "1.2.0", None)]:
    prefix = {"1.0": "v8-", "1.2": "v9-"}.get(end, "")
    add(f"{prefix}nested-{end}", hudi, f"Hudi {hudi}, every type, nested, unpartitioned", version, schema=NESTED, options={**PAYLOAD, **TWO}, steps=NESTED_STEPS)
    add(
        f"{prefix}levels-{end}",
        hudi,
        f"Hudi {hudi}, three partition columns with encoded, empty and null values, one key of the complex generator, moves, an overwrite",
        version,
        **RECORD_TIME,
        partition="region,day,level",
        options={**PAYLOAD, **MOVES, **ENCODED, **COMPLEX, "hoodie.cleaner.commits.retained": "3",
                 **({"hoodie.write.complex.keygen.validation.enable": "false"} if hudi == "1.2.0" else {})},
        steps=for_hudi_0_9(LEVEL_STEPS) if hudi == "0.9.0" else LEVEL_STEPS,
    )
    add(f"{prefix}evolved-{end}", hudi, f"Hudi {hudi}, columns that became wider, and one that was added", version, schema=WIDER, options={**PAYLOAD, **TWO}, steps=EVOLVE_STEPS)
    if hudi != "0.9.0":
        add(f"{prefix}clustered-{end}", hudi, f"Hudi {hudi}, clusterings, a savepoint, a commit rolled back", version, schema=FLAT, options={**PAYLOAD, **CLUSTERED}, steps=CLUSTER_STEPS)
        add(f"{prefix}shared-{end}", hudi, f"Hudi {hudi}, writers with a shared lock, of which two died", version, schema=FLAT, options={**PAYLOAD, **SHARED}, steps=SHARED_STEPS)
    add(f"{prefix}restored-{end}", hudi, f"Hudi {hudi}, restored to a savepoint", version, schema=FLAT, options={**PAYLOAD}, steps=RESTORE_STEPS)


# Tables that hudi-scd reads, and some of which it does not write on.
HOLE = {
    "hoodie.archive.beyond.savepoint": "true",
    "hoodie.keep.min.commits": "4",
    "hoodie.keep.max.commits": "5",
    "hoodie.cleaner.commits.retained": "3",
    "hoodie.metadata.enable": "false",
}
PROMOTED = "id bigint, region string, {}, upd bigint"
NUMBERS = PROMOTED.format("n int, m bigint, f float, g double")
TEXTS = PROMOTED.format("n string, m string, f string, g string")
INNER = "struct<a:int{}>"
NEST = "id bigint, region string, place {0}, items array<{0}>, props map<string,{0}>, upd bigint"
WHOLE = NEST.format(INNER.format(",b:string"))
LESS = NEST.format(INNER.format(""))
DROPS = {"hoodie.datasource.write.schema.allow.auto.evolution.column.drop": "true"}


def numbers(key):
    """Returns a row of numbers whose text differs between languages."""
    return {
        "id": key,
        "region": f"r{key % 4}",
        "n": [0, -7, 2**31 - 1, None][key % 4],
        "m": [1, -(2**40), 2**63 - 1, None][key % 4],
        "f": [0.1, 1e7, 3.4e38, None, 1e-4, 16777216.0, 0.33, 100.0][key % 8],
        "g": [0.1, 1e21, 2e-3, None, 1.7976931348623157e308, 123456789.125, 5e-324, 1e7][key % 8],
        "upd": key,
    }


def nest(key, version=0, **more):
    inner = {"a": key + version, **more}
    return {"id": key, "region": f"r{key % 2}", "place": inner, "items": [inner, inner], "props": {"k": inner}, "upd": version * 100 + key}


def bootstrap(maker, shape, table):
    """Makes the table from Parquet files, whole rows of which become its own."""
    source = pathlib.Path(table).parent / "raw"
    rows = maker.spark.createDataFrame([(key, f"name {key}", "ns"[key % 2], key) for key in range(1, 7)], shape["schema"])
    rows.coalesce(1).write.mode("overwrite").parquet(str(source / "all"))
    options = {
        **maker.options(shape, {}),
        "hoodie.datasource.write.operation": "bootstrap",
        "hoodie.bootstrap.base.path": str(source),
        "hoodie.bootstrap.mode.selector": "org.apache.hudi.client.bootstrap.selector.FullRecordBootstrapModeSelector",
        "hoodie.bootstrap.full.input.provider": "org.apache.hudi.bootstrap.SparkParquetBootstrapDataProvider",
        "hoodie.bootstrap.keygen.class": "org.apache.hudi.keygen.SimpleKeyGenerator",
        "hoodie.datasource.write.keygenerator.class": "org.apache.hudi.keygen.SimpleKeyGenerator",
        "hoodie.bootstrap.parallelism": "1",
    }
    maker.spark.createDataFrame([], rows.schema).write.format("hudi").options(**options).mode("overwrite").save(table)
    shutil.rmtree(source)


IN_REGIONS = {"partition": "region", "hive_style": True}
add(
    "read-hole-0.15",
    "0.15.0",
    "Hudi 0.15.0, with commits archived beyond a savepoint",
    **IN_REGIONS,
    options={**PAYLOAD, **HOLE},
    steps=[
        of([few(1, region="r1")]),
        {"call": savepoint, "operation": "savepoint"},
        *[of([few(key, region=f"r{key}")]) for key in range(2, 11)],
    ],
)
add(
    "read-promoted-0.15",
    "0.15.0",
    "Hudi 0.15.0, numbers that became text",
    **IN_REGIONS,
    schema=TEXTS,
    options=PAYLOAD,
    steps=[
        of(map(numbers, range(8)), schema=NUMBERS),
        of([{"id": 20, "region": "r20", "n": "twenty", "m": "x", "f": "y", "g": "z", "upd": 20}], schema=TEXTS),
    ],
)
add(
    "read-unnested-0.15",
    "0.15.0",
    "Hudi 0.15.0, with a field dropped in a struct, in structs of a list and of a map",
    **IN_REGIONS,
    schema=LESS,
    options={**PAYLOAD, **DROPS},
    steps=[of([nest(key, b="x") for key in (1, 2, 3)], schema=WHOLE), of([nest(2, 1), nest(4, 1)], schema=LESS)],
)
add(
    "read-metafile-0.15",
    "0.15.0",
    "Hudi 0.15.0, with the metadata of partitions in the format of base files",
    **IN_REGIONS,
    options={**PAYLOAD, "hoodie.partition.metafile.use.base.format": "true"},
)
add(
    "read-bootstrap-0.15",
    "0.15.0",
    "Hudi 0.15.0, made from Parquet files by a bootstrap of whole rows",
    **IN_REGIONS,
    schema="id bigint, name string, region string, upd bigint",
    options=PAYLOAD,
    steps=[
        {"call": bootstrap, "operation": "bootstrap"},
        of([{"id": 1, "name": "new", "region": "s", "upd": 100}, {"id": 7, "name": "name 7", "region": "s", "upd": 7}]),
    ],
)
