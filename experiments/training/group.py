"""Processes that train one run together: how they find each other, talk, and notice a loss.

Each process holds a line to process 0, which leads. Over it go decisions, counts and checkpoints;
the training step's own traffic is the backend's. A process that is gone, silent or stuck ends all
of them: every survivor says in one line which process it was and how to go on, and exits with 1.

The lines are plain TCP for a trusted network, as JAX's own are. Only the standard library is used:
a group is there before a backend is imported.
"""

import json
import os
import queue
import shlex
import socket
import struct
import sys
import threading
import time
from contextlib import contextmanager

from experiments.training.launchers import Place

START = 50.0
"""Seconds in which all processes must have come."""
SILENCE = 45.0
"""Seconds without a sign of life after which a process is lost."""
STUCK = 900.0
"""Seconds in which some process must move: end a step, compile, or evaluate a few images."""

_BEAT = 2.0
_HEAD = struct.Struct("!cQ")  # kind and length of a message
_KINDS = _LIFE, _DATA, _FAILED, _REFUSED, _READY, _BYE = (b"l", b"d", b"f", b"n", b"r", b"b")


class Alone:
    """One process by itself: what a `Group` is to those who do not care."""

    rank, size = 0, 1

    def everyone(self, value) -> list:
        """Returns the values that all processes give, by rank."""
        return [value]

    def moved(self, step: int | None = None) -> None:
        """Says that this process is not stuck."""

    @contextmanager
    def together(self):
        """Surrounds what fails in every process when one is lost."""
        yield


ALONE = Alone()


