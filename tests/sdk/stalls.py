"""Callers that stall, trickle or flood a listener before they have said anything that it must answer.

A case sends parts (bytes, or seconds to wait) and reads to the end: (name, parts, what may be answered by
callers' listener, the same of operators', seconds to the end). `~~` is a path that is answered with 200."""

import ssl
import struct
import time

import battery

NONE = ()
LATE = [NONE, (408,)]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GET = b"GET ~~ HTTP/1.1\r\nHost: x.localhost\r\n\r\n"
POST = b"POST ~~ HTTP/1.1\r\nHost: x.localhost\r\n"


def slowly(data, wait=0.1):
    for byte in data:
        yield bytes([byte])
        yield wait


def grows():
    yield POST + b"Transfer-Encoding: chunked\r\n\r\n"
    for _ in range(80):
        yield b"400\r\n" + b"a" * 1024 + b"\r\n"


LONG = GET[:-2] + b"X: " + b"a" * 100

# Over HTTP, with TLS or without.
HTTP = [
    ("says nothing", lambda: [], LATE, LATE, 1),
    ("says one byte", lambda: [b"G"], LATE, LATE, 1),
    ("half of HTTP/2's preface", lambda: [PREFACE[:8]], LATE, LATE, 1),
    ("half a head", lambda: [GET[:-4] + b"\r\nX: "], LATE, LATE, 1),
    ("a head byte by byte", lambda: slowly(LONG), LATE, LATE, 1),
    ("a second head byte by byte", lambda: [GET, *slowly(LONG)], [(200,)], [(200,)], 3),
    ("a call, and nothing more", lambda: [GET], [(200,)], [(200,)], 3),
    ("a head of 20 KB", lambda: [GET[:-2] + b"X: " + b"a" * 20_000 + b"\r\n\r\n"], [(431,), NONE], [(431,), NONE], 0),
    ("40 header lines", lambda: [GET[:-2] + b"X: 1\r\n" * 40 + b"\r\n"], [(431,)], [(431,)], 0),
    ("no HTTP", lambda: [bytes(range(256))], [(400,)], [(400,)], 0),
    ("a body that stops", lambda: [POST + b"Content-Length: 20000\r\n\r\n{"], [(408,)], [(405,)], 1),
    ("a body byte by byte", lambda: [POST + b"Content-Length: 20000\r\n\r\n", *slowly(b"{" * 30)], [(408,), NONE], [(405,), NONE], 3),
    ("a body without an end", grows, [(413,), NONE], [(405,), NONE], 1),
]
# Another protocol than the handshake chose: what is spoken counts.
OTHER = [
    ("HTTP/2 where HTTP/1.1 was chosen", "http/1.1", PREFACE + bytes(9) * 2_000, [NONE, (400,)], 0),
    ("HTTP/1.1 where HTTP/2 was chosen", "h2", GET, [(200,)], 3),
]


def hello(*speaks):
    """A ClientHello as OpenSSL says it."""
    heard, said = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        battery.trusting(*(speaks or ["http/1.1"])).wrap_bio(heard, said, server_hostname="localhost").do_handshake()
    except ssl.SSLWantReadError:
        return said.read()


def record(kind, payload, length=None):
    return struct.pack(">BHH", kind, 0x0303, len(payload) if length is None else length) + payload


HANDSHAKE, CHANGE, ALERT, DATA = 22, 20, 21, 23


def again(data, count=2_000):
    for _ in range(count):
        yield data * 50


def enormous():
    """A ClientHello that says it is 16 MiB long."""
    yield record(HANDSHAKE, b"\x01\xff\xff\xff" + bytes(10_000))
    yield from (record(HANDSHAKE, bytes(16_384)) for _ in range(1_100))


def crumbled(data):
    """A handshake's bytes in records of one byte."""
    return b"".join(record(HANDSHAKE, bytes([byte])) for byte in data[5:])


# Before and in the handshake.
TLS = [
    ("says nothing", lambda: [], 1),
    ("says one byte", lambda: [b"\x16"], 1),
    ("half a ClientHello", lambda: [hello()[:100]], 1),
    ("a ClientHello byte by byte", lambda: slowly(hello()), 1),
    ("a ClientHello, and nothing more", lambda: [hello()], 1),
    ("a ClientHello in records of one byte, and nothing more", lambda: [crumbled(hello())], 1),
    ("a ClientHello of 60 KB, and nothing more", lambda: [hello(*["a" * 200 + str(number) for number in range(290)])], 1),
    ("a ClientHello of 16 MiB", enormous, 0),
    ("a record that says 16 KiB, and nothing more", lambda: [record(HANDSHAKE, b"", 16_384)], 1),
    ("a record that is too long", lambda: [record(HANDSHAKE, bytes(40_000), 40_000)], 0),
    ("records that are empty", lambda: again(record(HANDSHAKE, b"")), 1),
    ("warnings", lambda: again(record(ALERT, b"\x01\x5a")), 1),
    ("change_cipher_spec, again and again", lambda: [hello(), *again(record(CHANGE, b"\x01"))], 1),
    ("data before the handshake", lambda: again(record(DATA, bytes(100))), 0),
    ("HTTP without TLS", lambda: [GET.replace(b"~~", b"/x")], 0),
    ("SSL 2", lambda: [b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(37)], 0),
]


def drive(connection, parts, path):
    """What was answered, whether it ended, and after how long."""
    began, blocked = time.monotonic(), False
    connection.settimeout(0.3)
    for part in parts:
        if not isinstance(part, bytes):
            time.sleep(part)
        elif not blocked:
            try:
                connection.sendall(part.replace(b"~~", path))
            except TimeoutError:
                blocked = True  # It is no longer read: what comes waits in the attacker's buffers.
            except OSError:
                break
        if time.monotonic() > began + 6:
            break
    data, ended = ending(connection, began + 8)
    return data, ended, time.monotonic() - began


def ending(connection, until):
    """The first bytes of what comes, and whether it ends in time."""
    data = b""
    with connection:
        try:
            while (left := until - time.monotonic()) > 0:
                connection.settimeout(left)
                chunk = connection.recv(1 << 20)
                if not chunk:
                    return data, True
                data = data if len(data) > 4_096 else data + chunk
        except TimeoutError:
            pass
        except OSError:
            return data, True
    return data, False


def judge(data, ended, took, allowed, seconds):
    """(what became of it, what is wrong with that or None)."""
    statuses = tuple(status for status, _ in battery.answers(data)) if data.startswith(b"HTTP/1.") else NONE
    wrong = None
    if not ended:
        wrong = "it did not end"
    elif took > seconds + 2:
        wrong = f"it ended after {took:.1f} s"
    elif statuses not in allowed:
        wrong = f"it was answered with {statuses}"
    words = f"{allowed[0][0]}, " if allowed[0] else ""
    return f"{words}closed within {seconds} s" if seconds else f"{words}closed at once", wrong
