# Speaks TLS on a port of loopback and passes everything on to another port. Arguments: certificate, key, that port. It
# prints its own.
import socket, ssl, sys, threading

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])


def head_of(stream, head=b""):
    while b"\r\n\r\n" not in head:
        piece = stream.recv(65536)
        if not piece:
            raise OSError("it is over")
        head += piece
    return head


def serve(raw):
    try:
        outer = context.wrap_socket(raw, server_side=True)
        inner = socket.create_connection(("127.0.0.1", int(sys.argv[3])))
        while True:
            # Requests have no body, and one comes after the other: an answer ends with its last byte.
            request = head_of(outer)
            inner.sendall(request)
            head = head_of(inner)
            outer.sendall(head)
            fields, body = head.split(b"\r\n\r\n", 1)
            lengths = [line for line in fields.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            left = 0 if request.startswith(b"HEAD") else int(lengths[0].split(b":")[1]) - len(body)
            while left > 0:
                piece = inner.recv(min(left, 65536))
                if not piece:
                    return
                outer.sendall(piece)
                left -= len(piece)
    except OSError:
        pass


listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
