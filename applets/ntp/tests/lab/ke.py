# A server of NTS key exchanges that misbehaves. Argument: mode. It prints its port.
import socket, ssl, struct, sys, threading, time

mode = sys.argv[1]


def record(kind, body):
    return struct.pack(">HH", kind, len(body)) + body


def granted():
    return record(0x8001, b"\0\0") + record(0x8004, b"\0\x0f") + record(5, b"c" * 100) * 8


END = record(0x8000, b"")
MESSAGES = {
    "error": record(0x8002, b"\0\x01") + END,
    "warning": granted() + record(0x8003, b"\0\x05") + END,
    "critical": granted() + record(0xC123, b"x") + END,
    "optional": granted() + record(0x4123, b"x") + END,
    "protocol": record(0x8001, b"") + END,
    "algorithm": record(0x8001, b"\0\0") + record(0x8004, b"") + END,
    "cookieless": record(0x8001, b"\0\0") + record(0x8004, b"\0\x0f") + END,
    "early": granted(),
    "garbage": b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"\0" * 70000,
    "noname": granted() + record(6, b"a..b") + END,
    "alpn": granted() + END,
}


def serve(connection):
    try:
        if mode == "silent":
            time.sleep(60)
            return
        if mode == "plain":
            connection.sendall(b"hello\r\n" * 10)
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain("good.pem", "good.key")
        if mode != "alpn":
            context.set_alpn_protocols(["ntske/1"])
        with context.wrap_socket(connection, server_side=True) as session:
            session.recv(1000)
            if mode == "hang":
                time.sleep(60)
            if mode == "flood":
                while True:
                    session.sendall(record(0x4001, b"x" * 60000))
            if mode == "drip":
                for byte in granted() + END:
                    session.sendall(bytes([byte]))
                    time.sleep(0.05)
            session.sendall(MESSAGES[mode])
            session.unwrap()
    except OSError:
        pass


listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
