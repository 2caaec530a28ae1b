"""The cases of h2spec, which cannot be had here as a program: their sections and names, written anew on
bare frames. Each gives the word for what came, or None where the RFC does not allow what came."""

import struct

from h2raw import *

CASES = []
OPEN = END_HEADERS
WHOLE = END_HEADERS | END_STREAM


def case(section, name, pairs=(), preface=True):
    def add(run):
        CASES.append((section, name, pairs, preface, run))
        return run

    return add


def simple(section, name, send, expect, codes=(), pairs=()):
    """A case that sends something and expects one kind of error, or none."""

    def run(peer):
        for part in send(peer):
            peer.send(part)
        return getattr(peer, expect)(*codes)

    CASES.append((section, name, pairs, True, run))


def priority(on, exclusive=False, weight=255):
    return struct.pack(">IB", on | (0x80000000 if exclusive else 0), weight)


def head(peer, stream=1, flags=WHOLE, before=b"", after=b"", **words):
    return frame(HEADERS, flags, stream, before + peer.fields(**words) + after)


def post(peer, more=(), stream=1):
    return frame(HEADERS, OPEN, stream, peer.fields(method="POST", more=more))


def ping(payload=b"h2spec\0\0", flags=0, stream=0):
    return frame(PING, flags, stream, payload)


# generic
G = "generic/"
@case(G + "1. Starting HTTP/2", "Sends a client connection preface")
def _(peer):
    return peer.alive()


two = G + "2. Streams and Multiplexing"
simple(two, "Sends a PRIORITY frame on idle stream", lambda peer: [frame(PRIORITY, 0, 1, priority(0)), ping()], "pong")
simple(two, "Sends a WINDOW_UPDATE frame on half-closed (remote) stream", lambda peer: [head(peer), frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 1))], "answered")
simple(two, "Sends a PRIORITY frame on half-closed (remote) stream", lambda peer: [head(peer), frame(PRIORITY, 0, 1, priority(0))], "answered")
simple(two, "Sends a RST_STREAM frame on half-closed (remote) stream", lambda peer: [head(peer), frame(RST_STREAM, 0, 1, struct.pack(">I", CANCEL)), ping()], "pong")
@case(two, "Sends a PRIORITY frame on closed stream")
def _(peer):
    peer.headers()
    if not peer.answered():
        return None
    peer.send(frame(PRIORITY, 0, 1, priority(0)))
    return peer.alive()


three = G + "3. Frame Definitions: "
simple(three + "DATA", "Sends a DATA frame", lambda peer: [post(peer), frame(DATA, END_STREAM, 1, b"test")], "answered")
simple(three + "DATA", "Sends multiple DATA frames", lambda peer: [post(peer), frame(DATA, 0, 1, b"test"), frame(DATA, END_STREAM, 1, b"test")], "answered")
simple(three + "DATA", "Sends a DATA frame with padding", lambda peer: [post(peer), frame(DATA, END_STREAM | PADDED, 1, b"\x06test" + bytes(6))], "answered")
simple(three + "HEADERS", "Sends a HEADERS frame", lambda peer: [head(peer)], "answered")
simple(three + "HEADERS", "Sends a HEADERS frame with padding", lambda peer: [head(peer, flags=WHOLE | PADDED, before=b"\x06", after=bytes(6))], "answered")
simple(three + "HEADERS", "Sends a HEADERS frame with priority", lambda peer: [head(peer, flags=WHOLE | WITH_PRIORITY, before=priority(0))], "answered")
for name, weight, on, exclusive in [
    ("Sends a PRIORITY frame with priority 1", 0, 0, False), ("Sends a PRIORITY frame with priority 256", 255, 0, False),
    ("Sends a PRIORITY frame with stream dependency", 255, 3, False), ("Sends a PRIORITY frame with exclusive", 255, 3, True),
    ("Sends a PRIORITY frame for an idle stream, then send a HEADER frame for a lower stream ID", 255, 0, False),
]:
    stream = 5 if "lower" in name else 1
    simple(three + "PRIORITY", name, lambda peer, w=weight, o=on, e=exclusive, s=stream: [frame(PRIORITY, 0, s, priority(o, e, w)), head(peer)], "answered")
