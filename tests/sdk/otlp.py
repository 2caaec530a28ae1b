"""A receiver of OTLP, by the official protocol's own Python packages: gRPC, or protobuf over HTTP."""

import concurrent.futures
import http.server
import threading
import time

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service_grpc


def value(any_value):
    return getattr(any_value, any_value.WhichOneof("value"))


class Span:
    """A span as a test looks at it."""

    def __init__(self, span, resource):
        self.name, self.kind = span.name, span.kind
        self.trace, self.id, self.parent = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
        self.state, self.flags = span.trace_state, span.flags
        self.start, self.end = span.start_time_unix_nano / 1e9, span.end_time_unix_nano / 1e9
        self.attributes = {one.key: value(one.value) for one in span.attributes}
        self.links = [(one.trace_id.hex(), one.span_id.hex()) for one in span.links]
        self.failed = span.status.code == 2
        self.resource = resource

    def __getitem__(self, name):
        return self.attributes[name]

    def __repr__(self):
        return f"{self.name} {self.id} in {self.parent}: {self.attributes}"


class Received:
    """What came, and how it is answered: by the next of `answers`, if there is one."""

    def __init__(self):
        self.spans, self.raw, self.headers, self.answers = [], b"", [], []
        self.requests, self.slow, self.lock = 0, 0, threading.Lock()

    def take(self, request, headers):
        time.sleep(self.slow)
        with self.lock:
            self.requests += 1
            self.headers.append(headers)
            if self.answers:
                return self.answers.pop(0)
            self.raw += request.SerializeToString()
            for one in request.resource_spans:
                resource = {each.key: value(each.value) for each in one.resource.attributes}
                for scope in one.scope_spans:
                    self.spans += [Span(span, resource) for span in scope.spans]
        return None

    def of(self, trace):
        with self.lock:
            return [span for span in self.spans if span.trace == trace]


class Grpc(Received, service_grpc.TraceServiceServicer):
    protocol = "grpc"

    def __init__(self, port=0, credentials=None):
        super().__init__()
        workers = concurrent.futures.ThreadPoolExecutor(max_workers=4)
        self.server = grpc.server(workers)
        service_grpc.add_TraceServiceServicer_to_server(self, self.server)
        if credentials:
            self.port = self.server.add_secure_port(f"localhost:{port}", credentials)
        else:
            self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        self.server.start()

    def Export(self, request, context):
        answer = self.take(request, dict(context.invocation_metadata()))
        if answer == "partial":
            partial = service.ExportTracePartialSuccess(rejected_spans=1, error_message="no")
            return service.ExportTraceServiceResponse(partial_success=partial)
        if answer:
            context.abort(getattr(grpc.StatusCode, answer), "a test wants it so")
        return service.ExportTraceServiceResponse()

    def close(self):
        self.server.stop(0).wait()


class Http(Received):
    protocol = "http"

    def __init__(self, port=0):
        super().__init__()
        received = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                good = self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
                headers = {name.lower(): line for name, line in self.headers.items()}
                answer = received.take(service.ExportTraceServiceRequest.FromString(body), headers)
                told = service.ExportTraceServiceResponse()
                if answer == "partial":
                    told.partial_success.rejected_spans = 1
                status = {None: 200, "partial": 200, "UNAVAILABLE": 503, "INVALID_ARGUMENT": 400}[answer]
                body = told.SerializeToString()
                self.send_response(status if good else 404)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
