# Calls one part of a script: trigger(data) or main(data). The agent passes this text to the interpreter.
import sys

# The working directory is no place to import from.
sys.path.pop(0)

import json
import os
import types

path = sys.argv[1]
del sys.argv[0]
sys.path.insert(0, os.path.dirname(path))
part = os.environ["MUSTER_PART"]
data_path = os.environ["MUSTER_DATA_FILE"]

module = types.ModuleType("muster_script")
module.__file__ = path
sys.modules["muster_script"] = module
with open(path, "rb") as file:
    code = compile(file.read(), path, "exec")
with open(data_path, encoding="utf-8") as file:
    data = json.load(file)
exec(code, module.__dict__)

for name in ("trigger", "main"):
    if not callable(getattr(module, name, None)):
        sys.exit("the script has no function %s(data)" % name)
result = getattr(module, part)(data)

text = json.dumps(data, allow_nan=False)
with open(data_path, "w", encoding="utf-8") as file:
    file.write(text)
if part == "trigger" and result:
    with open(os.environ["MUSTER_DECISION_FILE"], "w", encoding="utf-8") as file:
        file.write("run")
