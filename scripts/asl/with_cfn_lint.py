"""Checks definitions as state machines of CloudFormation templates with cfn-lint: with_cfn_lint.py FILE ..."""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

def template(files):
    resources = {
        f"Machine{number}": {
            "Type": "AWS::StepFunctions::StateMachine",
            "Properties": {
                "RoleArn": "arn:aws:iam::123456789012:role/states",
                "DefinitionSubstitutions": dict.fromkeys(["LoaderArn", "WorkgroupName", "Database", "SecretArn"], "x"),
                "Definition": json.loads(Path(file).read_text()),
            },
        }
        for number, file in enumerate(files)
    }
    return json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources})


files = sys.argv[1:]
with tempfile.TemporaryDirectory() as directory:
    templates = []
    # A template has at most 1,000,000 bytes.
    for begin in range(0, len(files), 4):
        templates.append(Path(directory) / f"{begin}.json")
        templates[-1].write_text(template(files[begin:begin + 4]))
    cfn_lint = Path(sys.executable).with_name("cfn-lint")
    found = subprocess.run([cfn_lint, "--format", "parseable", *templates], capture_output=True, text=True)
print(found.stdout[:5000], found.stderr[:2000], sep="", end="")
print(f"cfn-lint: {len(files)} definitions, exit code {found.returncode}")
sys.exit(found.returncode)