class Group(Alone):
    """One process of several.

    Args:
        place: which of how many, and where process 0 is.
        task: what is to be done; all processes must say the same.

    Attributes:
        rank, size: which of how many.
        peers: `host`, `pid` and `cores` of each process.
        free_port: a port that was free on the leader's host.

    Raises:
        ValueError: if processes were started with different tasks or numbers, or did not come.
    """

    def __init__(self, place: Place, task: str):
        self.rank, self.size, self.place = place.process, place.processes, place
        self._lines: dict[int, _Line] = {}
        self._inbox = {rank: queue.Queue() for rank in range(self.size)}
        self._state, self._states = [0, 0, False], {}
        self._leaving, self._ended = False, threading.Lock()
        me = {"rank": self.rank, "size": self.size, "task": task, "host": socket.gethostname()}
        me |= {"pid": os.getpid(), "cores": _cores()}
        if self.rank == 0:
            self.peers, self.free_port = self._gather(me)
        else:
            self.peers, self.free_port = self._come(me)
        threading.Thread(target=self._live, daemon=True).start()

    # Coming together

    def _gather(self, me):
        deadline = time.monotonic() + START
        here, lines = {0: me}, {}
        bind = self.place.host if self.place.host in ("localhost", "127.0.0.1") else ""
        try:
            listener = socket.create_server((bind, self.place.port), backlog=self.size)
        except OSError as error:
            raise ValueError(
                "Expected a free port of this host, which runs process 0. Received: --coordinator "
                f"{self.place.host}:{self.place.port} ({error.strerror}). Take another port."
            ) from None
        with listener:
            while len(here) < self.size:
                listener.settimeout(max(deadline - time.monotonic(), 0.01))
                try:
                    line = _Line(listener.accept()[0])
                    peer = json.loads(line.receive(timeout=2)[1])
                except TimeoutError:
                    if time.monotonic() < deadline:
                        continue
                    self._lines = lines  # so that those who came are told
                    missing = ", ".join(str(r) for r in range(self.size) if r not in here)
                    self._end(f"process {missing} of {self.size} did not come in {START:.0f} s")
                except (OSError, EOFError, ValueError):
                    continue  # somebody else knocked
                self._check(me, peer, here, line)
                here[peer["rank"]], lines[peer["rank"]] = peer, line
        peers = [here[rank] for rank in range(self.size)]
        with socket.create_server(("", 0)) as free:
            port = free.getsockname()[1]
        self._states = {rank: [0, 0, False] for rank in here}
        for rank, line in lines.items():
            line.try_send(_READY, json.dumps([peers, port]).encode())
            self._add(rank, line)
        return peers, port

    def _check(self, me, peer, here, line):
        wrong = [name for name in ("size", "task") if peer[name] != me[name]]
        if not wrong and peer["rank"] not in here and 0 < peer["rank"] < self.size:
            return
        what = f"a second process {peer['rank']}"
        if wrong:
            what = "; ".join(f"{n}={peer[n]!r} of process {peer['rank']}" for n in wrong)
            what += ", and of process 0 " + "; ".join(f"{n}={me[n]!r}" for n in wrong)
        message = (
            f"Expected {self.size} processes of different numbers, started alike. Received: {what}."
        )
        line.send(_REFUSED, message.encode())
        raise ValueError(message)

    def _come(self, me):
        deadline = time.monotonic() + START
        address = (self.place.host, self.place.port)
        while True:
            left = deadline - time.monotonic()
            try:
                line = _Line(socket.create_connection(address, timeout=max(left, 0.01)))
                line.send(_LIFE, json.dumps(me).encode())
                kind, message = line.receive(START + 2 * _BEAT)  # the leader says when it is over
            except (OSError, EOFError):
                if left < 0:
                    self._end(
                        f"process 0 of {self.size} was not found at {address[0]}:{address[1]} in "
                        f"{START:.0f} s"
                    )
                time.sleep(0.2)
                continue
            if kind == _FAILED:
                self._end(message.decode())
            if kind == _REFUSED:
                raise ValueError(message.decode())
            if kind == _READY:
                self._add(0, line)
                return json.loads(message)

    def _add(self, rank, line):
        self._lines[rank] = line
        threading.Thread(target=self._listen, args=(rank, line), daemon=True).start()

    # Staying together

    def _live(self):
        moved, before = time.monotonic(), None
        while not self._leaving:
            for line in list(self._lines.values()):
                line.beat(json.dumps(self._state).encode())
            self._states[self.rank] = list(self._state)
            now = {rank: list(state) for rank, state in self._states.items()}
            if now != before or not any(state[0] for state in now.values()):
                moved, before = time.monotonic(), now
            elif self.rank == 0 and time.monotonic() - moved > STUCK:
                self._end(_stuck(now))
            time.sleep(_BEAT)

    def _listen(self, rank, line):
        while not self._leaving:
            try:
                kind, message = line.receive()
            except TimeoutError:
                reason = f"has not been heard of for {SILENCE:.0f} s"
                return self._end(f"process {rank} of {self.size}{self._where(rank)} {reason}")
            except (OSError, EOFError):
                if self._leaving:
                    return None
                return self._end(f"process {rank} of {self.size}{self._where(rank)} is gone")
            if kind == _LIFE:
                self._states[rank] = json.loads(message)
            elif kind == _FAILED and rank == 0:
                self._end(message.decode())
            elif kind == _FAILED:
                self._end(f"process {rank} of {self.size} failed: {message.decode()}")
            elif kind == _BYE:
                self._inbox[rank].put(None)
                return None
            elif kind == _DATA:
                self._inbox[rank].put(message)
        return None

    def _where(self, rank):
        peers = getattr(self, "peers", None)
        return f" ({peers[rank]['host']}, pid {peers[rank]['pid']})" if peers else ""

    def _end(self, what):
        """Tells everybody why all ends, and ends this process."""
        with self._ended:  # the first reason is the one
            if self.rank == 0:
                for line in list(self._lines.values()):
                    line.try_send(_FAILED, what.encode())
            command = f"python -m experiments {shlex.join(sys.argv[1:])}"
            sys.stdout.flush()
            print(
                f"\nerror: {what}. Start all {self.size} processes again, this one with: {command} "
                "- they go on from the last checkpoint.",
                file=sys.stderr,
                flush=True,
            )
            os._exit(1)

    def fail(self, error: BaseException) -> None:
        """Ends all processes because of an error of this one."""
        what = str(error) or type(error).__name__
        if self.rank:
            self._lines[0].try_send(_FAILED, what.encode())
        self._end(f"process {self.rank} of {self.size} failed: {what}")

    @contextmanager
    def together(self):
        """Surrounds what fails in every process when one is lost.

        Raises:
            RuntimeError: for an error inside it that no lost process explains. What comes from the
                lines between processes may look like a user's mistake, and is none.
        """
        try:
            yield
        except Exception as error:
            time.sleep(SILENCE + 2 * _BEAT)  # the lost process, if there is one, ends this one
            raise RuntimeError(f"Training together failed: {error}") from error

    # Talking

    def moved(self, step: int | None = None) -> None:
        """Says that this process is not stuck.

        Args:
            step: the training step that it is about to compute.
        """
        self._state[0] = self._state[0] if step is None else step
        self._state[1] += 1

    def everyone(self, value) -> list:
        """Returns the values that all processes give, by rank; what JSON can hold."""
        mine = json.dumps(value).encode()
        if self.rank:
            self._lines[0].send(_DATA, mine)
            return json.loads(self._wait(0))
        values = [value, *(json.loads(self._wait(rank)) for rank in range(1, self.size))]
        self._tell(json.dumps(values).encode())
        return values

    def first(self, value: bytes | None = None) -> bytes:
        """Returns what process 0 gives, in every process."""
        if self.rank:
            return self._wait(0)
        self._tell(value)
        return value

    def leave(self) -> None:
        """Parts in peace: waits for all, so that nobody takes an end for a loss."""
        for rank, line in self._lines.items():
            if self.rank:
                line.send(_BYE, b"")
            self._wait(rank)
        self._leaving = True
        if self.rank == 0:
            for line in self._lines.values():
                line.send(_BYE, b"")

    def _wait(self, rank):
        self._state[2] = True
        try:
            return self._inbox[rank].get()
        finally:
            self._state[2] = False

    def _tell(self, message):
        for line in self._lines.values():
            line.send(_DATA, message)


