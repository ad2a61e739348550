# Plays the cloud's `os/v1/config` for the tests. Arguments: certificate, key. It prints its port. What stands in the URL
# before the path decides how it behaves.
import http.server, json, ssl, sys, time


class Cloud(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        part = self.path.removesuffix("/os/v1/config")
        assert part != self.path
        if part == "/never":
            time.sleep(60)
        key = self.headers["Authorization"].removeprefix("Bearer ")
        version = "2.0.0" if part == "/schema" else "1.0.0"
        services = {"openvpn": {"config": f"config of {key}{part}\n", "ca": "authority\n"}}
        body = json.dumps({"services": services, "schema_version": version}).encode()
        if part == "/garbage":
            body = b"<html>"
        if part == "/large":
            body = b"[" + b" " * 3_000_000 + b"]"
        self.send_response({"/unauthorized": 401, "/failing": 500}.get(part, 200))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[3])), Cloud)
server.daemon_threads = True
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_port, flush=True)
server.serve_forever()