simple(three + "RST_STREAM", "Sends a RST_STREAM frame", lambda peer: [post(peer), frame(RST_STREAM, 0, 1, struct.pack(">I", CANCEL)), ping()], "pong")
simple(three + "SETTINGS", "Sends a SETTINGS frame", lambda peer: [settings((3, 100))], "acked")
simple(three + "PING", "Sends a PING frame", lambda peer: [ping()], "pong")
@case(three + "GOAWAY", "Sends a GOAWAY frame")
def _(peer):
    peer.send(frame(GOAWAY, payload=struct.pack(">II", 0, NO_ERROR)))
    return peer.connection_error(NO_ERROR) or peer.alive()
simple(three + "WINDOW_UPDATE", "Sends a WINDOW_UPDATE frame with stream ID 0", lambda peer: [frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)), head(peer)], "answered")
simple(three + "WINDOW_UPDATE", "Sends a WINDOW_UPDATE frame with stream ID 1", lambda peer: [post(peer), frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 1)), frame(DATA, END_STREAM, 1, b"x")], "answered")


def split(peer, parts, flags=END_STREAM, last=END_HEADERS, stream=1):
    block = peer.fields(more=[("x-dummy", "a" * 100)])
    size = -(-len(block) // (parts + 1))
    pieces = [block[at : at + size] for at in range(0, len(block), size)]
    frames = [frame(HEADERS, flags, stream, pieces[0])]
    for at, piece in enumerate(pieces[1:]):
        frames.append(frame(CONTINUATION, last if at == len(pieces) - 2 else 0, stream, piece))
    return frames


simple(three + "CONTINUATION", "Sends a CONTINUATION frame", lambda peer: split(peer, 1), "answered")
simple(three + "CONTINUATION", "Sends multiple CONTINUATION frames", lambda peer: split(peer, 3), "answered")

four = G + "4. HTTP Message Exchanges"
simple(four, "Sends a GET request", lambda peer: [head(peer)], "answered")
simple(four, "Sends a HEAD request", lambda peer: [head(peer, method="HEAD")], "answered")
simple(four, "Sends a POST request", lambda peer: [post(peer), frame(DATA, END_STREAM, 1, b"test")], "answered")
simple(four, "Sends a POST request with trailers", lambda peer: [post(peer, [("trailer", "x-test")]), frame(DATA, 0, 1, b"test"), frame(HEADERS, WHOLE, 1, peer.encoder.encode([("x-test", "ok")]))], "answered")


def string(text, huffman=False):
    data = hpack.hpack.HuffmanEncoder(hpack.huffman_constants.REQUEST_CODES, hpack.huffman_constants.REQUEST_CODES_LENGTH).encode(text) if huffman else text
    return bytes([len(data) | (0x80 if huffman else 0)]) + data


BASE = b"\x82\x86" + b"\x04" + string(b"/raw/h2") + b"\x01" + string(b"x")
five = G + "5. HPACK"
for name, field in [
    ("Sends a indexed header field representation", b"\x90"),
    ("Sends a literal header field with incremental indexing - indexed name", b"\x7a" + string(b"test")),
    ("Sends a literal header field with incremental indexing - indexed name (with Huffman coding)", b"\x7a" + string(b"test", True)),
    ("Sends a literal header field with incremental indexing - new name", b"\x40" + string(b"x-test") + string(b"test")),
    ("Sends a literal header field with incremental indexing - new name (with Huffman coding)", b"\x40" + string(b"x-test", True) + string(b"test", True)),
    ("Sends a literal header field without indexing - indexed name", b"\x0f\x2b" + string(b"test")),
    ("Sends a literal header field without indexing - indexed name (with Huffman coding)", b"\x0f\x2b" + string(b"test", True)),
    ("Sends a literal header field without indexing - new name", b"\x00" + string(b"x-test") + string(b"test")),
    ("Sends a literal header field without indexing - new name (huffman encoded)", b"\x00" + string(b"x-test", True) + string(b"test", True)),
    ("Sends a literal header field never indexed - indexed name", b"\x1f\x2b" + string(b"test")),
    ("Sends a literal header field never indexed - indexed name (huffman encoded)", b"\x1f\x2b" + string(b"test", True)),
    ("Sends a literal header field never indexed - new name", b"\x10" + string(b"x-test") + string(b"test")),
    ("Sends a literal header field never indexed - new name (huffman encoded)", b"\x10" + string(b"x-test", True) + string(b"test", True)),
]:
    simple(five, name, lambda peer, f=field: [frame(HEADERS, WHOLE, 1, BASE + f)], "answered")
simple(five, "Sends a dynamic table size update", lambda peer: [frame(HEADERS, WHOLE, 1, b"\x20" + BASE)], "answered")
simple(five, "Sends multiple dynamic table size update", lambda peer: [frame(HEADERS, WHOLE, 1, b"\x20\x3f\xe1\x1f" + BASE)], "answered")

# http2
H = "http2/"
@case(H + "3.5. HTTP/2 Connection Preface", "Sends client connection preface", preface=False)
def _(peer):
    peer.send(PREFACE + settings())
    peer.handshake()
    return peer.alive()
@case(H + "3.5. HTTP/2 Connection Preface", "Sends invalid connection preface", preface=False)
def _(peer):
    peer.send(b"INVALID CONNECTION PREFACE\r\n\r\n")
    try:
        while peer.socket.recv(65536):
            pass
        return "closed"
    except TimeoutError:
        return None
    except OSError:
        return "closed"

simple(H + "4.1. Frame Format", "Sends a frame with unknown type", lambda peer: [frame(255), ping()], "pong")
simple(H + "4.1. Frame Format", "Sends a frame with undefined flag", lambda peer: [ping(flags=0x16)], "pong")
simple(H + "4.1. Frame Format", "Sends a frame with reserved field bit", lambda peer: [ping(stream=0x80000000)], "pong")
simple(H + "4.2. Frame Size", "Sends a DATA frame with 2^14 octets in length", lambda peer: [post(peer), frame(DATA, END_STREAM, 1, bytes(16384))], "answered")
simple(H + "4.2. Frame Size", "Sends a large size DATA frame that exceeds the SETTINGS_MAX_FRAME_SIZE", lambda peer: [post(peer), frame(DATA, END_STREAM, 1, bytes(16385))], "stream_error", [SIZE])
simple(H + "4.2. Frame Size", "Sends a large size HEADERS frame that exceeds the SETTINGS_MAX_FRAME_SIZE", lambda peer: [head(peer, after=bytes(16385))], "connection_error", [SIZE])
simple(H + "4.3. Header Compression", "Sends invalid header block fragment", lambda peer: [frame(HEADERS, WHOLE, 1, b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff\xff")], "connection_error", [COMPRESSION])
simple(H + "4.3. Header Compression", "Sends a PRIORITY frame while sending the header blocks", lambda peer: [head(peer, flags=END_STREAM), frame(PRIORITY, 0, 1, priority(0)), frame(CONTINUATION, END_HEADERS, 1)], "connection_error", [PROTOCOL])
simple(H + "4.3. Header Compression", "Sends a HEADERS frame to another stream while sending the header blocks", lambda peer: [head(peer, flags=END_STREAM), head(peer, 3), frame(CONTINUATION, END_HEADERS, 1)], "connection_error", [PROTOCOL])

states = H + "5.1. Stream States"
reset = lambda stream=1: frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))
simple(states, "idle: Sends a DATA frame", lambda peer: [frame(DATA, END_STREAM, 1, b"test")], "connection_error", [PROTOCOL])
simple(states, "idle: Sends a RST_STREAM frame", lambda peer: [reset()], "connection_error", [PROTOCOL])
simple(states, "idle: Sends a WINDOW_UPDATE frame", lambda peer: [frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 100))], "connection_error", [PROTOCOL])
simple(states, "idle: Sends a CONTINUATION frame", lambda peer: [frame(CONTINUATION, END_HEADERS, 1, peer.fields())], "connection_error", [PROTOCOL])
simple(states, "half closed (remote): Sends a DATA frame", lambda peer: [head(peer, path="/raw/slow"), frame(DATA, END_STREAM, 1, b"test")], "stream_error", [CLOSED])
simple(states, "half closed (remote): Sends a HEADERS frame", lambda peer: [head(peer, path="/raw/slow"), head(peer)], "stream_error", [CLOSED])
simple(states, "half closed (remote): Sends a CONTINUATION frame", lambda peer: [head(peer, path="/raw/slow"), frame(CONTINUATION, END_HEADERS, 1, peer.fields())], "stream_error", [CLOSED, PROTOCOL])
simple(states, "closed: Sends a DATA frame after sending RST_STREAM frame", lambda peer: [post(peer), reset(), frame(DATA, END_STREAM, 1, b"test")], "stream_error", [CLOSED])
simple(states, "closed: Sends a HEADERS frame after sending RST_STREAM frame", lambda peer: [post(peer), reset(), head(peer)], "stream_error", [CLOSED])
simple(states, "closed: Sends a CONTINUATION frame after sending RST_STREAM frame", lambda peer: [post(peer), reset(), frame(CONTINUATION, END_HEADERS, 1, peer.fields())], "stream_error", [CLOSED, PROTOCOL])


