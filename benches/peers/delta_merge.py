"""Times MERGE of Parquet files into a Delta table by delta-rs (PyPI `deltalake`).

    python benches/peers/delta_merge.py --base BASE.parquet --table DIR [--partition COLUMN] [--s3 URL] [CHANGES.parquet ...]

Creates the table from the base file if it does not exist, then merges the files one after the other. A row with an existing key is replaced
unless the new row is older, and rows with new keys are inserted. Prints one JSON object per step: `seconds`, `cpu_seconds`, and the
`peak_bytes` of this process (VmHWM). A step includes reading the Parquet file. Finally prints sums over the rows of the table. With --s3 the
table is an `s3://` URL on that server, a step has the number of updated rows as well, and there are no sums.
"""

import argparse
import json
import os
import time

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet
from deltalake import DeltaTable, write_deltalake


def peak_bytes():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024


def sums(table):
    """Returns the sums that the benchmark also computes for our table."""
    total = {"rows": 0, "ids": 0, "balances": 0, "times": 0}
    for batch in DeltaTable(table).to_pyarrow_dataset().to_batches(columns=["id", "balance", "updated_at"]):
        ids = batch["id"]
        part = pc.subtract(ids, pc.multiply(pc.divide(ids, 1000), 1000))
        cents = pc.multiply(batch["balance"], pa.scalar(100, pa.decimal128(3, 0))).cast(pa.int64())
        seconds = pc.divide(batch["updated_at"].cast(pa.int64()), 1_000_000)
        total["rows"] += len(ids)
        for name, values in ("ids", ids), ("balances", pc.multiply(part, cents)), ("times", pc.multiply(part, seconds)):
            total[name] += pc.sum(values).as_py() or 0
    return total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", required=True)
    parser.add_argument("--table", required=True)
    parser.add_argument("--partition")
    parser.add_argument("--s3", metavar="URL", help="the server of the table")
    parser.add_argument("changes", nargs="*")
    a = parser.parse_args()
    storage = {
        "AWS_ENDPOINT_URL": a.s3,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "aws_conditional_put": "etag",
    }
    storage = storage if a.s3 else None

    def timed(step, work):
        begin, cpu = time.monotonic(), sum(os.times()[:2])
        done = work() or {}
        seconds, cpu = time.monotonic() - begin, sum(os.times()[:2]) - cpu
        updated = {"updated": done["num_target_rows_updated"]} if done else {}
        line = {"step": step, "seconds": seconds, "cpu_seconds": cpu, "peak_bytes": peak_bytes(), **updated}
        print(json.dumps(line), flush=True)

    def create():
        reader = pyarrow.dataset.dataset(a.base).scanner().to_reader()
        write_deltalake(a.table, reader, partition_by=[a.partition] if a.partition else None, storage_options=storage)

    # The condition contains the partition, so that delta-rs skips the files of other partitions.
    same = "t.id = s.id" + (f" and t.{a.partition} = s.{a.partition}" if a.partition else "")

    def merge(file):
        source = pyarrow.parquet.read_table(file)
        merging = DeltaTable(a.table, storage_options=storage).merge(source=source, predicate=same, source_alias="s", target_alias="t")
        merging = merging.when_matched_update_all(predicate="s.updated_at >= t.updated_at")
        return merging.when_not_matched_insert_all().execute()

    if not DeltaTable.is_deltatable(a.table, storage):
        timed("create", create)
    for file in a.changes:
        timed("merge", lambda: merge(file))
    if a.changes and not a.s3:
        print(json.dumps(sums(a.table)), flush=True)


if __name__ == "__main__":
    main()
