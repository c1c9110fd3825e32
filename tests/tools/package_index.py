# A package index with one package, for tests: FOLDER. Writes its port to FOLDER/port, and each request to
# FOLDER/requests.
import functools
import http.server
import os
import sys
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


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        with open(os.path.join(folder, "requests"), "a", encoding="utf-8") as requests:
            requests.write(self.requestline + "\n")


handler = functools.partial(Handler, directory=folder)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
with open(os.path.join(folder, "port.new"), "w", encoding="utf-8") as port:
    port.write(str(server.server_address[1]))
os.rename(os.path.join(folder, "port.new"), os.path.join(folder, "port"))
server.serve_forever()
