"""Runs the benches of pytest-benchmark in slices, taking turns with another process on the same core.

darwin's agent loads it by `PYTEST_PLUGINS=darwin_slice` and speaks through the two pipes that
`DARWIN_SLICE=1:<go_fd>:<done_fd>` names; docs/sliced.md describes the protocol. Without the variable
the plugin does nothing at all. It needs Python 3.9 and pytest-benchmark 4 or 5, and nothing else.

What a bench is in slices:

- `benchmark(f, ...)`: each sample is one call. Where a call takes less than 1 us, it is the mean of the
  smallest power of two of calls that take 1 us, measured once in the warm-up (the least of many
  measurements, so that noise does not decide it). `iterations` in the result says which, and both sides
  of a comparison must say the same. The warm-up lasts 5 ms, or what `--benchmark-warmup` asks for.
- `benchmark.pedantic(...)`: declared warm-up rounds, then at most the declared rounds, with the declared
  iterations: a `setup` may have no more arguments to give. Fewer than 10 rounds are not worth slicing: such
  a bench runs as it always did. `setup` and `teardown` run around each round, outside the timing.
- `benchmark.weave` ends in `benchmark(f, ...)`.
- The timer, the collector's setting, `--benchmark-disable` and `--benchmark-skip` mean what they always mean.
  With pytest-xdist or a profiler (`--benchmark-cprofile`) nothing is sliced, and the run says so.

The result holds each kept sample in `stats.data`, in seconds, in the order of time, and in
`extra_info["darwin_slice"]` how it came about.
"""

import gc
import os
import struct
import sys
import types
import zlib
from contextlib import contextmanager
from itertools import repeat
from time import perf_counter, perf_counter_ns

import pytest

VARIABLE = "DARWIN_SLICE"
VERSION = "1"
# pytest takes descriptor 2 for itself while tests run, but loads plugins before.
STDERR_FD = os.dup(2) if VARIABLE in os.environ else 2
# Exit code of a process whose agent is gone or makes no sense: pytest's own for an internal error.
EXIT_NO_AGENT = 3

MAX_NAME_BYTES = 512
GO = struct.Struct("<cQI")
DONE = struct.Struct("<cIIQ")
# `skip` of a slice whose calls are all left out.
PILOT = 0xFFFF_FFFF
# `slice_ns` that asks for the bench as it always was.
NO_SLICING = 0xFFFF_FFFF_FFFF_FFFF

# Shorter calls are timed in batches: reading the clock twice is some 5% of this.
LEAST_SAMPLE_NS = 1_000
MAX_BATCH = 1 << 20
BATCH_TRIES = 25
WARMUP_NS = 5_000_000
# As many as plain pytest-benchmark takes in its second of 5 us rounds; a result file stays readable.
MAX_SAMPLES = 200_000
# Fewer declared rounds than this are too few to share between slices.
LEAST_ROUNDS = 10
# A pilot takes at most this part of the declared rounds away from the samples.
PILOT_SHARE = 10

# What the plugin uses of pytest-benchmark's fixture; where one is missing, nothing is sliced.
NEEDED = ("_raw", "_raw_pedantic", "_make_stats", "_timer", "_disable_gc", "_warmup", "_max_time")


class NoSlicing(ValueError):
    """The variable's value is not what the agent writes."""


def parse(value):
    """The ends of the two pipes, `(go_fd, done_fd)`; None where another version is spoken."""
    version, _, ends = value.partition(":")
    if version != VERSION and version.isdecimal():
        return None
    numbers = ends.split(":")
    plain = all(number.isascii() and number.isdecimal() and len(number) <= 9 for number in numbers)
    if version != VERSION or len(numbers) != 2 or not plain or numbers[0] == numbers[1]:
        raise NoSlicing(f"{VARIABLE}={value!r} must be `{VERSION}:<go_fd>:<done_fd>`, with two numbers of open pipes")
    return int(numbers[0]), int(numbers[1])


