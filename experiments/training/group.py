"""Processes that train one run together: how they find each other, talk, and notice a loss.

Each process holds a line to process 0, which leads. Over it go decisions, counts and checkpoints;
the training step's own traffic is the backend's. A process that is gone, silent or stuck ends all
of them: every survivor says in one line which process it was and how to go on, and exits with 1.
SIGTERM or Ctrl-C at any of them stops all: where they train, after a step that process 0 names.

The lines are plain TCP for a trusted network, as JAX's own are. Only the standard library is used:
a group is there before a backend is imported.
"""

import json
import os
import queue
import shlex
import signal
import socket
import sys
import threading
import time
from contextlib import ExitStack, contextmanager

from experiments.training import signals, watch
from experiments.training.alone import Alone
from experiments.training.launchers import Place
from experiments.training.lines import BYE, DATA, FAILED, LIFE, READY, REFUSED, STOP, Line

START = 50.0
"""Seconds in which all processes must have come."""
SILENCE = 45.0
"""Seconds after which a host that acknowledges nothing is lost, and its processes with it."""

_BEAT = 2.0
_FAREWELL = 1.0


class Group(Alone):
    """One process of several.

    Args:
        place: which of how many, and where process 0 is.
        task: what is to be done; all processes must say the same.

    Attributes:
        rank, size: which of how many.
        peers: `host`, `pid` and `cores` of each process.
        free_port: a port that was free on the leader's host.
        signal: what all processes were told to stop by, or `None`.

    Raises:
        ValueError: if processes were started with different tasks or numbers, or did not come.
    """

    def __init__(self, place: Place, task: str):
        self.rank, self.size, self.place = place.process, place.processes, place
        self._lines: dict[int, Line] = {}
        self._inbox = {rank: queue.Queue() for rank in range(self.size)}
        self._watch = watch.Watch(self.rank, self.size)
        self._leaving, self._ended = False, threading.Lock()
        self.signal, self._trains, self._noting = None, False, threading.Lock()
        me = {"rank": self.rank, "size": self.size, "task": task, "host": socket.gethostname()}
        me |= {"pid": os.getpid(), "cores": _cores()}
        with ExitStack() as hearing:
            hearing.enter_context(signals.told(self.stop))
            self.peers, self.free_port = self._come(me) if self.rank else self._gather(me)
            self._hearing = hearing.pop_all()
        threading.Thread(target=self._live, daemon=True).start()

    # Coming together

    def _gather(self, me):
        deadline = time.monotonic() + START
        here, lines = {0: me}, self._lines
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
                    line = Line(listener.accept()[0], SILENCE, watch.STUCK)
                    peer = json.loads(line.receive(timeout=2)[1])
                except TimeoutError:
                    if time.monotonic() < deadline:
                        continue
                    missing = ", ".join(str(r) for r in range(self.size) if r not in here)
                    self._end(f"process {missing} of {self.size} did not come in {START:.0f} s")
                except (OSError, EOFError, ValueError):
                    continue  # somebody else knocked
                self._check(me, peer, here, line)
                here[peer["rank"]], lines[peer["rank"]] = peer, line
        peers = [here[rank] for rank in range(self.size)]
        with socket.create_server(("", 0)) as free:
            port = free.getsockname()[1]
        for line in lines.values():
            line.try_send(READY, json.dumps([peers, port]).encode())
        for rank in lines:
            self._follow(rank)
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
        line.send(REFUSED, message.encode())
        raise ValueError(message)

    def _come(self, me):
        deadline = time.monotonic() + START
        address = (self.place.host, self.place.port)
        while True:
            left = deadline - time.monotonic()
            try:
                there = socket.create_connection(address, timeout=max(left, 0.01))
                line = Line(there, SILENCE, watch.STUCK)
                line.send(LIFE, json.dumps(me).encode())
                kind, message = line.receive(START + 2 * _BEAT)  # the leader says when it is over
            except (OSError, EOFError) as error:
                if left < 0:
                    why = getattr(error, "strerror", None) or str(error) or "it hung up"
                    self._end(
                        f"process 0 of {self.size} was not found at {address[0]}:{address[1]} in "
                        f"{START:.0f} s ({why})"
                    )
                time.sleep(0.2)
                continue
            if kind == STOP:
                self.stop(message[0])
            if kind == FAILED:
                self._end(message.decode())
            if kind == REFUSED:
                raise ValueError(message.decode())
            if kind == READY:
                self._lines[0] = line
                self._follow(0)
                return json.loads(message)

    def _follow(self, rank):
        line = self._lines[rank]
        threading.Thread(target=self._listen, args=(rank, line), daemon=True).start()

    # Staying together

    def _live(self):
        while not self._leaving:
            for line in list(self._lines.values()):
                line.beat(json.dumps(self._watch.mine).encode())
            if self.rank == 0 and (stuck := self._watch.stuck()):
                self._end(stuck)
            time.sleep(_BEAT)

    def _listen(self, rank, line):
        while not self._leaving:
            try:
                kind, message = line.receive()
            except (OSError, EOFError) as error:
                return None if self._leaving else self._lost(rank, error)
            if kind == LIFE:
                self._watch.all[rank] = json.loads(message)
            elif kind == FAILED and rank == 0:
                self._end(message.decode())
            elif kind == FAILED:
                self._end(f"process {rank} of {self.size} failed: {message.decode()}")
            elif kind == STOP:
                self.stop(message[0])
            elif kind == BYE:
                self._inbox[rank].put(None)
                return None
            elif kind == DATA:
                self._inbox[rank].put(message)
        return None

    def _lost(self, rank, error):
        """Ends all processes because one cannot be reached any more."""
        how = f"is gone ({error.strerror})" if getattr(error, "errno", None) else "is gone"
        if isinstance(error, TimeoutError) and not error.errno:
            how = f"has given no sign of life for {watch.STUCK:.0f} s"
        peers = getattr(self, "peers", None)
        where = f" ({peers[rank]['host']}, pid {peers[rank]['pid']})" if peers else ""
        self._end(f"process {rank} of {self.size}{where} {how}")

    def _end(self, what):
        """Tells everybody why all ends, and ends this process."""
        with self._ended:  # the first reason is the one
            if self.rank == 0:
                for line in list(self._lines.values()):
                    line.try_send(FAILED, what.encode())
                # With something unread of theirs, an end now would take back what was sent.
                time.sleep(_FAREWELL if self._lines else 0)
            if self.signal is None:
                what, code = f"error: {' '.join(what.split())}", 1
            else:
                what, code = _stopped_by(self.signal), signals.exit_code(self.signal)
            command = f"python -m experiments {shlex.join(sys.argv[1:])}"
            try:
                sys.stdout.flush()
                print(
                    f"\n{what}. Start all {self.size} processes again, this one with: {command} "
                    "- they go on from the last checkpoint.",
                    file=sys.stderr,
                    flush=True,
                )
            finally:  # also where nobody reads any more, as when an ssh was cut off
                os._exit(code)

    def fail(self, error: BaseException) -> None:
        """Ends all processes because of an error of this one, unless a lost one explains it."""
        time.sleep(_FAREWELL)  # the backend's line to a killed process may break before ours
        what = str(error) or type(error).__name__
        if self.rank:
            self._lines[0].try_send(FAILED, what.encode())
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

    # Stopping

    def stop(self, number: int) -> None:
        """Stops all processes because of a signal, without waiting for it.

        They end within `signals.STOP_SECONDS`, at once where none has begun to train. It is called
        by threads: the main one may be in compiled code.
        """
        with self._noting:
            if self.signal is not None:
                return
            self.signal, trains = number, self._trains
        deadline = threading.Timer(signals.STOP_SECONDS, self._end, [_stopped_by(number)])
        deadline.daemon = True
        deadline.start()
        for line in list(self._lines.values()):
            line.try_send(STOP, bytes([number]))
        if (self.rank == 0 and not trains) or not self._lines:
            self._end(_stopped_by(number))

    def goes_on(self) -> bool:
        """Returns whether all train on after a step, the same in all processes."""
        with self._noting:
            self._trains, stops = True, self.signal is not None
        return self.first(b"stop" if stops else b"go") == b"go"

    def rests(self) -> bool:
        """Says that no run is trained now; returns whether processes were told to stop."""
        with self._noting:
            self._trains = False
            return self.signal is not None

    # Talking

    def begins(self) -> None:
        """Says that a run begins, for which data may have to be loaded and a step compiled."""
        self._watch.begins()

    def moved(self, step: int | None = None) -> None:
        """Says that this process is not stuck.

        Args:
            step: the training step that it is about to compute.
        """
        self._watch.moved(step)

    def everyone(self, value) -> list:
        """Returns the values that all processes give, by rank; what JSON can hold."""
        mine = json.dumps(value).encode()
        if self.rank:
            self._send(0, mine)
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
                line.send(BYE, b"")
            self._wait(rank)
        self._leaving = True
        if self.rank == 0:
            for line in self._lines.values():
                line.send(BYE, b"")
        self._hearing.close()

    def _wait(self, rank):
        self._watch.mine[2] = True
        try:
            return self._inbox[rank].get()
        finally:
            self._watch.mine[2] = False

    def _tell(self, message):
        for rank in self._lines:
            self._send(rank, message)

    def _send(self, rank, message):
        try:
            self._lines[rank].send(DATA, message)
        except OSError as error:
            self._lost(rank, error)


def divisors(number: int) -> str:
    """Returns what divides a number, in words."""
    return ", ".join(str(n) for n in range(1, number + 1) if number % n == 0)


def _stopped_by(number):
    return f"Stopped by {signal.Signals(number).name}"


def _cores():
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
