"""Checks that examples have the shapes that the OpenAPI document says:
check_examples.py OPENAPI EXAMPLES"""

import json
import pathlib
import sys

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

document, examples = (json.loads(pathlib.Path(path).read_text()) for path in sys.argv[1:3])
registry = Registry().with_resource("urn:api", Resource(contents=document, specification=DRAFT202012))
operations = {
    operation["operationId"]: operation
    for item in document["paths"].values()
    for operation in item.values()
}


def absolute(schema):
    """The schema with references into the document instead of into itself."""
    if isinstance(schema, dict):
        return {
            key: f"urn:api{value}" if key == "$ref" else absolute(value) for key, value in schema.items()
        }
    return [absolute(item) for item in schema] if isinstance(schema, list) else schema


def check(what, schema, value):
    validator = Draft202012Validator(absolute(schema), registry=registry, format_checker=FormatChecker())
    problems = [f"{what} {error.json_path}: {error.message}" for error in validator.iter_errors(value)]
    assert not problems, "\n".join(problems)


checked = 0
for name, example in examples.items():
    operation = operations[name]
    bodies = operation.get("requestBody", {}).get("content", {})
    if "request" in example and "application/json" in bodies:
        check(f"{name} request", bodies["application/json"]["schema"], example["request"])
    if "response" not in example or example["content_type"] != "application/json":
        continue
    content = operation["responses"][example["status"]]["content"]
    check(f"{name} {example['status']}", content["application/json"]["schema"], example["response"])
    checked += 1
assert checked > 50, checked
