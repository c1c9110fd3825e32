"""A third-party agent: it knows nothing but the frames of the basic protocol and
needs nothing but Python. SERVER_URL=http://host:port AGENT_KEY=… third_party_agent.py [--http]"""
import base64, itertools, json, os, platform, socket, struct, sys, threading, time, urllib.request

URL, KEY, HOST = os.environ["SERVER_URL"], os.environ["AGENT_KEY"], socket.gethostname()
INFO = {"agent_id": "third-party", "hostname": HOST, "ip": "127.0.0.1", "version": "1.0.0",
        "os": f"{platform.system()} {platform.release()}", "python_version": platform.python_version()}
ANSWERS = {"ping": lambda data: {"pong": True}, "info": lambda data: INFO, "echo": lambda data: data}

def answer(command):
    known = ANSWERS.get(command["command"])
    result = {"data": known(command.get("data") or {})} if known else {"error": "unknown command"}
    return {"type": "response", "command_id": command["command_id"], "success": bool(known), **result}

def heartbeat():
    return {"type": "heartbeat", "status": {"uptime": "running", "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S")}}

def over_websocket():
    host, port = URL.split("//")[1].split(":")
    link = socket.create_connection((host, int(port)))
    nonce = base64.b64encode(os.urandom(16)).decode()
    link.sendall(f"GET /ws/agent?api_key={KEY} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
                 f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {nonce}\r\n\r\n".encode())
    def send(frame, opcode=1):
        data, mask = frame if opcode != 1 else json.dumps(frame).encode(), os.urandom(4)
        size = bytes([128 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack("!H", len(data))
        link.sendall(bytes([128 | opcode]) + size + mask + bytes(b ^ m for b, m in zip(data, itertools.cycle(mask))))
    def beat():
        while not time.sleep(30): send(heartbeat())
    stream = link.makefile("rb")
    while stream.readline().strip(): pass  # the answer to the upgrade
    send({"type": "register", "data": {**INFO, "capabilities": list(ANSWERS)}})
    threading.Thread(target=beat, daemon=True).start()
    while head := stream.read(2):
        size = struct.unpack("!H", stream.read(2))[0] if head[1] == 126 else head[1]
        opcode, data = head[0] & 15, stream.read(size)
        if opcode == 8: sys.exit(f"closed: {struct.unpack('!H', data[:2])[0]} {data[2:].decode()}")
        if opcode == 9: send(data, 10)
        if opcode == 1 and (frame := json.loads(data))["type"] == "command": send(answer(frame))

def over_http():
    def call(path, body=None):
        data = json.dumps(body).encode() if body else None
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        return json.load(urllib.request.urlopen(urllib.request.Request(f"{URL}/api/agents/{path}", data, headers)))
    while call("heartbeat", heartbeat()):
        for command in call("poll?wait_ms=10000")["commands"]:
            call("result", {"command_id": command["command_id"], "result": answer(command)})

over_http() if "--http" in sys.argv else over_websocket()