def after_the_answer(name, send, codes, how="connection_error"):
    @case(states, name)
    def _(peer):
        peer.headers()
        ended = peer.until(lambda kind, flags, stream, _: stream == 1 and flags & END_STREAM)
        assert ended
        peer.send(send(peer))
        return getattr(peer, how)(*codes)


after_the_answer("closed: Sends a DATA frame", lambda peer: frame(DATA, END_STREAM, 1, b"test"), [CLOSED], "stream_error")
after_the_answer("closed: Sends a HEADERS frame", lambda peer: head(peer), [CLOSED, PROTOCOL])
after_the_answer("closed: Sends a CONTINUATION frame", lambda peer: frame(CONTINUATION, END_HEADERS, 1, peer.fields()), [CLOSED, PROTOCOL])

simple(H + "5.1.1. Stream Identifiers", "Sends even-numbered stream identifier", lambda peer: [head(peer, 2)], "connection_error", [PROTOCOL])
simple(H + "5.1.1. Stream Identifiers", "Sends stream identifier that is numerically smaller than previous", lambda peer: [head(peer, 5), head(peer, 3)], "connection_error", [PROTOCOL, CLOSED])
@case(H + "5.1.2. Stream Concurrency", "Sends HEADERS frames that causes their advertised concurrent stream limit to be exceeded")
def _(peer):
    for number in range(peer.max_streams + 1):
        peer.send(post(peer, stream=1 + 2 * number))
    return peer.stream_error(PROTOCOL, REFUSED)

