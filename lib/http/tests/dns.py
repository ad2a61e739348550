# A DNS server for the tests at 127.0.0.2: `both.test` has two addresses, `late.test` answers over TCP only, `four.test`
# has no IPv6 address, `broken.test` fails, other names do not exist.
import socket, struct, threading


def respond(query, tcp):
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += 1 + query[at]
    kind = struct.unpack("!H", query[at + 1 : at + 3])[0]
    name = ".".join(labels).lower()
    flags, answers = 0x8180, []
    data = {1: bytes([127, 0, 0, 1]), 28: bytes(15) + b"\x01"}[kind]
    if name == "both.test" or name == "four.test" and kind == 1 or name == "late.test" and tcp:
        answers.append(b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 5, len(data)) + data)
    elif name == "late.test":
        flags |= 0x0200
    elif name == "broken.test":
        flags |= 2
    elif name != "four.test":
        flags |= 3
    head = query[:2] + struct.pack("!HHHHH", flags, 1, len(answers), 0, 0)
    return head + query[12 : at + 5] + b"".join(answers)


listener = socket.create_server(("127.0.0.2", 53))


def tcp():
    while True:
        connection, _ = listener.accept()
        query = connection.recv(512)[2:]
        response = respond(query, True)
        connection.sendall(struct.pack("!H", len(response)))
        connection.sendall(response)


threading.Thread(target=tcp, daemon=True).start()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("127.0.0.2", 53))
web = socket.create_server(("127.0.0.1", 8080))


def serve():
    while True:
        connection, _ = web.accept()
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 204 x\r\n\r\n")
        connection.close()


threading.Thread(target=serve, daemon=True).start()
print("ready", flush=True)
while True:
    query, peer = udp.recvfrom(512)
    # Somebody else's answer, and a broken one, come first.
    udp.sendto(b"\0\0" + respond(query, False)[2:], peer)
    udp.sendto(query[:7], peer)
    udp.sendto(respond(query, False), peer)
