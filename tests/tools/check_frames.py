"""Checks the JSON Schema of the frames, and that it accepts the recorded frames of the protocol and
refuses broken ones: check_frames.py SCHEMA SNAPSHOTS"""

import copy
import json
import pathlib
import sys

from jsonschema import Draft202012Validator

schema = json.loads(pathlib.Path(sys.argv[1]).read_text())
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
count = 0
for snapshot in sorted(pathlib.Path(sys.argv[2]).glob("wire_shapes__*.snap")):
    body = snapshot.read_text().split("---\n", 2)[2]
    for frame in json.loads(body):
        errors = [error.message for error in validator.iter_errors(frame)]
        assert not errors, (snapshot.name, frame, errors)
        for broken in [{**frame, "type": "unknown_type"}, {k: v for k, v in frame.items() if k != "type"}]:
            assert not validator.is_valid(broken), broken
        if "command_id" in frame:
            broken = copy.deepcopy(frame)
            broken["command_id"] = 7
            assert not validator.is_valid(broken), broken
        count += 1
assert count > 10, "no recorded frames were found"
print(f"{count} frames are accepted")