simple(H + "5.3.1. Stream Dependencies", "Sends HEADERS frame that depends on itself", lambda peer: [head(peer, flags=WHOLE | WITH_PRIORITY, before=priority(1))], "stream_error", [PROTOCOL])
simple(H + "5.3.1. Stream Dependencies", "Sends PRIORITY frame that depend on itself", lambda peer: [frame(PRIORITY, 0, 1, priority(1))], "stream_error", [PROTOCOL])
simple(H + "5.4.1. Connection Error Handling", "Sends an invalid PING frame for connection close", lambda peer: [ping(stream=1)], "connection_error", [PROTOCOL])
@case(H + "5.4.1. Connection Error Handling", "Sends an invalid PING frame to receive GOAWAY frame")
def _(peer):
    peer.send(ping(stream=3))
    word = peer.connection_error(PROTOCOL)
    return word if word and word.startswith("GOAWAY") else None
simple(H + "5.5. Extending HTTP/2", "Sends an unknown extension frame", lambda peer: [frame(0x16, payload=b"unknown!"), ping()], "pong")
simple(H + "5.5. Extending HTTP/2", "Sends an unknown extension frame in the middle of a header block", lambda peer: [head(peer, flags=END_STREAM), frame(0x16, 0, 1, b"unknown!"), frame(CONTINUATION, END_HEADERS, 1)], "connection_error", [PROTOCOL])

