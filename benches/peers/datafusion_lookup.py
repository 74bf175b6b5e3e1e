"""Times the join of facts with the dimension rows that were valid at the time of the fact, in DataFusion (PyPI `datafusion`).

    python benches/peers/datafusion_lookup.py --facts FACTS.parquet --dimension DIMENSION.parquet --turns 5

Loads both files into memory before the first turn. Prints one JSON object per turn: `seconds`, `cpu_seconds`, `rows`, and `matched`.
"""

import argparse
import json
import os
import time

import datafusion
import pyarrow.parquet

JOIN = """
select f.*, d.tier, d.valid_from, d.valid_to
from facts f left join dimension d
on f.customer = d.id and f.sold_at >= d.valid_from and (d.valid_to is null or f.sold_at < d.valid_to)
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--facts", required=True)
    parser.add_argument("--dimension", required=True)
    parser.add_argument("--turns", type=int, default=5)
    a = parser.parse_args()

    context = datafusion.SessionContext()
    for name, file in (("facts", a.facts), ("dimension", a.dimension)):
        table = pyarrow.parquet.read_table(file)
        context.register_record_batches(name, [table.to_batches(max_chunksize=8192)])
    for _ in range(a.turns):
        begin, cpu = time.monotonic(), sum(os.times()[:2])
        batches = context.sql(JOIN).collect()
        seconds, cpu = time.monotonic() - begin, sum(os.times()[:2]) - cpu
        rows = sum(batch.num_rows for batch in batches)
        matched = rows - sum(batch.column("valid_from").null_count for batch in batches)
        print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "rows": rows, "matched": matched}), flush=True)


if __name__ == "__main__":
    main()
