"""Finds a table in the Glue catalog with awswrangler, after hudi-scd has registered it.

    with_glue_catalog.py HUDI_SCD URL

URL is that of a server on this machine for S3 and Glue that accepts any credentials (scripts/s3/server start). Exits with 1 and names what
differs.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

import awswrangler
import boto3

ROWS = ["id,name,region,at", "1,Ann,eu,2026-03-01T00:00:00Z", "2,Bob,us,2026-03-01T00:00:00Z", "3,Cid,eu,2026-03-01T00:00:00Z"]


def main(program, url):
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": url,
    }
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        os.environ.pop(name, None)
    awswrangler.config.s3_endpoint_url = awswrangler.config.glue_endpoint_url = url
    bucket, database = f"wrangler-{os.getpid()}", f"wrangler{os.getpid()}"
    region = {"LocationConstraint": "eu-west-1"}
    boto3.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration=region)
    table = f"s3://{bucket}/lake/customer"

    def hudi_scd(*words):
        subprocess.run([program, *words], check=True, stdout=subprocess.DEVNULL)

    with tempfile.TemporaryDirectory() as folder:
        columns, rows = pathlib.Path(folder, "columns.txt"), pathlib.Path(folder, "rows.csv")
        columns.write_text("id bigint, name string, region string, at timestamp")
        rows.write_text("\n".join(ROWS) + "\n")
        definition = ["--record-key", "id", "--ordering-field", "at", "--partition-by", "region"]
        hudi_scd("create", table, "--name", "customer", *definition, "--schema", columns)
        hudi_scd("upsert", table, "--input", rows)
    option = "hoodie.datasource.hive_sync.support_timestamp=true"
    hudi_scd("catalog", "sync", table, "--database", database, "--option", option)

    catalog = awswrangler.catalog
    hudi = [f"_hoodie_{name}" for name in ("commit_time", "commit_seqno", "record_key", "partition_path", "file_name")]
    types = dict.fromkeys(hudi, "string") | {"id": "bigint", "name": "string", "at": "timestamp", "region": "string"}
    partitions = {f"{table}/region={value}": [value] for value in ("eu", "us")}

    def same(what, found, expected):
        if found != expected:
            sys.exit(f"awswrangler finds another {what}: {found!r}, and not {expected!r}")

    same("list of tables", [found["Name"] for found in catalog.get_tables(database=database)], ["customer"])
    same("location", catalog.get_table_location(database, "customer"), table)
    same("list of types", catalog.get_table_types(database, "customer"), types)
    same("parameter", catalog.get_table_parameters(database, "customer")["spark.sql.sources.provider"], "hudi")
    same("list of partitions", catalog.get_partitions(database, "customer"), partitions)
    # The table has one commit, so all files below a partition are its latest ones.
    names = [awswrangler.s3.read_parquet(f"{location}/", path_suffix=".parquet") for location in partitions]
    same("set of rows", sorted(name for rows in names for name in rows["name"]), ["Ann", "Bob", "Cid"])
    print("awswrangler finds the table, its types, partitions and rows in the Glue catalog")


main(*sys.argv[1:])