simple(H + "6.1. DATA", "Sends a DATA frame with 0x0 stream identifier", lambda peer: [frame(DATA, END_STREAM, 0, b"test")], "connection_error", [PROTOCOL])
simple(H + "6.1. DATA", "Sends a DATA frame on the stream that is not in \"open\" or \"half-closed (local)\" state", lambda peer: [head(peer, path="/raw/slow"), frame(DATA, END_STREAM, 1, b"test")], "stream_error", [CLOSED])
simple(H + "6.1. DATA", "Sends a DATA frame with invalid pad length", lambda peer: [post(peer, [("content-length", "4")]), frame(DATA, END_STREAM | PADDED, 1, b"\x09test")], "connection_error", [PROTOCOL])
simple(H + "6.2. HEADERS", "Sends a HEADERS frame without the END_HEADERS flag, and a PRIORITY frame", lambda peer: [head(peer, flags=END_STREAM), frame(PRIORITY, 0, 1, priority(0))], "connection_error", [PROTOCOL])
simple(H + "6.2. HEADERS", "Sends a HEADERS frame to another stream while sending a HEADERS frame", lambda peer: [head(peer, flags=END_STREAM), head(peer, 3)], "connection_error", [PROTOCOL])
simple(H + "6.2. HEADERS", "Sends a HEADERS frame with 0x0 stream identifier", lambda peer: [head(peer, 0)], "connection_error", [PROTOCOL])
simple(H + "6.2. HEADERS", "Sends a HEADERS frame with invalid pad length", lambda peer: [frame(HEADERS, WHOLE | PADDED, 1, b"\xff" + peer.fields())], "connection_error", [PROTOCOL])
simple(H + "6.3. PRIORITY", "Sends a PRIORITY frame with 0x0 stream identifier", lambda peer: [frame(PRIORITY, 0, 0, priority(0))], "connection_error", [PROTOCOL])
simple(H + "6.3. PRIORITY", "Sends a PRIORITY frame with a length other than 5 octets", lambda peer: [post(peer), frame(PRIORITY, 0, 1, bytes(4))], "stream_error", [SIZE])
simple(H + "6.4. RST_STREAM", "Sends a RST_STREAM frame with 0x0 stream identifier", lambda peer: [reset(0)], "connection_error", [PROTOCOL])
simple(H + "6.4. RST_STREAM", "Sends a RST_STREAM frame on a idle stream", lambda peer: [reset()], "connection_error", [PROTOCOL])
simple(H + "6.4. RST_STREAM", "Sends a RST_STREAM frame with a length other than 4 octets", lambda peer: [post(peer), frame(RST_STREAM, 0, 1, bytes(3))], "connection_error", [SIZE])
simple(H + "6.5. SETTINGS", "Sends a SETTINGS frame with ACK flag and payload", lambda peer: [frame(SETTINGS, ACK, 0, bytes(6))], "connection_error", [SIZE])
simple(H + "6.5. SETTINGS", "Sends a SETTINGS frame with a stream identifier other than 0x0", lambda peer: [frame(SETTINGS, 0, 1, struct.pack(">HI", 3, 100))], "connection_error", [PROTOCOL])
simple(H + "6.5. SETTINGS", "Sends a SETTINGS frame with a length other than a multiple of 6 octets", lambda peer: [frame(SETTINGS, 0, 0, bytes(3))], "connection_error", [SIZE])
values = H + "6.5.2. Defined SETTINGS Parameters"
simple(values, "SETTINGS_ENABLE_PUSH (0x2): Sends the value other than 0 or 1", lambda peer: [settings((2, 2))], "connection_error", [PROTOCOL])
simple(values, "SETTINGS_INITIAL_WINDOW_SIZE (0x4): Sends the value above the maximum flow control window size", lambda peer: [settings((4, 1 << 31))], "connection_error", [FLOW])
simple(values, "SETTINGS_MAX_FRAME_SIZE (0x5): Sends the value below the initial value", lambda peer: [settings((5, 16383))], "connection_error", [PROTOCOL])
simple(values, "SETTINGS_MAX_FRAME_SIZE (0x5): Sends the value above the maximum allowed frame size", lambda peer: [settings((5, 1 << 24))], "connection_error", [PROTOCOL])
simple(values, "Sends a SETTINGS frame with unknown identifier", lambda peer: [settings((255, 1)), ping()], "pong")
@case(H + "6.5.3. Settings Synchronization", "Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE", [(4, 100), (4, 1)])
def _(peer):
    peer.headers()
    _, flags, _, data = peer.until(lambda kind, *_: kind == DATA)
    return "a DATA frame of 1 byte" if len(data) == 1 else None
