"""Times upserts of Parquet files by Spark with Hudi, in one session: the first one is cold, later ones are warm.

    python=$(scripts/spark/install --python 0.15.0)
    $python scripts/spark/bench_upsert.py --key id --ordering ts --create BASE.parquet=TABLE UPSERT.parquet=TABLE ...
    $python scripts/spark/bench_upsert.py --s3 URL --key id --ordering ts UPSERT.parquet=s3a://BUCKET/TABLE ...

A FILE may be a folder of Parquet files. Tables named by --create are bulk-inserted first (the option may be repeated). An
upsert into a table that already holds its rows is a different case, so copy tables instead. Prints one JSON object per line: for the session start,
for each step (`seconds`), and the peak memory of the JVM after each (`peak_bytes`, the kernel's VmHWM).
"""

import argparse
import json
import os
import time

import spark_hudi


def peak_bytes(spark):
    """Returns the peak memory of the JVM and of this Python process."""
    total = 0
    for pid in (spark.sparkContext._gateway.proc.pid, os.getpid()):
        for line in open(f"/proc/{pid}/status"):
            if line.startswith("VmHWM:"):
                total += int(line.split()[1]) * 1024
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hudi", default="0.15.0", choices=spark_hudi.SPARK)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--memory", default="4g", help="maximum size of the JVM's heap")
    parser.add_argument("--name", default="t", help="the tables' hoodie.table.name")
    parser.add_argument("--s3", metavar="URL", help="the server of tables at s3a:// (install the jars with `scripts/spark/install --s3a`)")
    parser.add_argument("--key", required=True)
    parser.add_argument("--ordering", required=True)
    parser.add_argument("--partition", default="")
    parser.add_argument("--option", action="append", default=[], metavar="K=V", help="a further option of Hudi")
    parser.add_argument("--create", action="append", default=[], metavar="FILE=TABLE")
    parser.add_argument("upserts", nargs="*", metavar="FILE=TABLE")
    a = parser.parse_args()

    def say(step, begin, **more):
        seconds = round(time.monotonic() - begin, 3)
        print(json.dumps({"step": step, "seconds": seconds, "peak_bytes": peak_bytes(spark)} | more), flush=True)

    begin = time.monotonic()
    spark = spark_hudi.start(a.hudi, a.cores, a.memory, spark_hudi.s3a(a.s3) if a.s3 else (), beside=spark_hudi.S3A if a.s3 else ())
    say("start", begin, hudi=a.hudi, spark=spark.version)
    steps = [("bulk_insert", pair) for pair in a.create] + [("upsert", pair) for pair in a.upserts]
    for operation, pair in steps:
        file, _, table = pair.partition("=")
        others = dict(option.split("=", 1) for option in a.option)
        options = spark_hudi.write_options(a.hudi, a.name, a.key, a.ordering, a.partition, operation, others)
        begin = time.monotonic()
        mode = "overwrite" if operation == "bulk_insert" else "append"
        rows = spark.read.parquet(os.path.abspath(file))
        rows.write.format("hudi").options(**options).mode(mode).save(table if a.s3 else os.path.abspath(table))
        say(operation, begin, table=table)
    spark.stop()


if __name__ == "__main__":
    main()
