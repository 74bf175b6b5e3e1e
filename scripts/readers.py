"""Reads Hudi tables that hudi-scd wrote with other engines, and compares every row with the expected one.

    readers.py HUDI_SCD S3 DIRECTORY...

HUDI_SCD is the program, S3 the URL of an S3 server on this machine that accepts any credentials. A directory belongs to a MyStore run
(`lake/NAME` and its rows in `expected/NAME.jsonl`), or holds folders of `table/`, `expected.jsonl` and, for each readable instant,
`expected.asof-INSTANT.jsonl`. Rows are one JSON object per line, with decimals as strings, dates and timestamps in ISO 8601, and bytes in
Base64. Only the columns in these rows are compared. Exits with 1 and names the first differing row if a table differs.

| engine | reads |
|---|---|
| hudi, the official reader in Rust | the table, also as of each instant |
| duckdb, polars | the files that `hudi-scd show --json` names, also as of each instant |
| ClickHouse (chdb), its table function `hudi` | the table, from S3 |

The limits of ClickHouse in docs/other-engines.md are expected as well: the script also fails if a limit is gone.
"""

import base64
import collections
import datetime
import decimal
import json
import pathlib
import subprocess
import sys

import chdb
import duckdb
import hudi
import polars
import pyarrow
import pyarrow.fs
import pyarrow.parquet


# The tables whose rows ClickHouse shows wrongly, and the reason.
CLICKHOUSE = {
    "dead-write": "shows the file of a write that died",
    "replaced-0.15": "shows replaced file groups",
    "types": "shows null lists, maps and structs as empty ones",
}


def canonical(value, type, nulls=True):
    """A value as the files of expected rows have it; without `nulls`, empty lists, maps and structs in place of nulls."""
    if pyarrow.types.is_map(type) and (value is not None or not nulls):
        return {key: canonical(item, type.item_type, nulls) for key, item in value or ()}
    if pyarrow.types.is_list(type) or pyarrow.types.is_large_list(type):
        if value is not None or not nulls:
            return [canonical(item, type.value_type, nulls) for item in value or ()]
    if pyarrow.types.is_struct(type) and (value is not None or not nulls):
        return {field.name: canonical((value or {}).get(field.name), field.type, nulls) for field in type}
    match value:
        case bytes():
            return base64.b64encode(value).decode()
        case decimal.Decimal():
            return str(value)
        case datetime.datetime():
            if not value.tzinfo:
                return value.isoformat(timespec="microseconds")
            utc = value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
            return utc.isoformat(timespec="microseconds") + "Z"
        case datetime.date():
            return value.isoformat()
    return value


def rows_of(batches, columns, nulls=True):
    """The rows of Arrow batches or tables as sorted lines of JSON."""
    rows = []
    for batch in batches:
        fields = [field for field in batch.schema if field.name in columns]
        absent = {name: None for name in columns - {field.name for field in fields}}
        for row in batch.select([field.name for field in fields]).to_pylist():
            rows.append(absent | {field.name: canonical(row[field.name], field.type, nulls) for field in fields})
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


class Table:
    """A table on the local disk, and its files as `hudi-scd show` lists them."""

    def __init__(self, program, path):
        self.path = path
        shown = subprocess.run([program, "show", path, "--json"], check=True, capture_output=True, text=True)
        shown = map(json.loads, shown.stdout.splitlines())
        self.groups = [line for line in shown if line["kind"] == "file_group"]
        for file in path.rglob("*.parquet"):
            if ".hoodie" in file.relative_to(path).parts or file.stem.count("_") != 2:
                sys.exit(f"{file}: engines that list a folder take it for a data file")

    def files(self, instant=None):
        """The base files of the table's rows, as of an instant."""
        found = []
        for group in self.groups:
            versions = [v for v in group["versions"] if not instant or v["instant"] <= instant]
            replaced = group["replaced_at"] and (not instant or group["replaced_at"] <= instant)
            if versions and not replaced:
                newest = max(versions, key=lambda version: version["instant"])
                found.append(self.path / group["partition"] / newest["file"])
        return found

    def newest_files(self):
        """The newest base file of each file group, even if the group is replaced or the file's commit is not complete."""
        newest = collections.defaultdict(list)
        for file in self.path.rglob("*.parquet"):
            group, _, instant = file.stem.split("_")
            newest[file.parent, group].append((instant, file))
        return [max(files)[1] for files in newest.values()]


def with_hudi(table, instant):
    options = hudi.HudiReadOptions()
    if instant:
        options = options.with_as_of_timestamp(instant)
    return hudi.HudiTableBuilder.from_base_uri(str(table.path)).build().read(options)