simple(H + "6.5.3. Settings Synchronization", "Sends a SETTINGS frame without ACK flag", lambda peer: [settings()], "acked")
simple(H + "6.7. PING", "Sends a PING frame", lambda peer: [ping()], "pong")
simple(H + "6.7. PING", "Sends a PING frame with ACK", lambda peer: [ping(b"invalid\0", ACK), ping()], "pong")
simple(H + "6.7. PING", "Sends a PING frame with a stream identifier field value other than 0x0", lambda peer: [ping(stream=1)], "connection_error", [PROTOCOL])
simple(H + "6.7. PING", "Sends a PING frame with a length field value other than 8", lambda peer: [ping(bytes(6))], "connection_error", [SIZE])
simple(H + "6.8. GOAWAY", "Sends a GOAWAY frame with a stream identifier other than 0x0", lambda peer: [frame(GOAWAY, 0, 1, struct.pack(">II", 0, NO_ERROR))], "connection_error", [PROTOCOL])
window = lambda stream, by: frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", by))
simple(H + "6.9. WINDOW_UPDATE", "Sends a WINDOW_UPDATE frame with a flow control window increment of 0", lambda peer: [window(0, 0)], "connection_error", [PROTOCOL])
simple(H + "6.9. WINDOW_UPDATE", "Sends a WINDOW_UPDATE frame with a flow control window increment of 0 on a stream", lambda peer: [post(peer), window(1, 0)], "stream_error", [PROTOCOL])
simple(H + "6.9. WINDOW_UPDATE", "Sends a WINDOW_UPDATE frame with a length other than 4 octets", lambda peer: [frame(WINDOW_UPDATE, 0, 0, bytes(3))], "connection_error", [SIZE])
flow = H + "6.9.1. The Flow-Control Window"
@case(flow, "Sends SETTINGS frame to set the initial window size to 1 and sends HEADERS frame", [(4, 1)])
def _(peer):
    peer.headers()
    *_, data = peer.until(lambda kind, *_: kind == DATA)
    return "a DATA frame of 1 byte" if len(data) == 1 else None
simple(flow, "Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1", lambda peer: [window(0, 0x7FFFFFFF), window(0, 0x7FFFFFFF)], "connection_error", [FLOW])
simple(flow, "Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1 on a stream", lambda peer: [post(peer), window(1, 0x7FFFFFFF), window(1, 0x7FFFFFFF)], "stream_error", [FLOW])
initial = H + "6.9.2. Initial Flow-Control Window Size"
@case(initial, "Changes SETTINGS_INITIAL_WINDOW_SIZE after sending HEADERS frame", [(4, 0)])
def _(peer):
    peer.headers()
    if not peer.answered():
        return None
    peer.send(settings((4, 1)))
    *_, data = peer.until(lambda kind, *_: kind == DATA)
    return "a DATA frame of 1 byte" if len(data) == 1 else None
