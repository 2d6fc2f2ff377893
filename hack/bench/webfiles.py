"""A web server on loopback for the benches: files of one directory by sendfile, with lengths, tags and ranges."""

import http.server
import os
import socketserver
import threading

MIB = 1 << 20


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, body):
        path = self.server.root / os.path.basename(self.path)
        if not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        start, end = 0, size
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes="):
            first, _, last = wanted[6:].partition("-")
            start, end = int(first), min(int(last) + 1, size) if last else size
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(end - start))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", '"one"')
        self.end_headers()
        if body:
            self.send(path, start, end)

    def send(self, path, start, end):
        with open(path, "rb") as file:
            try:
                while start < end:
                    sent = os.sendfile(self.connection.fileno(), file.fileno(), start, min(end - start, 8 * MIB))
                    if sent == 0:
                        break
                    start += sent
            except OSError:
                self.close_connection = True

    def log_message(self, *args):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    allow_reuse_address = True


def serve(root):
    """The port; the server ends with the process."""
    server = Server(("127.0.0.1", 0), Handler)
    server.root = root
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]
