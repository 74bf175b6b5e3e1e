"""Spark reads the table into which functions of the handler `hudi` took raw files on an S3 server.

    $(scripts/spark/install --python 0.15.0) scripts/spark/taken_in.py HUDI TABLE FILES

TABLE is a copy of the table in a folder. File n has the rows 2n, a and 2n + 1, b. Exits with 1 and names what differs.
"""

import collections
import sys

import engine


def main(hudi, table, files):
    rows = engine.Engine(hudi).rows(table)
    found = collections.Counter((row["id"], row["name"]) for row in rows)
    expected = collections.Counter((number, "ab"[number % 2]) for number in range(2 * int(files)))
    if found != expected:
        sys.exit(f"Spark with Hudi {hudi}: {len(rows)} rows; missing {list(expected - found)[:9]}, in excess {list(found - expected)[:9]}")
    print(f"Spark with Hudi {hudi} reads the {len(rows)} rows of {files} files")


main(*sys.argv[1:])
