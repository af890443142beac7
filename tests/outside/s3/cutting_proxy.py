"""A TCP proxy that cuts connections in the middle of a put.

cutting_proxy.py PORT UPSTREAM_PORT ORDERS
ORDERS is a file that says what to do, read before each request: `cut TEXT` cuts the next PUT whose first line has TEXT after
half of its body has gone on, and turns the order into `pass`; `down TEXT` does the same and then takes no connection until the
order is another; `pass`.
"""

import pathlib
import re
import socket
import sys
import threading

port, upstream, orders = int(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3])


def order():
    return (orders.read_text().split(None, 1) + [""])[:2]


def close(*sockets):
    for s in sockets:
        try:
            # A reset, as of a lost node: not the end of a request.
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            s.close()
        except OSError:
            pass


def back(server, client):
    try:
        while data := server.recv(65536):
            client.sendall(data)
    except OSError:
        pass
    close(server, client)


def serve(client):
    try:
        server = socket.create_connection(("127.0.0.1", upstream))
    except OSError:
        close(client)
        return
    threading.Thread(target=back, args=(server, client), daemon=True).start()
    data = b""
    try:
        while True:
            while b"\r\n\r\n" not in data:
                more = client.recv(65536)
                if not more:
                    raise OSError
                data += more
            head, _, body = data.partition(b"\r\n\r\n")
            first = head.split(b"\r\n")[0].decode()
            length = re.search(rb"(?im)^content-length: *(\d+)", head)
            length = int(length[1]) if length else 0
            word, text = order()
            text = text.strip()
            if word == "down?":
                raise OSError
            if word in ("cut", "down") and first.startswith("PUT ") and text in first and length > 1:
                while len(body) < length // 2:
                    body += client.recv(65536)
                server.sendall(head + b"\r\n\r\n" + body[: length // 2])
                orders.write_text("pass" if word == "cut" else "down?")
                print(f"cut after {length // 2} of {length} bytes: {first}", flush=True)
                raise OSError
            server.sendall(head + b"\r\n\r\n")
            sent = 0
            while sent < length:
                if not body:
                    body = client.recv(65536)
                    if not body:
                        raise OSError
                part, body = body[: length - sent], body[length - sent :]
                server.sendall(part)
                sent += len(part)
            data = body
    except OSError:
        close(client, server)


listener = socket.create_server(("127.0.0.1", port))
while True:
    connection, _ = listener.accept()
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
