"""Reads the Hudi tables of a MyStore run with the official Hudi reader and compares every row with what the run expected.

    read_with_hudi.py RUN_DIRECTORY

A run leaves, for each table of `lake/`, the rows it must hold in `expected/NAME.jsonl`: one JSON object a row, decimals
as text, dates and timestamps in ISO 8601. Exits with 1 and names the first differing row if a table differs.
"""

import datetime
import decimal
import json
import pathlib
import sys

import hudi
import pyarrow


def canonical(value):
    match value:
        case decimal.Decimal():
            return str(value)
        case datetime.datetime():
            zone = "Z" if value.tzinfo else ""
            return value.replace(tzinfo=None).isoformat(timespec="microseconds") + zone
        case datetime.date():
            return value.isoformat()
    return value


def rows_of(path):
    table = hudi.HudiTableBuilder.from_base_uri(str(path)).build()
    batches = table.read()
    if not batches:
        return []
    data = pyarrow.Table.from_batches(batches)
    names = [name for name in data.column_names if not name.startswith("_hoodie_")]
    return [
        json.dumps({name: canonical(row[name]) for name in names}, sort_keys=True)
        for row in data.select(names).to_pylist()
    ]


def main(run):
    run = pathlib.Path(run)
    expectations = sorted((run / "expected").glob("*.jsonl"))
    if not expectations:
        sys.exit(f"{run / 'expected'} holds no expectations: is it the directory of a finished run?")
    for expectation in expectations:
        name = expectation.stem
        expected = sorted(
            json.dumps(json.loads(line), sort_keys=True) for line in expectation.read_text().splitlines()
        )
        found = sorted(rows_of(run / "lake" / name))
        for want, have in zip(expected, found):
            if want != have:
                sys.exit(f"{name}: first difference\n  expected {want}\n  found    {have}")
        if len(expected) != len(found):
            sys.exit(f"{name}: expected {len(expected)} rows, found {len(found)}")
        if not expected:
            sys.exit(f"{name}: no rows, so nothing was compared")
        print(f"{name}: {len(found)} rows, the same in the official Hudi reader")


if __name__ == "__main__":
    main(*sys.argv[1:])
