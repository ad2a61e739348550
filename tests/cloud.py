# Plays the cloud for the tests: `os/v1/config`, and registration as far as a supervisor needs it (spec supervisor §2.2).
# Arguments: certificate, key, port. It prints its port, and writes every request as a line of JSON into `requests`. What
# stands in the URL before the path decides how it behaves. Files `openvpn.conf` and `openvpn.ca` in its folder are what it
# delivers.
import http.server, json, pathlib, re, ssl, sys, threading, time, urllib.parse

FLEET = "fleet"  # The key with which devices are made.
devices = {}  # By uuid: number and key.
lock = threading.Lock()


def delivered(name, usual):
    file = pathlib.Path(name)
    return file.read_text() if file.exists() else usual


class Cloud(http.server.BaseHTTPRequestHandler):
    def answer(self, status, document):
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def key(self):
        return self.headers["Authorization"].removeprefix("Bearer ")

    def note(self, document=None):
        agent = self.headers["User-Agent"]
        line = {"request": f"{self.command} {self.path}", "key": self.key(), "agent": agent, "document": document}
        with lock, open("requests", "a") as file:
            print(json.dumps(line), file=file)

    def do_GET(self):
        self.note()
        _, found, filter = self.path.partition("/v7/device?$select=id&$filter=")
        return self.find(urllib.parse.unquote(filter)) if found else self.config()

    def find(self, filter):
        uuid = re.fullmatch("uuid eq '(.*)'", filter)[1]
        if self.key() != FLEET and self.key() not in [key for _, key in devices.values()]:
            return self.answer(401, b"Unauthorized")
        self.answer(200, {"d": [{"id": devices[uuid][0]}] if uuid in devices else []})

    def config(self):
        part = self.path.removesuffix("/os/v1/config")
        assert part != self.path
        if part == "/never":
            time.sleep(60)
        version = "2.0.0" if part == "/schema" else "1.0.0"
        openvpn = {
            "config": delivered("openvpn.conf", f"config of {self.key()}{part}\n"),
            "ca": delivered("openvpn.ca", "authority\n"),
        }
        document = {"services": {"openvpn": openvpn}, "schema_version": version}
        if part == "/garbage":
            document = b"<html>"
        if part == "/large":
            document = b"[" + b" " * 3_000_000 + b"]"
        self.answer({"/unauthorized": 401, "/failing": 500}.get(part, 200), document)

    def do_POST(self):
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.note(document)
        if self.key() != FLEET:
            return self.answer(401, b"Unauthorized")
        exchange = re.search(r"/api-key/device/(\d+)/device-key$", self.path)
        if exchange:
            for uuid, (number, _) in devices.items():
                if number == int(exchange[1]):
                    devices[uuid] = (number, document["apiKey"])
                    return self.answer(200, document["apiKey"])
            return self.answer(404, b"Not Found")
        part = self.path.removesuffix("/device/register")
        assert part != self.path
        uuid = document["uuid"]
        if uuid in devices:
            return self.answer(409, b'"uuid" must be unique.')
        devices[uuid] = (1000 + len(devices), document["api_key"])
        if part == "/lost":
            # The device is made, and nobody hears of it.
            return self.connection.close()
        self.answer(201, {"id": devices[uuid][0], "uuid": uuid, "api_key": document["api_key"]})

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[3])), Cloud)
server.daemon_threads = True
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_port, flush=True)
server.serve_forever()
