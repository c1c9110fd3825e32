"""Checks Kubernetes manifests against the schemas of several versions: check_kubernetes.py VERSION,… FILE…

Unknown fields are errors. Prints the number of documents.
"""

import sys

import kubernetes_validate
import yaml

versions, *files = sys.argv[1:]
count = 0
for path in files:
    with open(path, encoding="utf-8") as file:
        for document in yaml.safe_load_all(file):
            count += 1
            for version in versions.split(","):
                try:
                    kubernetes_validate.validate(document, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    where = "/".join(str(part) for part in error.path)
                    name = document["metadata"]["name"]
                    sys.exit(f"{path}: {name}, Kubernetes {version}: {where}: {error.message}")
print(count)
