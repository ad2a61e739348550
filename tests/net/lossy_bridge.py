"""Passes Ethernet frames between two interfaces, badly: a fifth is lost, some come twice, all late and out of order."""

import heapq
import random
import select
import socket
import sys
import time


def summed(frame):
    """The frame with its UDP checksum: within one machine the sender leaves that to a card that is not there."""
    frame = bytearray(frame)
    kind, at = frame[12:14], 14
    if kind == b"\x08\0" and frame[23] == 17:
        at += (frame[14] & 15) * 4
        frame[at + 6:at + 8] = b"\0\0"
    elif kind == b"\x86\xdd" and frame[20] == 17:
        at += 40
        frame[at + 6:at + 8] = b"\0\0"
        datagram = bytes(frame[at:at + int.from_bytes(frame[at + 4:at + 6], "big")])
        whole = bytes(frame[22:54]) + len(datagram).to_bytes(4, "big") + b"\0\0\0\x11" + datagram + b"\0" * (len(datagram) % 2)
        total = sum(int.from_bytes(whole[n:n + 2], "big") for n in range(0, len(whole), 2))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        frame[at + 6:at + 8] = ((0xFFFF - total) or 0xFFFF).to_bytes(2, "big")
    return bytes(frame)


dice = random.Random(int(sys.argv[3]))
sides = [socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) for _ in range(2)]
for side, name in zip(sides, sys.argv[1:3]):
    side.bind((name, 0))
queue, count = [], 0
print("passing", flush=True)
while True:
    wait = max(0, queue[0][0] - time.monotonic()) if queue else None
    for side in select.select(sides, [], [], wait)[0]:
        frame, address = side.recvfrom(65536)
        # What was sent by ourselves comes back as PACKET_OUTGOING.
        if address[2] == 4 or dice.random() < 0.2:
            continue
        for _ in range(2 if dice.random() < 0.1 else 1):
            count += 1
            heapq.heappush(queue, (time.monotonic() + dice.uniform(0.001, 0.06), count, 1 - sides.index(side), summed(frame)))
    while queue and queue[0][0] <= time.monotonic():
        _, _, to, frame = heapq.heappop(queue)
        sides[to].send(frame)