class Agent:
    """The two pipes to the agent. Whatever goes wrong with them ends the process: nobody waits for its result."""

    def __init__(self, go_fd, done_fd):
        for name, fd in (("go", go_fd), ("done", done_fd)):
            try:
                # Programs that a bench starts must not hold the agent's pipes open.
                os.set_inheritable(fd, False)
            except OSError as error:
                raise NoSlicing(f"{VARIABLE} names descriptor {fd} for `{name}`: {error.strerror}") from error
        self._go_fd = go_fd
        self._done_fd = done_fd
        self._unread = b""

    def ready(self, name):
        """The bench `name` is set up and warm."""
        name = frame_name(name)
        self._write(struct.pack("<cH", b"R", len(name)) + name)

    def done(self, kept, left_out, busy_ns):
        """A slice is over."""
        self._write(DONE.pack(b"D", kept, left_out, busy_ns))

    def next_slice(self):
        """Blocks until the agent speaks: `(slice_ns, skip)`, or None when the bench is over."""
        while True:
            kind = self._unread[:1]
            if kind == b"E":
                self._unread = self._unread[1:]
                return None
            if kind == b"G" and len(self._unread) >= GO.size:
                _, slice_ns, skip = GO.unpack_from(self._unread)
                self._unread = self._unread[GO.size :]
                return slice_ns, skip
            if kind not in (b"", b"G"):
                self._end(f"the agent sent {kind!r}, which is neither `G` nor `E`")
            try:
                more = os.read(self._go_fd, GO.size)
            except OSError as error:
                self._end(f"cannot read from the agent: {error.strerror}")
            if not more:
                self._end("the agent is gone")
            self._unread += more

    def give_up(self):
        """Answers that the bench has no more calls to make, until the agent ends it."""
        self.done(0, 0, 0)
        while True:
            go = self.next_slice()
            if go is None or go[0] == NO_SLICING:
                return
            self.done(0, 0, 0)

    def _write(self, frame):
        try:
            # At most 515 bytes, which a pipe takes as a whole or not at all.
            os.write(self._done_fd, frame)
        except OSError as error:
            self._end(f"cannot write to the agent: {error.strerror}")

    def _end(self, why):
        """No exception: a test could catch it, and the run would go on with half its samples."""
        try:
            os.write(STDERR_FD, f"darwin_slice: {why}\n".encode())
        finally:
            os._exit(EXIT_NO_AGENT)


def frame_name(name):
    """The name as it is sent: a longer one is cut and told from others by its checksum."""
    name = name.encode("utf-8", "backslashreplace") or b"?"
    if len(name) <= MAX_NAME_BYTES:
        return name
    mark = b"~%08x" % zlib.crc32(name)
    head = name[: MAX_NAME_BYTES - len(mark)]
    return head.decode("utf-8", "ignore").encode() + mark


def calls(target, args, kwargs, timer, slice_ns, least, most):
    """Single calls for `slice_ns`, `least` to `most` of them: their durations by `timer`, and the time of all in ns."""
    clock = perf_counter_ns
    took = []
    note = took.append
    begin = clock()
    end_at = begin + slice_ns
    for _ in repeat(None, most):
        start = timer()
        target(*args, **kwargs)
        end = timer()
        note(end - start)
        if clock() >= end_at and len(took) >= least:
            break
    return took, clock() - begin


def batches(target, args, kwargs, batch, timer, slice_ns, least, most):
    """As `calls`, with one duration for as many calls as the range `batch` is long."""
    clock = perf_counter_ns
    took = []
    note = took.append
    begin = clock()
    end_at = begin + slice_ns
    for _ in repeat(None, most):
        start = timer()
        for _ in batch:
            target(*args, **kwargs)
        end = timer()
        note(end - start)
        if clock() >= end_at and len(took) >= least:
            break
    return took, clock() - begin


class Rounds:
    """The rounds of `benchmark.pedantic`: made like its own, but some at a time."""

    def __init__(self, target, args, kwargs, setup, teardown, iterations, timer):
        self.target = target
        self.args = args
        self.kwargs = {} if kwargs is None else kwargs
        self.setup = setup
        self.teardown = teardown
        self.batch = range(iterations) if iterations > 1 else None
        self.timer = timer
        self.result = None

    def arguments(self):
        """What the next round is called with."""
        maybe = self.setup() if self.setup else None
        if not maybe:
            return self.args, self.kwargs
        if self.args or self.kwargs:
            raise TypeError("Can't use `args` or `kwargs` if `setup` returns the arguments.")
        args, kwargs = maybe
        return args, kwargs

    def run(self, slice_ns, least, most):
        """As `calls`; the time of all includes what is made around the rounds."""
        target, arguments, teardown = self.target, self.arguments, self.teardown
        batch, timer, clock = self.batch, self.timer, perf_counter_ns
        took = []
        note = took.append
        begin = clock()
        end_at = begin + slice_ns
        for _ in repeat(None, most):
            args, kwargs = arguments()
            # What the last round returned is freed here, not where the clock runs.
            result = None
            if batch:
                start = timer()
                for _ in batch:
                    target(*args, **kwargs)
                end = timer()
            else:
                start = timer()
                result = target(*args, **kwargs)
                end = timer()
            note(end - start)
            if teardown is not None:
                teardown(*args, **kwargs)
            if clock() >= end_at and len(took) >= least:
                break
        self.result = result
        return took, clock() - begin

    def once_more(self):
        """What the target returns, from a call of its own where the rounds have lost it."""
        if not self.batch:
            return self.result
        args, kwargs = self.arguments()
        result = self.target(*args, **kwargs)
        if self.teardown is not None:
            self.teardown(*args, **kwargs)
        return result