def with_duckdb(table, instant):
    files = [str(file) for file in table.files(instant)]
    if not files:
        return []
    connection = duckdb.connect()
    # The files hold the partition columns too. Files that are older than a column lack it.
    read = "select * from read_parquet(?, union_by_name = true, hive_partitioning = false)"
    return [connection.sql(read, params=[files]).to_arrow_table()]


def with_polars(table, instant):
    files = [polars.read_parquet(file, hive_partitioning=False, glob=False) for file in table.files(instant)]
    return [polars.concat(files, how="diagonal_relaxed").to_arrow()] if files else []


def with_clickhouse(url, binary):
    """Reads a table; `binary` names the columns of bytes, which ClickHouse does not tell from text."""
    read = f"select * from hudi('{url}', 'test', 'test') settings output_format_arrow_string_as_string = 1"
    bytes = chdb.query(read, "ArrowStream").bytes()
    rows = pyarrow.ipc.open_stream(bytes).read_all()
    for name in binary:
        rows = rows.set_column(rows.schema.get_field_index(name), name, rows[name].cast(pyarrow.binary()))
    return [rows]


def expectations(directory):
    """Yields (name, table, instant or None, file of its rows)."""
    for rows in sorted((directory / "expected").glob("*.jsonl")):
        yield rows.stem, directory / "lake" / rows.stem, None, rows
    for rows in sorted(directory.glob("*/expected*.jsonl")):
        if rows.parent.name == "expected":
            continue
        _, _, instant = rows.stem.partition("asof-")
        name = rows.parent.name + (f" as of {instant}" if instant else "")
        yield name, rows.parent / "table", instant or None, rows


def compare(name, engine, expected, found):
    for want, have in zip(expected, found):
        if want != have:
            sys.exit(f"{name}: first difference in {engine}\n  expected {want}\n  found    {have}")
    if len(expected) != len(found):
        sys.exit(f"{name}: expected {len(expected)} rows, found {len(found)} in {engine}")


class Lake:
    """The tables on S3, for ClickHouse."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        scheme, _, host = endpoint.partition("://")
        self.store = pyarrow.fs.S3FileSystem(
            access_key="test", secret_key="test", endpoint_override=host, scheme=scheme, allow_bucket_creation=True
        )
        self.store.create_dir("readers")

    def upload(self, table, name):
        """Copies a table and returns its URL."""
        copied = f"readers/{name}"
        pyarrow.fs.copy_files(str(table.path), copied, pyarrow.fs.LocalFileSystem(), self.store)
        return f"{self.endpoint}/{copied}/"


def main(program, endpoint, *directories):
    lake, seen = Lake(endpoint), set()
    for number, directory in enumerate(directories):
        compared = 0
        for name, path, instant, rows in expectations(pathlib.Path(directory).resolve()):
            expected = [json.loads(line) for line in rows.read_text().splitlines() if line]
            columns = {name for row in expected for name in row}
            expected = sorted(json.dumps(row, sort_keys=True) for row in expected)
            table = Table(program, path)
            for engine, read in [("hudi", with_hudi), ("duckdb", with_duckdb), ("polars", with_polars)]:
                compare(name, engine, expected, rows_of(read(table, instant), columns))
            if not instant:
                # ClickHouse reads neither the timeline nor the replaced file groups, and has no null lists.
                files = [pyarrow.parquet.read_table(file, partitioning=None) for file in table.newest_files()]
                shown = rows_of(files, columns, nulls=False)
                binary = [field.name for field in files[0].schema if pyarrow.types.is_binary(field.type)]
                found = rows_of(with_clickhouse(lake.upload(table, f"{number}/{name}"), binary), columns)
                compare(name, "ClickHouse", shown, found)
                if (shown != expected) != (name in CLICKHOUSE):
                    sys.exit(f"{name}: the limits of ClickHouse are others than this script and docs/other-engines.md say")
                seen.add(name)
            said = "hudi, duckdb and polars" if instant else "hudi, duckdb, polars and ClickHouse"
            if not instant and name in CLICKHOUSE:
                said = f"hudi, duckdb and polars; ClickHouse {CLICKHOUSE[name]}"
            print(f"{name}: {len(expected)} rows, the same in {said}")
            compared += len(expected)
        if not compared:
            sys.exit(f"{directory}: no rows were compared: is it the directory of a finished run?")
    if missing := CLICKHOUSE.keys() - seen:
        sys.exit(f"no table shows these limits of ClickHouse: {', '.join(missing)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
