"""The lines between processes of a group: messages over TCP, each of a kind."""

import contextlib
import socket
import struct
import threading

KINDS = LIFE, DATA, FAILED, STOP, REFUSED, READY, BYE = (b"l", b"d", b"f", b"s", b"n", b"r", b"b")

_HEAD = struct.Struct("!cQ")  # kind and length of a message


class Line:
    """Messages over a socket; a beat goes unsaid while another message is sent.

    Args:
        connection: the socket.
        silence: seconds after which a host that acknowledges nothing is lost. The system finds
            that out, and also acknowledges for a process that gets no time on a busy machine.
        stuck: seconds to wait for anything from the process itself.
    """

    def __init__(self, connection: socket.socket, silence: float, stuck: float):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            option, milliseconds = socket.TCP_USER_TIMEOUT, int(1000 * silence)
            connection.setsockopt(socket.IPPROTO_TCP, option, milliseconds)
        connection.settimeout(stuck)
        self._socket, self._sending, self._stuck = connection, threading.Lock(), stuck

    def send(self, kind: bytes, message: bytes) -> None:
        """Sends a message."""
        with self._sending:
            self._socket.sendall(_HEAD.pack(kind, len(message)))
            self._socket.sendall(message)

    def try_send(self, kind: bytes, message: bytes) -> None:
        """Sends a message, but not at any price: another may be stuck on its way to who is gone."""
        if self._sending.acquire(timeout=1):
            try:
                self._socket.sendall(_HEAD.pack(kind, len(message)) + message)
            except OSError:
                pass
            finally:
                self._sending.release()

    def beat(self, message: bytes) -> None:
        """Sends a sign of life, unless there is one in sending something else."""
        if self._sending.acquire(blocking=False):
            self._sending.release()
            self.try_send(LIFE, message)

    def receive(self, timeout: float | None = None) -> tuple[bytes, bytes]:
        """Returns kind and contents of the next message.

        Raises:
            EOFError: if the other process is gone, or none of ours.
            TimeoutError: without `errno`, if nothing came; with it, if its host is lost.
        """
        self._socket.settimeout(timeout or self._stuck)
        kind, length = _HEAD.unpack(self._exactly(_HEAD.size))
        self._socket.settimeout(self._stuck)
        if kind not in KINDS:
            raise EOFError
        return kind, self._exactly(length)

    def _exactly(self, length):
        parts = bytearray(length)
        view, have = memoryview(parts), 0
        while have < length:
            got = self._socket.recv_into(view[have:], min(length - have, 1 << 20))
            if not got:
                raise EOFError
            have += got
        return bytes(parts)


def detour(host: str, port: int) -> int:
    """Returns a port of this host that leads to another's, and stays open when that is lost.

    For who ends the process when a connection ends, before others can say what happened.
    """
    listener, kept = socket.create_server(("127.0.0.1", 0)), []

    def carry(source, sink, ends):
        with contextlib.suppress(OSError):
            while some := source.recv(1 << 16):
                sink.sendall(some)
            if ends:
                sink.shutdown(socket.SHUT_WR)

    def accept():
        while True:
            near = listener.accept()[0]
            try:
                far = socket.create_connection((host, port), timeout=5)
            except OSError:  # not there yet
                near.close()
                continue
            far.settimeout(None)
            kept.append((near, far))
            for arguments in ((near, far, True), (far, near, False)):
                threading.Thread(target=carry, args=arguments, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]
