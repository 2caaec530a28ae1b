"""HTTP/2 frame by frame, right or wrong, over a bare socket."""

import struct
import time

import battery
import hpack

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, WITH_PRIORITY, ACK = 1, 4, 8, 32, 1
NO_ERROR, PROTOCOL, INTERNAL, FLOW, SETTINGS_TIMEOUT, CLOSED, SIZE, REFUSED, CANCEL, COMPRESSION = range(10)
CALM = 11
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(*pairs):
    return frame(SETTINGS, payload=b"".join(struct.pack(">HI", *pair) for pair in pairs))


def common(method="GET", path="/raw/h2", more=(), leave=()):
    fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "x"), *more]
    return [field for field in fields if field[0] not in leave]


def told(word, code, codes):
    """How an error came; one of another kind than the RFC names still refuses what was sent."""
    if code in codes:
        return f"{word} {NAMES[code]}"
    return f"{word} {NAMES[code]}, where the RFC names {' or '.join(NAMES[code] for code in codes)}"


class Gone(Exception):
    """The other side closed the connection."""


class Peer:
    """A client's connection."""

    def __init__(self, url, pairs=(), preface=True, patience=2.0):
        self.socket = battery.connect(url, speaks=["h2", "http/1.1"])
        self.patience, self.data, self.encoder = patience, b"", hpack.Encoder()
        self.encoder.header_table_size = 4096
        self.decoder, self.max_streams, self.window = hpack.Decoder(), None, 65535
        if preface:
            self.send(PREFACE + settings(*pairs))
            self.handshake()

    def handshake(self):
        acked = told = False
        while not (acked and told):
            kind, flags, _, payload = self.read()
            if kind == SETTINGS and flags & ACK:
                acked = True
            elif kind == SETTINGS:
                told = True
                for at in range(0, len(payload), 6):
                    key, value = struct.unpack(">HI", payload[at : at + 6])
                    if key == 3:
                        self.max_streams = value
                self.send(frame(SETTINGS, ACK))

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError:
            pass  # What was said before is still to be read.

    def fields(self, *fields, **words):
        return self.encoder.encode(list(fields) or common(**words), huffman=False)

    def headers(self, stream=1, flags=END_STREAM | END_HEADERS, block=None, **words):
        self.send(frame(HEADERS, flags, stream, self.fields(**words) if block is None else block))

    def read(self, until=None):
        """The next frame: kind, flags, stream, payload."""
        until = until or time.monotonic() + self.patience
        while len(self.data) < 9 or len(self.data) < 9 + int.from_bytes(self.data[:3], "big"):
            self.socket.settimeout(max(until - time.monotonic(), 0.001))
            try:
                chunk = self.socket.recv(65536)
            except TimeoutError:
                raise
            except OSError:
                raise Gone from None
            if not chunk:
                raise Gone
            self.data += chunk
        length = int.from_bytes(self.data[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", self.data[3:9])
        payload, self.data = self.data[9 : 9 + length], self.data[9 + length :]
        return kind, flags, stream & 0x7FFFFFFF, payload

    def until(self, wanted):
        """The first frame that is wanted; what ends the connection is raised or given too."""
        until = time.monotonic() + self.patience
        while True:
            found = self.read(until)
            if wanted(*found):
                return found

    # What came of it; each gives a word, or None where that is not what may come.

    def connection_error(self, *codes):
        try:
            _, _, _, payload = self.until(lambda kind, *_: kind == GOAWAY)
        except Gone:
            return "closed"
        except TimeoutError:
            return None
        code = int.from_bytes(payload[4:8], "big")
        return told("GOAWAY", code, codes)

    def stream_error(self, *codes):
        try:
            kind, _, _, payload = self.until(lambda kind, *_: kind in (GOAWAY, RST_STREAM))
        except Gone:
            return "closed"
        except TimeoutError:
            return None
        code = int.from_bytes(payload[:4] if kind == RST_STREAM else payload[4:8], "big")
        word = "RST_STREAM" if kind == RST_STREAM else "GOAWAY"
        return told(word, code, codes)

    def answered(self, stream=1, status=None):
        try:
            found = self.until(lambda kind, flags, on, _: kind in (GOAWAY, RST_STREAM) or kind == HEADERS and on == stream)
        except (Gone, TimeoutError):
            return None
        if found[0] != HEADERS:
            return None
        got = dict(self.decoder.decode(found[3]))[":status"]
        return "answered" if status in (None, got) and (status or got == "200") else None

    def pong(self, payload=b"h2spec\0\0"):
        try:
            self.until(lambda kind, flags, _, came: kind == PING and flags & ACK and came == payload)
        except (Gone, TimeoutError):
            return None
        return "PING acknowledged"

    def alive(self):
        """Whether it goes on: a PING is answered."""
        self.send(frame(PING, payload=b"h2spec\0\0"))
        return "goes on" if self.pong() else None

    def acked(self):
        try:
            self.until(lambda kind, flags, *_: kind == SETTINGS and flags & ACK)
        except (Gone, TimeoutError):
            return None
        return "SETTINGS acknowledged"

    def close(self):
        self.socket.close()


NAMES = [
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
]
