# An index for pip and a registry for npm with one package, for tests: FOLDER. Writes its port to FOLDER/port, and each request to
# FOLDER/requests.
import base64
import functools
import hashlib
import http.server
import io
import json
import os
import sys
import tarfile
import zipfile

folder = sys.argv[1]
project = os.path.join(folder, "simple", "muster-test-greeting")
wheel = "muster_test_greeting-1.0-py3-none-any.whl"
information = "muster_test_greeting-1.0.dist-info/"
os.makedirs(project)
with zipfile.ZipFile(os.path.join(project, wheel), "w") as archive:
    archive.writestr("muster_test_greeting.py", "TEXT = 'a greeting from the index'\n")
    archive.writestr(information + "METADATA", "Metadata-Version: 2.1\nName: muster-test-greeting\nVersion: 1.0\n")
    archive.writestr(information + "WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    names = ["muster_test_greeting.py", information + "METADATA", information + "WHEEL", information + "RECORD"]
    archive.writestr(information + "RECORD", "".join(name + ",,\n" for name in names))
with open(os.path.join(project, "index.html"), "w", encoding="utf-8") as page:
    page.write('<!DOCTYPE html><a href="%s">%s</a>' % (wheel, wheel))

registry = os.path.join(folder, "npm")
os.makedirs(registry)
archive = os.path.join(registry, "muster-test-greeting-1.0.0.tgz")
# Its script would run during the installation.
description = {
    "name": "muster-test-greeting",
    "version": "1.0.0",
    "main": "index.js",
    "scripts": {"install": "echo installed >ran"},
}
with tarfile.open(archive, "w:gz") as packed:
    for name, text in [
        ("package/package.json", json.dumps(description)),
        ("package/index.js", "exports.text = 'a greeting from the registry';\n"),
    ]:
        entry = tarfile.TarInfo(name)
        entry.size = len(text)
        packed.addfile(entry, io.BytesIO(text.encode()))
with open(archive, "rb") as packed:
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(packed.read()).digest()).decode()


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        with open(os.path.join(folder, "requests"), "a", encoding="utf-8") as requests:
            requests.write(self.requestline + "\n")


handler = functools.partial(Handler, directory=folder)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
tarball = "http://127.0.0.1:%d/npm/muster-test-greeting-1.0.0.tgz" % server.server_address[1]
version = dict(description, dist={"tarball": tarball, "integrity": integrity})
project = {"name": "muster-test-greeting", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
with open(os.path.join(registry, "muster-test-greeting"), "w", encoding="utf-8") as page:
    json.dump(project, page)
with open(os.path.join(folder, "port.new"), "w", encoding="utf-8") as port:
    port.write(str(server.server_address[1]))
os.rename(os.path.join(folder, "port.new"), os.path.join(folder, "port"))
server.serve_forever()
