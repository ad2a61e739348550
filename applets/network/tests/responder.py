#!/usr/bin/python3
"""A DHCP server of bad manners for the tests: short leases, refusals, garbage.

Usage: responder.py LINK SERVER OFFERED LEASE_SECONDS [garbage]

With `garbage`, each question is answered by damaged and forged messages first, and only the third DISCOVER
gets a proper offer.
"""

import os
import random
import socket
import struct
import sys
import time

LINK, SERVER, OFFERED, LEASE = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
GARBAGE = "garbage" in sys.argv[5:]
DISCOVER, OFFER, REQUEST, ACK, NAK = 1, 2, 3, 5, 6


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frame(chaddr, message, source_port=67):
    udp = struct.pack("!HHHH", source_port, 68, 8 + len(message), 0) + message
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0,
                       socket.inet_aton(SERVER), socket.inet_aton("255.255.255.255"))
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return chaddr + own_mac + b"\x08\x00" + head + udp


def message(kind, xid, chaddr, offered=OFFERED, lease=LEASE):
    fixed = struct.pack("!BBBBIHH4s4s4s4s6s10x192x", 2, 1, 6, 0, xid, 0, 0, b"\0" * 4,
                        socket.inet_aton(offered), b"\0" * 4, b"\0" * 4, chaddr)
    options = bytes([53, 1, kind, 54, 4]) + socket.inet_aton(SERVER)
    if kind != NAK:
        options += bytes([51, 4]) + struct.pack("!I", lease) + bytes([1, 4, 255, 255, 255, 0])
        options += bytes([3, 4]) + socket.inet_aton(SERVER)
    return fixed + b"\x63\x82\x53\x63" + options + b"\xff"


def garbage(xid, chaddr):
    good = message(OFFER, xid, chaddr)
    yield frame(chaddr, message(OFFER, xid ^ 1, chaddr))
    yield frame(chaddr, message(NAK, xid ^ 1, chaddr))
    yield frame(chaddr, message(OFFER, xid, b"\x02\x09\x09\x09\x09\x09"))
    yield frame(chaddr, message(OFFER, xid, chaddr, offered="127.0.0.1"))
    yield frame(chaddr, message(OFFER, xid, chaddr, offered="255.255.255.255"))
    yield frame(chaddr, message(OFFER, xid, chaddr, lease=0))
    yield frame(chaddr, message(ACK, xid, chaddr))
    yield frame(chaddr, good, source_port=6767)
    yield frame(chaddr, good[:-1] + bytes([12, 255, 1]))
    for length in range(0, len(good), 7):
        yield frame(chaddr, good[:length])
    for _ in range(300):
        noise = bytearray(good)
        for _ in range(random.randrange(1, 40)):
            # The message type stays "offer to somebody else", so that no noise is a proper offer.
            noise[random.randrange(236, len(noise))] = random.randrange(256)
        noise[4:8] = os.urandom(4) if random.random() < 0.9 else noise[4:8]
        noise[16:20] = b"\0\0\0\0"
        packet = frame(chaddr, bytes(noise))
        yield packet[:random.randrange(34, len(packet))] if random.random() < 0.5 else packet


random.seed(2131)
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
sock.bind((LINK, 0x0800))
own_mac = sock.getsockname()[4]
print("ready", flush=True)
discovers = 0
while True:
    packet, address = sock.recvfrom(2048)
    if address[2] == socket.PACKET_OUTGOING or len(packet) < 282 or packet[23] != 17:
        continue
    if packet[36:38] != b"\0\x43" or packet[278:282] != b"\x63\x82\x53\x63" or packet[282] != 53:
        continue
    xid, chaddr, kind = struct.unpack("!I", packet[46:50])[0], packet[70:76], packet[284]
    print("got", kind, flush=True)
    discovers += kind == DISCOVER
    if GARBAGE:
        for bad in garbage(xid, chaddr):
            sock.send(bad)
        if kind == DISCOVER and discovers < 3:
            continue
        # The burst may fill the client's socket while the machine is busy; the answer shall not be lost with it.
        time.sleep(0.5)
    if kind == DISCOVER:
        sock.send(frame(chaddr, message(OFFER, xid, chaddr)))
    elif kind == REQUEST:
        sock.send(frame(chaddr, message(ACK, xid, chaddr)))