class Bench:
    """One use of the `benchmark` fixture, in slices."""

    def __init__(self, agent, fixture):
        self.agent = agent
        self.fixture = fixture
        # The default timer's whole nanoseconds: its floats lose digits on a box that is up for months.
        exact = fixture._timer is perf_counter
        self.timer = perf_counter_ns if exact else fixture._timer
        self.timer_per_second = 1e9 if exact else 1.0

    @contextmanager
    def undisturbed(self):
        """Without tracers and, where the bench says so, without the collector: as pytest-benchmark runs a round."""
        collects = gc.isenabled()
        tracer, profiler = sys.gettrace(), sys.getprofile()
        sys.settrace(None)
        sys.setprofile(None)
        if self.fixture._disable_gc:
            gc.disable()
        try:
            yield
        finally:
            if collects:
                gc.enable()
            sys.settrace(tracer)
            sys.setprofile(profiler)

    def warm_up(self, target, args, kwargs):
        """Calls `target` for a while; how many calls belong to one sample."""
        if self.fixture._warmup:
            most, for_ns = int(self.fixture._warmup), int(self.fixture._max_time * 1e9)
        else:
            most, for_ns = MAX_SAMPLES, WARMUP_NS
        with self.undisturbed():
            took, _ = calls(target, args, kwargs, perf_counter_ns, for_ns, 1, max(1, most))
            batch, shortest = 1, min(took)
            while shortest < LEAST_SAMPLE_NS and batch < MAX_BATCH:
                batch *= 2
                took, _ = batches(target, args, kwargs, range(batch), perf_counter_ns, 0, BATCH_TRIES, BATCH_TRIES)
                shortest = min(took)
        return batch

    def run(self, run, most_in_all, iterations):
        """Makes the slices that the agent asks for, with `run(slice_ns, least, most)`.

        False if the agent wants no slicing and calls are left. Then the samples are forgotten, and `self.made`
        says how many rounds are gone.
        """
        agent, samples = self.agent, []
        self.made = slices = pilots = left_out = 0
        agent.ready(self.fixture.fullname)
        while True:
            go = agent.next_slice()
            if go is None:
                break
            slice_ns, skip = go
            most = most_in_all - self.made
            if slice_ns == NO_SLICING:
                if most > 0:
                    return False
                break
            if most <= 0:
                agent.done(0, 0, 0)
                continue
            is_pilot = skip == PILOT
            if is_pilot:
                most = min(most, max(1, most_in_all // PILOT_SHARE))
            try:
                with self.undisturbed():
                    took, busy_ns = run(slice_ns, 1 if is_pilot else skip + 1, most)
            except KeyboardInterrupt:
                raise
            except BaseException:
                # The test fails as it would in a plain run; the other side must not wait for it.
                agent.give_up()
                raise
            left = len(took) if is_pilot else min(skip, len(took))
            self.made += len(took)
            samples += took[left:]
            pilots += is_pilot
            slices += not is_pilot
            left_out += left
            agent.done(len(took) - left, left, busy_ns)
        if samples:
            stats = self.fixture._make_stats(iterations)
            for duration in samples:
                stats.update(duration / self.timer_per_second)
        self.fixture.extra_info["darwin_slice"] = {
            "plan": "sliced",
            "slices": slices,
            "pilots": pilots,
            "kept": len(samples),
            "left_out": left_out,
        }
        return True


def raw(agent, fixture, plain, target, /, *args, **kwargs):
    """`benchmark(f, ...)`, whose own body is `plain`."""
    if fixture.disabled:
        return plain(target, *args, **kwargs)
    bench = Bench(agent, fixture)
    batch = bench.warm_up(target, args, kwargs)
    timer = bench.timer
    if batch == 1:

        def run(slice_ns, least, most):
            return calls(target, args, kwargs, timer, slice_ns, least, most)
    else:

        def run(slice_ns, least, most):
            return batches(target, args, kwargs, range(batch), timer, slice_ns, least, most)

    if not bench.run(run, MAX_SAMPLES, batch):
        return plain(target, *args, **kwargs)
    return target(*args, **kwargs)


def raw_pedantic(
    agent,
    fixture,
    plain,
    target,
    args=(),
    kwargs=None,
    setup=None,
    teardown=None,
    rounds=1,
    warmup_rounds=0,
    iterations=1,
):
    """`benchmark.pedantic(...)`, whose own body is `plain`."""
    # Its own body is also what refuses wrong arguments.
    given = {"args": args, "kwargs": kwargs, "setup": setup, "iterations": iterations}
    if teardown is not None:
        given["teardown"] = teardown
    numbers = all(isinstance(number, int) for number in (rounds, warmup_rounds, iterations))
    if (
        fixture.disabled
        or not numbers
        or rounds < LEAST_ROUNDS
        or warmup_rounds < 0
        or iterations < 1
        or (iterations > 1 and setup)
    ):
        return plain(target, rounds=rounds, warmup_rounds=warmup_rounds, **given)
    bench = Bench(agent, fixture)
    made = Rounds(target, args, kwargs, setup, teardown, iterations, bench.timer)
    if warmup_rounds:
        with bench.undisturbed():
            made.run(0, warmup_rounds, warmup_rounds)
    if not bench.run(made.run, min(rounds, MAX_SAMPLES), iterations):
        return plain(target, rounds=rounds - bench.made, warmup_rounds=0, **given)
    return made.once_more()


class Notes:
    """Nobody should wonder why a bench was not sliced."""

    def __init__(self):
        self.whys = []

    def add(self, why):
        """Says it at the end of the run, once."""
        if why not in self.whys:
            self.whys.append(why)

    def pytest_terminal_summary(self, terminalreporter):
        """Below the tables."""
        for why in self.whys:
            terminalreporter.write_line(f"darwin_slice: not sliced: {why}")


class Slicing:
    """Gives every `benchmark` fixture its sliced bodies."""

    def __init__(self, agent, notes, fixture_class):
        self.agent = agent
        self.notes = notes
        self.fixture_class = fixture_class

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef, request):
        """Only the instance is changed, so that the harness stays what it is for whoever else uses it."""
        outcome = yield
        if fixturedef.argname != "benchmark" or outcome.excinfo is not None:
            return
        fixture = outcome.get_result()
        why = self.why_not(fixture)
        if why is not None:
            self.notes.add(why)
        # A project's own `benchmark` fixture may hand on one that was already changed.
        elif "_raw" not in vars(fixture):
            for name, body in (("_raw", raw), ("_raw_pedantic", raw_pedantic)):
                setattr(fixture, name, bound(body, self.agent, fixture, getattr(fixture, name)))

    def why_not(self, fixture):
        """Why this fixture cannot be sliced, if it cannot."""
        if not isinstance(fixture, self.fixture_class):
            return f"the `benchmark` fixture is not pytest-benchmark's but a {type(fixture).__name__}"
        missing = [name for name in NEEDED if not hasattr(fixture, name)]
        if missing:
            return f"this version of pytest-benchmark is not known: it has no {', '.join(missing)}"
        if fixture.cprofile:
            return "a profiler runs with the benches (--benchmark-cprofile)"
        return None


def bound(body, agent, fixture, plain):
    """`body` as a method of the fixture; a bench may have keyword arguments of any name."""

    def method(_fixture, target, /, *args, **kwargs):
        return body(agent, fixture, plain, target, *args, **kwargs)

    return types.MethodType(method, fixture)


def why_plain(config):
    """Why nothing of this session can be sliced, if so."""
    if not config.pluginmanager.hasplugin("benchmark"):
        return "pytest-benchmark is not here"
    if os.environ.get("PYTEST_XDIST_WORKER") or config.getoption("dist", "no") != "no":
        return "pytest-xdist runs the tests in several processes"
    return None


def pytest_configure(config):
    """Takes the variable away, so that programs which the tests start do not answer the agent too."""
    value = os.environ.pop(VARIABLE, None)
    if value is None:
        return
    try:
        ends = parse(value)
        agent = None if ends is None else Agent(*ends)
    except NoSlicing as error:
        raise pytest.UsageError(f"darwin_slice: {error}") from error
    notes = Notes()
    config.pluginmanager.register(notes, "darwin_slice_notes")
    why = f"{VARIABLE}={value} is not version {VERSION}" if agent is None else why_plain(config)
    if why is not None:
        notes.add(why)
        return
    from pytest_benchmark.fixture import BenchmarkFixture

    config.pluginmanager.register(Slicing(agent, notes, BenchmarkFixture), "darwin_slice_slicing")
