"""A provider on bare HTTP/2 frames, and what it may send to confuse, exhaust or hold up a gateway.

A lie is (name, method of the call, what is sent in its place, what may become of the call). It is a
generator of bytes, or of seconds to wait, over a `Link`; when it is over the connection goes on, unless
it ended with None."""

import itertools
import socket
import struct
import time

import hpack
from h2raw import *
from raw_provider import Listening

EVIL = b"evil"


class Link:
    """A provider's half of one connection, and the call that it answers."""

    def __init__(self, connection):
        self.connection, self.data, self.stream = connection, b"", 0
        self.decoder, self.encoder = hpack.Decoder(), hpack.Encoder()

    def read(self, count):
        while len(self.data) < count:
            chunk = self.connection.recv(65536)
            if not chunk:
                raise OSError("closed")
            self.data += chunk
        found, self.data = self.data[:count], self.data[count:]
        return found

    def head(self, *fields, flags=END_HEADERS, stream=None, status="200"):
        fields = [(":status", status), *fields] if status else list(fields)
        block = self.encoder.encode(fields, huffman=False)
        return frame(HEADERS, flags, stream or self.stream, block)

    def body(self, data=b"ok", flags=END_STREAM, stream=None):
        return frame(DATA, flags, stream or self.stream, data)

    def whole(self, *fields, data=b"ok"):
        return self.head(*fields) + self.body(data)

    def reset(self, code, stream=None):
        return frame(RST_STREAM, 0, stream or self.stream, struct.pack(">I", code))

    def away(self, last=None, code=NO_ERROR):
        return frame(GOAWAY, 0, 0, struct.pack(">II", self.stream if last is None else last, code))


class Provider(Listening):
    """Echoes the path of each call; the one for `/first` gets the lie. As long as it is lying, so does
    each connection's greeting."""

    def __init__(self, lie, greeting=None):
        self.lie, self.greeting, self.lying = lie, greeting, True
        super().__init__(64)

    def serve(self, connection, _):
        with connection:
            try:
                self.speak(Link(connection))
            except (OSError, hpack.HPACKError):
                pass

    def speak(self, link):
        link.read(len(PREFACE))
        link.connection.sendall(self.greeting if self.lying and self.greeting else settings())
        while True:
            size = link.read(9)
            kind, flags, stream = struct.unpack(">BBI", size[3:])
            payload = link.read(int.from_bytes(size[:3], "big"))
            if kind == SETTINGS and not flags & ACK:
                link.connection.sendall(frame(SETTINGS, ACK))
            if kind == PING and not flags & ACK:
                link.connection.sendall(frame(PING, ACK, 0, payload))
            if kind == HEADERS:
                self.answer(link, stream, dict(link.decoder.decode(payload)))

    def answer(self, link, stream, fields):
        path = fields[":path"]
        link.stream = stream
        if not path.endswith("/first"):
            said = path.encode()
            return link.connection.sendall(link.head(("content-length", str(len(said)))) + link.body(said))
        link.connection.settimeout(2)
        for part in self.lie(link):
            if part is None:
                # What is unread where a socket is closed makes a reset of it, and what was sent may be lost.
                link.connection.shutdown(socket.SHUT_WR)
                while link.connection.recv(65536):
                    pass
                raise OSError("it leaves")
            if isinstance(part, bytes):
                link.connection.sendall(part)
            else:
                time.sleep(part)
        link.connection.settimeout(None)


CASES = []
# What may become of the call that is lied to.
WHOLE, BROKEN, BAD, LATE = "200, whole", "broken off", "502", "504"


def lie(name, *became, method="GET", greeting=None):
    def add(run):
        CASES.append((name, method, run, became, greeting))
        return run

    return add


def simple(name, send, *became, method="GET", greeting=None):
    """A lie of one piece."""
    lie(name, *became, method=method, greeting=greeting)(lambda link: [send(link)])


