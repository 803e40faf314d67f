"""A proxy before a MongoDB server that does harm at an exact moment.

proxy.py PORT SERVER_PORT ORDERS PIDFILE [SERVER_PIDFILE START_LINE]

The file ORDERS, when it is there, holds one order: COMMAND COLLECTION WHEN ACTION COUNT. The next COUNT commands of
that name on that collection ("*": any) meet ACTION: "cut" closes the connection, "kill" kills the server and starts it
again, "stop" stops it with SIGSTOP. WHEN "before": the command does not get to the server; "after": the server has
answered, and the answer does not get to the client. The file is removed when COUNT have been met.
"""
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

OP_MSG = 2013
lock = threading.Lock()
port, server_port, orders, pidfile = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
server_pidfile, start_line = (sys.argv[5], sys.argv[6]) if len(sys.argv) > 6 else (None, None)


def receive(sock, size):
    data = b""
    while len(data) < size:
        part = sock.recv(min(size - len(data), 1 << 20))
        if not part:
            raise OSError("closed")
        data += part
    return data


def receive_message(sock):
    head = receive(sock, 4)
    return head + receive(sock, struct.unpack("<i", head)[0] - 4)


def command_of(message):
    """The name of a command and its collection: the first element of the body."""
    if struct.unpack_from("<i", message, 12)[0] != OP_MSG or message[20] != 0:
        return None, None
    end = message.index(b"\0", 26)
    name = message[26:end].decode()
    if message[25] != 2:  # no string: a command on the database
        return name, "*"
    size = struct.unpack_from("<i", message, end + 1)[0]
    return name, message[end + 5 : end + 4 + size].decode()


def order_for(message):
    """WHEN and ACTION for this command, or None."""
    name, collection = command_of(message)
    with lock:
        try:
            with open(orders) as file:
                wanted, place, when, action, count = file.read().split()
        except FileNotFoundError:
            return None
        if name != wanted or place not in ("*", collection):
            return None
        if int(count) == 1:
            os.remove(orders)
        else:
            with open(orders + ".proxy", "w") as file:
                file.write(f"{wanted} {place} {when} {action} {int(count) - 1}")
            os.rename(orders + ".proxy", orders)
        return when, action


def harm(action):
    if action == "cut":
        return
    with open(server_pidfile) as file:
        pid = int(file.read())
    if action == "stop":
        os.kill(pid, signal.SIGSTOP)
        return
    os.kill(pid, signal.SIGKILL)
    os.remove(server_pidfile)
    while os.path.exists(f"/proc/{pid}"):  # a zombie's threads may still have the port
        time.sleep(0.01)
    subprocess.Popen(["sh", "-c", start_line])


def close(*socks):
    for sock in socks:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class Connection:
    def __init__(self, client):
        self.client = client
        self.action = None  # to be done instead of passing on the next answer
        try:
            self.server = socket.create_connection(("127.0.0.1", server_port))
        except OSError:
            client.close()
            return
        for sock in (self.client, self.server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=self.run, args=(self.requests,), daemon=True).start()
        threading.Thread(target=self.run, args=(self.answers,), daemon=True).start()

    def run(self, pump):
        try:
            while pump():
                pass
        except OSError:
            pass
        close(self.client, self.server)

    def requests(self):
        message = receive_message(self.client)
        order = order_for(message)
        if order and order[0] == "before":
            harm(order[1])
            if order[1] != "stop":
                return False
        elif order:
            self.action = order[1]
        self.server.sendall(message)
        return True

    def answers(self):
        message = receive_message(self.server)
        if not self.action:
            self.client.sendall(message)
            return True
        action, self.action = self.action, None
        harm(action)
        return action == "stop"  # swallowed; the connection stays


listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", port))
listener.listen(64)
with open(pidfile, "w") as started:
    started.write(str(os.getpid()))
while True:
    Connection(listener.accept()[0])
