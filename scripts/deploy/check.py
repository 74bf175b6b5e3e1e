"""Checks deployment templates: cfn-lint, the transformation of AWS SAM, and parliament for each policy.

    check.py TEMPLATE ...
"""
import json
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("AWS_DEFAULT_REGION", "eu-west-1")

from parliament import analyze_policy_string  # noqa: E402
from samtranslator.translator.transform import transform  # noqa: E402

PLACES = {"AWS::Partition": "aws", "AWS::Region": "eu-west-1", "AWS::AccountId": "111122223333"}
# Texts that parliament checks in place of what the deployment fills in.
ARNS = {"WarehouseArn": "arn:aws:redshift:eu-west-1:111122223333:cluster:dwh",
        "SecretArn": "arn:aws:secretsmanager:eu-west-1:111122223333:secret:dwh-AbCdEf",
        "GlueJobArns": "arn:aws:glue:eu-west-1:111122223333:job/clean",
        "HudiArn": "arn:aws:lambda:eu-west-1:111122223333:function:hudi"}
OF_TYPES = {"AWS::Serverless::Function": "arn:aws:lambda:eu-west-1:111122223333:function:x",
            "AWS::SQS::Queue": "arn:aws:sqs:eu-west-1:111122223333:x",
            "AWS::Logs::LogGroup": "arn:aws:logs:eu-west-1:111122223333:log-group:x:*",
            "AWS::Events::Rule": "arn:aws:events:eu-west-1:111122223333:rule/x",
            "AWS::IAM::Role": "arn:aws:iam::111122223333:role/x"}


class NoManagedPolicies:
    def load(self):
        return {}


def filled(value, resources):
    """A policy with texts in place of functions of CloudFormation."""
    if isinstance(value, list):
        return [filled(item, resources) for item in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"Ref": name}:
            return ARNS.get(name, PLACES.get(name, "x"))
        case {"Fn::GetAtt": [name, "Arn"]}:
            return OF_TYPES[resources[name]["Type"]]
        case {"Fn::GetAtt": _}:
            return "x"
        case {"Fn::Sub": text}:
            for name, place in (PLACES | ARNS).items():
                text = text.replace(f"${{{name}}}", place)
            while "${" in text and not text.startswith("${aws:"):
                begin = text.index("${")
                text = text[:begin] + "x" + text[text.index("}", begin) + 1:]
            return text
    return {name: filled(item, resources) for name, item in value.items()}


def policies(resources):
    for name, resource in resources.items():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::IAM::Policy":
            yield name, properties["PolicyDocument"]
        for policy in properties.get("Policies", []):
            yield name, policy.get("PolicyDocument", policy)


def check(path):
    template, failed = json.loads(path.read_text()), False
    linted = subprocess.run([Path(sys.executable).with_name("cfn-lint"), "--region", "eu-west-1", "--template", path],
                            capture_output=True, text=True)
    if linted.returncode:
        print(linted.stdout, linted.stderr, file=sys.stderr)
        failed = True
    resources = template["Resources"]
    for name, policy in policies(resources):
        found = analyze_policy_string(json.dumps(filled(policy, resources)))
        for finding in found.findings:
            print(f"{path.name}: {name}: {finding}", file=sys.stderr)
            failed = True
    # `sam package` replaces local files by their copies in S3.
    for resource in resources.values():
        for member in ["CodeUri", "DefinitionUri"]:
            if member in resource.get("Properties", {}):
                resource["Properties"][member] = "s3://bucket/key"
    transformed = transform(template, {}, NoManagedPolicies())
    kinds = sorted({resource["Type"] for resource in transformed["Resources"].values()})
    print(f"{path.name}: {len(transformed['Resources'])} resources of {len(kinds)} types")
    return failed


sys.exit(any([check(Path(name)) for name in sys.argv[1:]]))