def endless(name, part, *became, first=lambda link: b""):
    """Something, and then the same again and again, for as long as it is taken."""
    lie(name, *became)(lambda link: itertools.chain([first(link)], itertools.repeat(part(link) * 50, 800)))


ok = lambda link: [link.whole()]
length = lambda count: ("content-length", str(count))

# How it begins.
lie("says HTTP/1.1", BAD, greeting=b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")(ok)
# h2 reads on.
lie("no SETTINGS first", WHOLE, greeting=frame(PING, 0, 0, bytes(8)))(ok)
lie("noise first", BAD, greeting=bytes(range(256)) * 20)(ok)
lie("SETTINGS of no length", BAD, greeting=frame(SETTINGS, 0, 0, bytes(5)))(ok)
lie("SETTINGS that allow push", WHOLE, greeting=settings((2, 1)))(ok)
lie("a window of 2^32 - 1", BAD, greeting=settings((4, 0xFFFFFFFF)))(ok)
lie("frames of 0 bytes", BAD, greeting=settings((5, 0)))(ok)
lie("a header table of 4 GiB", WHOLE, greeting=settings((1, 0xFFFFFFFF)))(ok)
lie("no header table", WHOLE, greeting=settings((1, 0)))(ok)
lie("no streams at all", WHOLE, LATE, greeting=settings((3, 0)))(ok)
lie("header lists of 0 bytes", WHOLE, greeting=settings((6, 0)))(ok)
lie("a window that is never opened", LATE, method="POST", greeting=settings((4, 0)))(lambda link: [])
lie("GOAWAY first", BAD, greeting=settings() + frame(GOAWAY, 0, 0, bytes(8)))(ok)

# How it ends.
simple("REFUSED_STREAM", lambda link: link.reset(REFUSED), BAD)
simple("CANCEL", lambda link: link.reset(CANCEL), BAD)
simple("reset after the head", lambda link: link.head(length(2)) + link.reset(INTERNAL), BROKEN)
simple("reset in the body", lambda link: link.head(length(4)) + link.body(b"ok", 0) + link.reset(INTERNAL), BROKEN)
simple("reset with NO_ERROR in the body", lambda link: link.head() + link.body(b"ok", 0) + link.reset(NO_ERROR), BROKEN)
simple("reset after the end", lambda link: link.whole() + link.reset(INTERNAL), WHOLE)
simple("reset of an idle stream", lambda link: link.reset(CANCEL, link.stream + 100), BAD)
lie("closes before the head", BAD)(lambda link: [None])
lie("closes in the head", BAD)(lambda link: [link.head()[:9], None])
lie("closes in the body", BROKEN)(lambda link: [link.head(length(4)) + link.body(b"ok", 0), None])
lie("closes in the body without a length", BROKEN)(lambda link: [link.head() + link.body(b"ok", 0), None])
lie("GOAWAY that knows nothing of the call", BAD)(lambda link: [link.away(0)])
lie("GOAWAY in the body, which goes on", WHOLE)(lambda link: [link.head() + link.body(b"o", 0) + link.away(), 0.1, link.body(b"k")])
# Read all at once, the connection's end would come before its head is looked at: 502, as it may be.
lie("GOAWAY in the body, and closes", BROKEN)(lambda link: [link.head() + link.body(b"o", 0), 0.1, link.away(), None])
lie("GOAWAY with an error in the body", BROKEN)(lambda link: [link.head() + link.body(b"o", 0) + link.away(code=INTERNAL), None])
lie("no answer", LATE)(lambda link: [])
lie("a head, and no more", BROKEN)(lambda link: [link.head(length(2))])
lie("a body byte by byte, for ever", BROKEN)(lambda link: [link.head(), *[link.body(b"x", 0), 0.1] * 15])

# Heads.
simple("no :status", lambda link: link.head(status=None) + link.body(EVIL), BAD)
simple(":status twice", lambda link: link.head((":status", "404")) + link.body(EVIL), BAD)
simple(":status abc", lambda link: link.head(status="abc") + link.body(EVIL), BAD)
simple(":status 99", lambda link: link.head(status="099") + link.body(EVIL), BAD)
simple(":status 1000", lambda link: link.head(status="1000") + link.body(EVIL), BAD)
simple(":status after a field", lambda link: link.head(("x", "y"), (":status", "200"), status=None) + link.body(EVIL), BAD)
# h2 (the crate) drops it.
simple(":path in an answer", lambda link: link.head((":path", "/evil")) + link.body(), WHOLE)
simple("101", lambda link: link.head(status="101") + link.whole(), WHOLE)
simple("a name in capitals", lambda link: link.head(("X-Evil", "1")) + link.body(EVIL), BAD)
simple("a space in a name", lambda link: link.head(("x evil", "1")) + link.body(EVIL), BAD)
simple("a line break in a value", lambda link: link.head(("x", "a\r\nx-evil: 1\r\n\r\nHTTP/1.1 200 OK")) + link.body(EVIL), BAD)
simple("NUL in a value", lambda link: link.head(("x", "a\0b")) + link.body(EVIL), BAD)
simple("transfer-encoding", lambda link: link.head(("transfer-encoding", "chunked")) + link.body(b"0\r\n\r\nevil"), BAD)
simple("connection", lambda link: link.head(("connection", "x-evil"), ("x-evil", "1")) + link.body(EVIL), BAD)
simple("a header of 64 KiB", lambda link: link.head(("x", "y" * 16_000), ("z", "y" * 300)) + link.body(EVIL), BAD)
simple("1,000 header lines", lambda link: frame(HEADERS, END_HEADERS, link.stream, b"\x88" + b"\x00\x01x\x01y" * 1_000) + link.body(EVIL), BAD)
simple("an HPACK bomb", lambda link: frame(HEADERS, END_HEADERS, link.stream, b"\x88\x40\x01x\x7f\xa1\x1e" + b"y" * 4_000 + b"\xbe" * 10_000) + link.body(EVIL), BAD)
simple("HPACK's index 0", lambda link: frame(HEADERS, END_HEADERS, link.stream, b"\x88\x80"), BAD)
simple("an HPACK table larger than allowed", lambda link: frame(HEADERS, END_HEADERS, link.stream, b"\x3f\xff\xff\xff\x07\x88"), BAD)
# Not indexed: the next head is another's.
hints = lambda link: frame(HEADERS, END_HEADERS, link.stream, b"\x08\x03103")
simple("1,000 times 103 in front", lambda link: hints(link) * 1_000 + link.whole(), WHOLE, BAD)
endless("103 without an end", hints, LATE, BAD)
simple("103 that ends the stream", lambda link: link.head(status="103", flags=END_HEADERS | END_STREAM), BAD)

# Bodies.
simple("a length longer than what comes", lambda link: link.head(length(9)) + link.body(), BROKEN)
simple("a length shorter than what comes", lambda link: link.head(length(2)) + link.body(b"okEXTRA"), BROKEN)
simple("lengths that differ", lambda link: link.head(length(2), length(70)) + link.body(), BAD)
simple("length -1", lambda link: link.head(length(-1)) + link.body(), BAD)
simple("length 2^64 + 2", lambda link: link.head(length(2**64 + 2)) + link.body(), BAD)
simple("a length, and no body", lambda link: link.head(length(9), flags=END_HEADERS | END_STREAM), BAD)
simple("204 with a body", lambda link: link.head(status="204") + link.body(EVIL), "204, whole")
simple("304 with a body", lambda link: link.head(status="304") + link.body(EVIL), "304, whole")
simple("a body after the answer to HEAD", lambda link: link.head(length(4)) + link.body(EVIL), WHOLE, method="HEAD")
simple("gzip that is none", lambda link: link.whole(("content-encoding", "gzip")), WHOLE)
simple("DATA before HEADERS", lambda link: link.body(EVIL), BAD)
simple("DATA of stream 0", lambda link: frame(DATA, 0, 0, EVIL), BAD)
simple("DATA of a stream that is not", lambda link: link.whole() + link.body(EVIL, stream=link.stream + 100), WHOLE)
simple("DATA after the end", lambda link: link.whole() + link.body(EVIL), WHOLE)
simple("a second answer after the end", lambda link: link.whole() + link.head(("x-evil", "1")) + link.body(EVIL), WHOLE)
simple("a second head in the body", lambda link: link.head() + link.body(b"ok", 0) + link.head(("x-evil", "1")) + link.body(EVIL), BROKEN)
simple("an answer to a call that was not made", lambda link: link.head(stream=link.stream + 200) + link.body(EVIL, stream=link.stream + 200), BAD)
simple("an answer on an even stream", lambda link: link.head(stream=2) + link.body(EVIL, stream=2), BAD)
simple("PUSH_PROMISE", lambda link: frame(PUSH_PROMISE, END_HEADERS, link.stream, struct.pack(">I", 2) + link.encoder.encode(common(path="/evil"))), BAD)
simple("more than the window", lambda link: link.head() + b"".join(link.body(b"x" * 16_384, 0) for _ in range(2_000)), BROKEN)
simple("a frame of 16 MiB", lambda link: link.head() + frame(DATA, 0, link.stream, bytes((1 << 24) - 1)), BROKEN)
simple("padding longer than its frame", lambda link: link.head() + frame(DATA, PADDED, link.stream, b"\xff123"), BROKEN)
simple("trailers", lambda link: link.head() + link.body(b"ok", 0) + link.head(("x-sum", "1"), status=None, flags=END_HEADERS | END_STREAM), WHOLE)
simple("trailers with :status", lambda link: link.head() + link.body(b"ok", 0) + link.head(("x-evil", "1"), flags=END_HEADERS | END_STREAM), WHOLE)
simple("trailers that do not end the stream", lambda link: link.head() + link.body(b"ok", 0) + link.head(("x-sum", "1"), status=None) + link.body(EVIL), BROKEN)
simple("trailers with a length", lambda link: link.head() + link.body(b"ok", 0) + link.head(length(70), status=None, flags=END_HEADERS | END_STREAM), WHOLE)
simple("a bomb of trailers", lambda link: link.head() + link.body(b"ok", 0) + frame(HEADERS, 5, link.stream, b"\x40\x01x\x7f\xa1\x1e" + b"y" * 4_000 + b"\xbe" * 10_000), BROKEN)

# Floods.
endless("CONTINUATION without an end", lambda link: frame(CONTINUATION, 0, link.stream, b"\x00\x01a\x01b" * 100), BAD, LATE, first=lambda link: link.head(flags=0))
endless("CONTINUATION that are empty", lambda link: frame(CONTINUATION, 0, link.stream), BAD, LATE, first=lambda link: link.head(flags=0))
endless("SETTINGS", lambda link: settings((4, 65_535)), LATE, BAD)
endless("PING", lambda link: frame(PING, payload=b"12345678"), LATE, BAD)
endless("RST_STREAM", lambda link: link.reset(CANCEL), BAD, LATE)
endless("GOAWAY", lambda link: link.away(), LATE, BAD)
endless("PRIORITY", lambda link: frame(PRIORITY, 0, 1, struct.pack(">IB", 3, 1)), LATE, BAD)
endless("WINDOW_UPDATE of zero", lambda link: frame(WINDOW_UPDATE, 0, link.stream, bytes(4)), BAD, LATE)
endless("WINDOW_UPDATE past 2^31", lambda link: frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 0x7FFFFFFF)), BAD, LATE)
endless("frames of no known type", lambda link: frame(200, 0, 0, bytes(100)), LATE, BAD)
endless("DATA that is empty", lambda link: frame(DATA, 0, link.stream), BROKEN, first=lambda link: link.head())
endless("DATA of padding", lambda link: frame(DATA, PADDED, link.stream, b"\xff" + bytes(255)), BROKEN, first=lambda link: link.head())