@case(initial, "Sends a SETTINGS frame for window size to be negative", [(4, 3)])
def _(peer):
    peer.headers()
    peer.until(lambda kind, *_: kind == DATA)
    peer.send(settings((4, 2)))
    if not peer.acked():
        return None
    peer.send(window(1, 2))
    *_, data = peer.until(lambda kind, *_: kind == DATA)
    return "a DATA frame of 1 byte" if len(data) == 1 else None
simple(initial, "Sends a SETTINGS_INITIAL_WINDOW_SIZE settings with an exceeded maximum window size value", lambda peer: [settings((4, 1 << 31))], "connection_error", [FLOW])
more = H + "6.10. CONTINUATION"
simple(more, "Sends multiple CONTINUATION frames preceded by a HEADERS frame", lambda peer: split(peer, 2), "answered")
simple(more, "Sends a CONTINUATION frame followed by any frame other than CONTINUATION", lambda peer: [*split(peer, 1, last=0), frame(DATA, END_STREAM, 1, b"test")], "connection_error", [PROTOCOL])
simple(more, "Sends a CONTINUATION frame with 0x0 stream identifier", lambda peer: [head(peer, flags=END_STREAM), frame(CONTINUATION, END_HEADERS, 0, peer.fields())], "connection_error", [PROTOCOL])
simple(more, "Sends a CONTINUATION frame preceded by a HEADERS frame with END_HEADERS flag", lambda peer: [head(peer), frame(CONTINUATION, END_HEADERS, 1, peer.fields())], "connection_error", [PROTOCOL])
simple(more, "Sends a CONTINUATION frame preceded by a CONTINUATION frame with END_HEADERS flag", lambda peer: [*split(peer, 1), frame(CONTINUATION, END_HEADERS, 1, peer.fields())], "connection_error", [PROTOCOL])
simple(more, "Sends a CONTINUATION frame preceded by a DATA frame", lambda peer: [post(peer), frame(DATA, 0, 1, b"test"), frame(CONTINUATION, END_HEADERS, 1, peer.fields())], "connection_error", [PROTOCOL])
@case(H + "7. Error Codes", "Sends a GOAWAY frame with unknown error code")
def _(peer):
    peer.send(frame(GOAWAY, payload=struct.pack(">II", 0, 0xFF)))
    return peer.connection_error(NO_ERROR) or peer.alive()
simple(H + "7. Error Codes", "Sends a RST_STREAM frame with unknown error code", lambda peer: [post(peer), frame(RST_STREAM, 0, 1, struct.pack(">I", 0xFF)), ping()], "pong")
simple(H + "8.1. HTTP Request/Response Exchange", "Sends a second HEADERS frame without the END_STREAM flag", lambda peer: [post(peer), frame(HEADERS, OPEN, 1, peer.encoder.encode([("x-test", "ok")]))], "stream_error", [PROTOCOL])


def malformed(section, name, **words):
    simple(section, name, lambda peer: [head(peer, **words)], "stream_error", [PROTOCOL])


