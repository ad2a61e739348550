# A web server that says what time it is. Arguments: address, and for TLS certificate chain and key. It prints its port.
# Paths: /at/SECONDS answers 204 with that date, /now with the right one, /none without a date, /portal as a captive
# portal does, /portal/N so for N times and then as /now, /moved with a redirection, /garbage with a date that is none;
# /never stays silent, /slow/SECONDS answers as /at after 4 s. Others: 404, now.
import email.utils, http.server, ssl, sys, time


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    count = 0

    def do_HEAD(self):
        path = self.path.split("?")[0]
        if path == "/never":
            time.sleep(60)
        if path.startswith("/slow/"):
            time.sleep(4)
            path = "/at/" + path[6:]
        if path.startswith("/portal/"):
            Handler.count += 1
            path = "/portal" if Handler.count <= int(path[8:]) else "/now"
        status = {"/portal": 200, "/moved": 302}.get(path)
        if status is None:
            status = 204 if path.startswith("/at/") or path in ("/now", "/none", "/garbage") else 404
        self.send_response_only(status)
        seconds = int(path[4:]) if path.startswith("/at/") else time.time()
        if path == "/garbage":
            self.send_header("Date", "yesterday")
        elif path != "/none":
            self.send_header("Date", email.utils.formatdate(seconds, usegmt=True))
        if path == "/moved":
            self.send_header("Location", "/now")
        body = b"<html>Please log in</html>" if self.command == "GET" else b""
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_HEAD

    def log_message(self, form, *words):
        print(form % words, file=sys.stderr, flush=True)


server = http.server.ThreadingHTTPServer((sys.argv[1], 0), Handler)
server.daemon_threads = True
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_port, flush=True)
server.serve_forever()
