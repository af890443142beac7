"""Stands between the server and an archive, and does what a file says: the ways in which an archive fails.

    python archive_proxy.py PORT ARCHIVE_PORT ORDERS [PEM]      PEM: certificate and key; it then speaks TLS

ORDERS holds one line. An order that was carried out is replaced by `pass`, but for `down`.
    pass                 everything goes through
    down                 connections are closed at once
    status CODE METHOD   the next request of that method is answered with CODE
    slow SECONDS METHOD  the next answer of that method begins so much later
    cut-request METHOD   half of the next request reaches the archive, then both connections end
    cut-answer METHOD    the next request reaches the archive whole; half of the answer comes back
    hold METHOD          the next request reaches the archive whole; its answer never comes back
"""

import pathlib
import socket
import ssl
import sys
import threading
import time

PORT, ARCHIVE, ORDERS = int(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3])
LOCK = threading.Lock()


def order_for(method):
    """The order, if it is this request's; it is carried out once."""
    with LOCK:
        words = ORDERS.read_text().split() or ["pass"]
        if words[0] == "down" or (words[0] != "pass" and words[-1] == method):
            if words[0] != "down":
                ORDERS.write_text("pass")
            return words
    return ["pass"]


def whole_request(client):
    """Header and body of a request, of a known length."""
    data = bytearray()
    while b"\r\n\r\n" not in data:
        more = client.recv(65536)
        if not more:
            return None
        data += more
    head, body = data.split(b"\r\n\r\n", 1)
    lines = head.decode("latin-1").split("\r\n")
    length = next((int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:")), 0)
    while len(body) < length:
        more = client.recv(65536)
        if not more:
            return None
        body += more
    # One request for each connection: what was ordered is then clear.
    kept = [line for line in lines if not line.lower().startswith("connection:")]
    return lines[0].split()[0], "\r\n".join([*kept, "Connection: close"]).encode("latin-1") + b"\r\n\r\n", body


def serve(client):
    with client:
        request = whole_request(client)
        if request is None:
            return
        method, head, body = request
        order = order_for(method)
        if order[0] == "down":
            return
        if order[0] == "status":
            client.sendall(f"HTTP/1.1 {order[1]} Ordered\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            return
        with socket.create_connection(("127.0.0.1", ARCHIVE)) as archive:
            if order[0] == "cut-request":
                archive.sendall(head + body[: len(body) // 2])
                time.sleep(0.2)
                return
            archive.sendall(head + body)
            if order[0] == "slow":
                time.sleep(float(order[1]))
            answer = bytearray()
            while more := archive.recv(65536):
                if order[0] in ("cut-answer", "hold"):
                    answer += more
                else:
                    client.sendall(more)
            if order[0] == "cut-answer":
                client.sendall(answer[: len(answer) // 2])
            if order[0] == "hold":
                time.sleep(600)


def main():
    listener = socket.create_server(("127.0.0.1", PORT))
    tls = None
    if len(sys.argv) > 4:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(sys.argv[4])
    while True:
        client, _ = listener.accept()

        def one(client=client):
            try:
                serve(tls.wrap_socket(client, server_side=True) if tls else client)
            except OSError:
                pass

        threading.Thread(target=one, daemon=True).start()


main()