malformed(H + "8.1.2. HTTP Header Fields", "Sends a HEADERS frame that contains the header field name in uppercase letters", more=[("X-TEST", "ok")])
pseudo = H + "8.1.2.1. Pseudo-Header Fields"
malformed(pseudo, "Sends a HEADERS frame that contains a unknown pseudo-header field", more=[(":test", "ok")])
malformed(pseudo, "Sends a HEADERS frame that contains the pseudo-header field defined for response", more=[(":status", "200")])
simple(pseudo, "Sends a HEADERS frame that contains a pseudo-header field as trailers", lambda peer: [post(peer), frame(DATA, 0, 1, b"test"), frame(HEADERS, WHOLE, 1, peer.encoder.encode([(":method", "200")]))], "stream_error", [PROTOCOL])
malformed(pseudo, "Sends a HEADERS frame that contains a pseudo-header field that appears in a header block after a regular header field", more=[("x-test", "ok"), (":path", "/")], leave=[":path"])
hop = H + "8.1.2.2. Connection-Specific Header Fields"
malformed(hop, "Sends a HEADERS frame that contains the connection-specific header field", more=[("connection", "keep-alive")])
malformed(hop, "Sends a HEADERS frame that contains the TE header field with any value other than \"trailers\"", more=[("trailers", "test"), ("te", "trailers, deflate")])
of_requests = H + "8.1.2.3. Request Pseudo-Header Fields"
malformed(of_requests, "Sends a HEADERS frame with empty \":path\" pseudo-header field", path="")
for field in ":method", ":scheme", ":path":
    malformed(of_requests, f"Sends a HEADERS frame that omits \"{field}\" pseudo-header field", leave=[field])
for field, value in (":method", "GET"), (":scheme", "http"), (":path", "/"):
    simple(of_requests, f"Sends a HEADERS frame with duplicated \"{field}\" pseudo-header field", lambda peer, f=field, v=value: [frame(HEADERS, WHOLE, 1, peer.fields((f, v), *common()))], "stream_error", [PROTOCOL])
bodies = H + "8.1.2.6. Malformed Requests and Responses"
simple(bodies, "Sends a HEADERS frame with the \"content-length\" header field which does not equal the DATA frame payload length", lambda peer: [post(peer, [("content-length", "1")]), frame(DATA, END_STREAM, 1, b"test")], "stream_error", [PROTOCOL])
simple(bodies, "Sends a HEADERS frame with the \"content-length\" header field which does not equal the sum of the multiple DATA frames payload length", lambda peer: [post(peer, [("content-length", "1")]), frame(DATA, 0, 1, b"test"), frame(DATA, END_STREAM, 1, b"test")], "stream_error", [PROTOCOL])
simple(H + "8.2. Server Push", "Sends a PUSH_PROMISE frame", lambda peer: [post(peer), frame(PUSH_PROMISE, END_HEADERS, 1, struct.pack(">I", 3) + peer.fields())], "connection_error", [PROTOCOL])

# hpack
P = "hpack/"
for section, name, field in [
    ("2.3.3. Index Address Space", "Sends a indexed header field representation with invalid index", b"\xc6"),
    ("2.3.3. Index Address Space", "Sends a literal header field representation with invalid index", b"\x7f\x07" + string(b"empty")),
    ("4.2. Maximum Table Size", "Sends a dynamic table size update at the end of header block", b"\x21"),
    ("5.2. String Literal Representation", "Sends a Huffman-encoded string literal representation with padding longer than 7 bits", b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff"),
    ("5.2. String Literal Representation", "Sends a Huffman-encoded string literal representation padded by zero", b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90"),
    ("5.2. String Literal Representation", "Sends a Huffman-encoded string literal representation containing the EOS symbol", b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f"),
    ("6.1. Indexed Header Field Representation", "Sends a indexed header field representation with index 0", b"\x80"),
]:
    simple(P + section, name, lambda peer, f=field: [frame(HEADERS, WHOLE, 1, BASE + f)], "connection_error", [COMPRESSION])
simple(P + "6.3. Dynamic Table Size Update", "Sends a dynamic table size update larger than the value of SETTINGS_HEADER_TABLE_SIZE", lambda peer: [frame(HEADERS, WHOLE, 1, b"\x3f\xff\x7f" + BASE)], "connection_error", [COMPRESSION])


def run(url, one):
    section, name, pairs, preface, act = one
    peer = Peer(url, pairs, preface)
    try:
        return act(peer)
    except (Gone, TimeoutError):
        return None
    finally:
        peer.close()
