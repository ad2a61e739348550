"""Sends 40,000 packets to the group of mDNS, with a seed, within a few seconds: questions, answers, noise."""

import random
import socket
import struct
import sys

COUNT = 40_000
GROUP = ("224.0.0.251", 5353)
dice = random.Random(7)


def name(*labels):
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def question():
    names = [name(b"ours", b"local"), name(b"_ssh", b"_tcp", b"local"), name(b"x%d" % dice.randrange(10_000), b"local")]
    parts = [dice.choice(names) + struct.pack(">HH", dice.choice([1, 12, 28, 33, 255]), 1) for _ in range(dice.randrange(1, 20))]
    return struct.pack(">6H", 0, 0, len(parts), 0, 0, 0) + b"".join(parts)


def answer():
    parts = []
    for _ in range(dice.randrange(1, 20)):
        owner = name(b"h%d" % dice.randrange(1_000_000), b"local")
        kind, data = dice.choice([(1, dice.randbytes(4)), (28, dice.randbytes(16)), (16, b"\x40" + dice.randbytes(64)),
                                  (12, name(b"t%d" % dice.randrange(1_000_000), b"local"))])
        parts.append(owner + struct.pack(">HHIH", kind, dice.choice([1, 0x8001]), 4500, len(data)) + data)
    return struct.pack(">6H", 0, 0x8400, 0, len(parts), 0, 0) + b"".join(parts)


def noise():
    packet = bytearray(dice.choice([question, answer])())
    for _ in range(dice.randrange(1, 8)):
        packet[dice.randrange(len(packet))] = dice.randrange(256)
    return bytes(packet)


sockets = []
for port in [5353, 0]:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(sys.argv[1]))
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
    sender.bind((sys.argv[1], port))
    sockets.append(sender)
print("sending", flush=True)
for number in range(COUNT):
    sockets[number % 4 == 3].sendto(dice.choice([question, answer, noise])(), GROUP)
print("done", flush=True)
