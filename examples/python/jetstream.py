"""As much of a NATS client as the example needs, with nothing to install.

Write your own programs with nats-py (https://github.com/nats-io/nats.py): it
reconnects, speaks TLS and keeps many requests in flight. The protocol is described at
https://docs.nats.io/reference/reference-protocols.
"""

import json
import socket
from urllib.parse import urlparse


class JetStream:
    """One connection, one request at a time."""

    def __init__(self, url, timeout=30):
        at = urlparse(url)
        self.socket = socket.create_connection((at.hostname, at.port or 4222), timeout)
        self.lines = self.socket.makefile("rb")
        self.inbox, self.requests = "_INBOX." + self.socket.getsockname()[0].replace(".", "-") + f"-{id(self)}", 0
        self.lines.readline()  # INFO
        options = {"verbose": False, "headers": True, "lang": "python", "version": "0"}
        if at.username:
            options["auth_token"] = at.username
        self.send(f"CONNECT {json.dumps(options)}\r\nSUB {self.inbox}.* 1\r\n".encode())

    def send(self, data):
        self.socket.sendall(data)

    def message(self):
        """The next message: (subject, reply, headers, payload)."""
        while True:
            line = self.lines.readline().decode().split()
            if not line:
                raise ConnectionError("the server closed the connection")
            if line[0] == "PING":
                self.send(b"PONG\r\n")
            elif line[0] == "-ERR":
                raise ConnectionError(" ".join(line[1:]))
            elif line[0] in ("MSG", "HMSG"):
                sizes = 2 if line[0] == "HMSG" else 1
                reply = line[3] if len(line) == 4 + sizes else ""
                body = self.lines.read(int(line[-1]) + 2)[:-2]
                split = int(line[-2]) if sizes == 2 else 0
                return line[1], reply, body[:split].decode(), body[split:]

    def request(self, subject, payload, headers=None):
        """Sends payload and returns the answer: (reply, headers, payload)."""
        self.requests += 1
        reply = f"{self.inbox}.{self.requests}"
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        head = b""
        if headers:
            head = ("NATS/1.0\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n").encode()
            line = f"HPUB {subject} {reply} {len(head)} {len(head) + len(body)}\r\n"
        else:
            line = f"PUB {subject} {reply} {len(body)}\r\n"
        self.send(line.encode() + head + body + b"\r\n")
        while True:
            at, answer_to, answer_headers, answer = self.message()
            if "NATS/1.0 503" in answer_headers:
                raise ConnectionError(f"nobody answers on {subject}")
            if at == reply or subject.startswith("$JS.API.CONSUMER.MSG.NEXT"):
                return answer_to, answer_headers, answer

    def publish(self, subject, event, message_id):
        """Publishes and waits until the stream has stored the event."""
        answer = json.loads(self.request(subject, event, {"Nats-Msg-Id": message_id})[2])
        if "error" in answer:
            raise RuntimeError(answer["error"]["description"])

    def consumer(self, stream, durable, subject):
        """Makes a durable consumer and returns a generator of (event, acknowledge)."""
        config = {"durable_name": durable, "filter_subject": subject, "deliver_policy": "new", "ack_policy": "explicit"}
        made = json.loads(self.request(f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{durable}", {"stream_name": stream, "config": config})[2])
        if "error" in made:
            raise RuntimeError(made["error"]["description"])
        return self.messages(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}")

    def messages(self, next_message):
        while True:
            reply, headers, payload = self.request(next_message, {"batch": 1, "expires": 5_000_000_000})
            if reply.startswith("$JS.ACK."):
                yield json.loads(payload), lambda: self.request(reply, b"+ACK")
            elif "NATS/1.0 404" not in headers and "NATS/1.0 408" not in headers:
                raise RuntimeError(headers)
