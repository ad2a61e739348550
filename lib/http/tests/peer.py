# A web server for the tests. Arguments: mode, certificate chain, key. It prints its port.
# Modes: tls, tls12, plain, silent (accepts and says nothing), garbage (answers with no TLS).
import http.server, socket, ssl, sys, threading, time


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path
        if path == "/never":
            time.sleep(60)
        if path == "/garbage":
            self.wfile.write(b"\x00\x01 no HTTP\r\n\r\n")
            self.close_connection = True
            return
        body = ("%s %s" % (self.headers["Host"], self.headers.get("Authorization", "-"))).encode()
        if path == "/large":
            body = b"x" * 3_000_000
        self.send_response(301 if path == "/moved" else 200)
        if path == "/moved":
            self.send_header("Location", "/elsewhere")
        if path == "/open":
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)
            # No length, and no close_notify: nobody can know that this is all.
            self.connection.unwrap = None
            socket.socket.shutdown(self.connection, socket.SHUT_RDWR)
            return
        self.send_header("Content-Length", str(len(body) + (10 if path in ("/cut", "/drip") else 0)))
        self.end_headers()
        self.wfile.write(body)
        if path == "/drip":
            for _ in range(9):
                time.sleep(0.3)
                self.wfile.write(b".")
                self.wfile.flush()
            time.sleep(60)
        if path == "/cut":
            self.connection.close()

    def do_POST(self):
        length = self.headers["Content-Length"]
        data = b""
        if length:
            data = self.rfile.read(int(length))
        else:
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


mode = sys.argv[1]
if mode in ("silent", "garbage"):
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    held = []
    while True:
        connection, _ = listener.accept()
        held.append(connection)
        if mode == "garbage":
            connection.sendall(b"SSH-2.0-no TLS here\r\n" * 20)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
if mode != "plain":
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    if mode == "tls12":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_port, flush=True)
server.serve_forever()
