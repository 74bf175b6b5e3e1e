"""Reads Hudi tables that hudi-scd wrote with the official Hudi reader, and compares every row with the expected one.

    read_with_hudi.py DIRECTORY...

A directory belongs to a MyStore run (`lake/NAME` and its rows in `expected/NAME.jsonl`), or holds folders of `table/`, `expected.jsonl` and,
for each readable instant, `expected.asof-INSTANT.jsonl`. Rows are one JSON object per line, with decimals as strings and dates and
timestamps in ISO 8601. Only the columns in these rows are compared. Exits with 1 and names the first differing row if a table differs.
"""

import datetime
import decimal
import json
import pathlib
import sys

import hudi
import pyarrow


def canonical(value, type):
    match value:
        case decimal.Decimal():
            return str(value)
        case datetime.datetime():
            zone = "Z" if value.tzinfo else ""
            return value.replace(tzinfo=None).isoformat(timespec="microseconds") + zone
        case datetime.date():
            return value.isoformat()
        case float() if pyarrow.types.is_float32(type):
            # The shortest decimal for this float32, not for its double.
            return float(str(pyarrow.scalar(value, type).cast(pyarrow.string())))
    return value


def found_rows(table, instant, columns):
    options = hudi.HudiReadOptions()
    if instant:
        options = options.with_as_of_timestamp(instant)
    batches = hudi.HudiTableBuilder.from_base_uri(str(table)).build().read(options)
    rows = []
    for batch in batches:
        fields = [field for field in batch.schema if field.name in columns]
        for row in batch.to_pylist():
            rows.append({field.name: canonical(row[field.name], field.type) for field in fields})
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


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


def main(*directories):
    for directory in directories:
        compared = 0
        for name, table, instant, rows in expectations(pathlib.Path(directory).resolve()):
            expected = [json.loads(line) for line in rows.read_text().splitlines() if line]
            columns = {name for row in expected for name in row}
            expected = sorted(json.dumps(row, sort_keys=True) for row in expected)
            found = found_rows(table, instant, columns)
            for want, have in zip(expected, found):
                if want != have:
                    sys.exit(f"{name}: first difference\n  expected {want}\n  found    {have}")
            if len(expected) != len(found):
                sys.exit(f"{name}: expected {len(expected)} rows, found {len(found)}")
            print(f"{name}: {len(found)} rows, the same in the official Hudi reader")
            compared += len(found)
        if not compared:
            sys.exit(f"{directory}: no rows were compared: is it the directory of a finished run?")


if __name__ == "__main__":
    main(*sys.argv[1:])