class _Line:
    """Messages over a socket, each of a kind; a beat goes unsaid while another message is sent."""

    def __init__(self, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(SILENCE)
        self._socket, self._sending = connection, threading.Lock()

    def send(self, kind, message):
        with self._sending:
            self._socket.sendall(_HEAD.pack(kind, len(message)))
            self._socket.sendall(message)

    def try_send(self, kind, message):
        # Not at any price: another message may be stuck on its way to a process that is gone.
        if self._sending.acquire(timeout=1):
            try:
                self._socket.sendall(_HEAD.pack(kind, len(message)) + message)
            except OSError:
                pass
            finally:
                self._sending.release()

    def beat(self, message):
        if self._sending.acquire(blocking=False):
            self._sending.release()
            self.try_send(_LIFE, message)

    def receive(self, timeout=None):
        self._socket.settimeout(timeout or SILENCE)
        kind, length = _HEAD.unpack(self._exactly(_HEAD.size))
        self._socket.settimeout(SILENCE)
        if kind not in _KINDS:
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


def divisors(number: int) -> str:
    """Returns what divides a number, in words."""
    return ", ".join(str(n) for n in range(1, number + 1) if number % n == 0)


def _stuck(states):
    """Returns which processes the others wait for: the last step, and not waiting for others."""
    last = min(state[0] for state in states.values())
    late = [rank for rank, state in states.items() if state[0] == last]
    late = [rank for rank in late if not states[rank][2]] or late
    names = ", ".join(map(str, sorted(late)))
    if len(late) == len(states):
        return f"no process has moved for {STUCK:.0f} s, all at step {last}"
    return f"process {names} of {len(states)} has been stuck at step {last} for {STUCK:.0f} s"


def _cores():
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
