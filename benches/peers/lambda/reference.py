"""Does the work of the reference solution's function (aws-samples/aws-analytics-reference-architecture), in code of
our own: like it, this imports boto3 and builds a client in each call.
"""

import os

import boto3


def handler(event, context):
    client = boto3.client("redshift-data", region_name=os.environ["REGION"])
    if "QueryId" in event:
        described = client.describe_statement(Id=event["QueryId"])
        return {"Status": described["Status"], "Error": described.get("Error", "null")}
    submitted = client.execute_statement(
        ClusterIdentifier=os.environ["CLUSTER_NAME"],
        Database=os.environ["DATABASE"],
        SecretArn=os.environ["SECRET_ARN"],
        Sql=f"CALL {os.environ['SCHEMA']}.{os.environ['PROCEDURE']}();",
    )
    return {"QueryId": submitted["Id"]}
