"""The handshake: what holds at all times, by random walks and by walking every reachable state."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import astuple, fields, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rdx_fast.station.handshake.config import HandshakeConfig, Review
from rdx_fast.station.handshake.handshake import Handshake
from rdx_fast.station.handshake.inspection import Inspection, Outcome
from rdx_fast.station.handshake.signals import Counts
from support.handshake_world import BAD, FAILED, GOOD, NEVER, RULES, STEP, UNSURE, World


class Walk(RuleBasedStateMachine):
    @initialize(review=st.sampled_from(("ng", "review", "ok")))
    def goes_online(self, review: Review) -> None:
        rules, deadlines_ms = replace(RULES, review=review), {2: 10.0}
        self.world = World(Handshake(rules, frozenset({1, 2}), deadlines_ms=deadlines_ms))
        self.world.do(self.world.handshake.go_online(1, self.world.now))
        self.world.write(enable=True)

    @rule(
        bit=st.sampled_from(("trigger", "trigger", "trigger", "ack", "ack", "reset", "enable")),
        part=st.integers(0, 0xFFFF),
        job=st.sampled_from((0, 0, 0, 1, 2, 9)),
        deadline=st.sampled_from((0, 0, 10, 100)),
    )
    def plc_writes(self, bit: str, part: int, job: int, deadline: int) -> None:
        toggled = {bit: not getattr(self.world.controls, bit)}
        self.world.write(**toggled, part_id=part, job=job, deadline_ms=deadline)

    @rule(offline=st.booleans())
    def plc_takes_it_offline(self, offline: bool) -> None:
        self.world.write(offline=offline)

    @rule()
    def plc_beats(self) -> None:
        self.world.write(heartbeat=self.world.controls.heartbeat ^ 1)

    @rule(job=st.sampled_from((0, 1, 2, 9)))
    def a_call_triggers(self, job: int) -> None:
        world = self.world
        world.do(world.handshake.trigger(7, 0, job, world.now))

    @rule()
    def a_call_acknowledges(self) -> None:
        self.world.do(self.world.handshake.acknowledge(self.world.now))

    @precondition(lambda self: self.world.inspecting)
    @rule(outcome=st.sampled_from((GOOD, GOOD, UNSURE, BAD, FAILED)))
    def the_engine_answers(self, outcome: Outcome) -> None:
        self.world.finish(outcome)

    @precondition(lambda self: self.world.given_up)
    @rule()
    def a_hung_engine_answers(self) -> None:
        self.world.finish_given_up()

    @precondition(lambda self: self.world.recording)
    @rule(succeeded=st.sampled_from((True, True, True, False)))
    def the_disk_answers(self, succeeded: bool) -> None:
        self.world.record(succeeded)

    @precondition(lambda self: not self.world.recording)
    @rule(succeeds=st.booleans())
    def the_disk_is_tried_again(self, succeeds: bool) -> None:
        world = self.world
        if succeeds:
            world.flush()
        else:
            world.do(world.handshake.records_failing(True, world.now))

    @rule()
    def the_line_drifts(self) -> None:
        self.world.do(self.world.handshake.drifted("lamp", self.world.now))
        assert self.world.last.drift

    @precondition(lambda self: self.world.selecting)
    @rule(succeeded=st.sampled_from((True, True, False)))
    def the_job_answers(self, succeeded: bool) -> None:
        self.world.select(succeeded)

    @rule(seconds=st.sampled_from((0.001, 0.004, 0.01, 0.02, 0.1)))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @invariant()
    def nothing_is_left_to_the_timer(self) -> None:
        assert self.world.handshake.next_tick() > self.world.now

    def teardown(self) -> None:
        self.world.finish_everything()


TestWalk = Walk.TestCase
TestWalk.settings = settings(max_examples=6 * settings().max_examples, stateful_step_count=60)


def test_drift_is_shown_until_reset() -> None:
    world = World()
    world.do(world.handshake.go_online(1, world.now))
    world.do(world.handshake.drifted("lamp or exposure", world.now))
    world.write(enable=True, ack=True)
    assert (world.last.drift, world.last.drift_cause) == (True, "lamp or exposure")
    assert world.last.online
    assert not world.last.error, "the station itself is well"
    world.write(reset=True)
    assert (world.last.drift, world.last.drift_cause) == (False, "")


# Every reachable state

Input = Callable[[World], None]


def toggle(bit: str) -> Input:
    def do(world: World) -> None:
        world.write(**{bit: not getattr(world.controls, bit)})

    return do


def inputs(world: World, may: frozenset[str]) -> Iterator[Input]:
    """All that can happen now, of what ``may``."""
    for bit in ("trigger", "ack", "offline", "enable"):
        if bit in may:
            yield toggle(bit)
    if "beat" in may:
        yield lambda w: w.write(heartbeat=w.controls.heartbeat ^ 1)
    if "time" in may:
        yield lambda w: w.pass_time()
    if world.inspecting:
        named = {"good": GOOD, "fail": FAILED, "review": UNSURE}
        outcomes = [named[name] for name in named if name in may]
        for outcome in outcomes or [GOOD]:
            yield lambda w, outcome=outcome: w.finish(outcome)
    if world.given_up:
        yield lambda w: w.finish_given_up()
    if world.recording:
        for succeeded in (True, False) if "disk full" in may else (True,):
            yield lambda w, succeeded=succeeded: w.record(succeeded)
    elif world.unwritten:
        yield lambda w: w.flush()
    if world.selecting:
        yield lambda w: w.select(True)
        yield lambda w: w.select(False)
    for job in (1, 2, 9) if "jobs" in may else ():
        yield lambda w, job=job: w.write(job=job)


def copied(world: World) -> World:
    """Everything that may change is copied, all else shared."""
    new = replace(
        world,
        **{
            f.name: type(value)(value)
            for f in fields(world)
            if isinstance(value := getattr(world, f.name), list | set | dict)
        },
    )
    old = world.handshake
    new.handshake = replace(old, _alarms=replace(old._alarms), _job=replace(old._job), _out=[])
    results = old._results
    new.handshake._results = replace(
        results,
        alarms=new.handshake._alarms,
        out=new.handshake._out,
        pending=dict(results.pending),
        ready=set(results.ready),
        overdue=set(results.overdue),
    )
    return new


def essence(world: World) -> Hashable:
    """What the future depends on: times from now on, ids by their order, no counters."""
    h, now = world.handshake, world.now
    results, flags = h._results, replace(h._alarms, counts=Counts())
    alive = [*world.inspecting, *world.recording, *results.pending.values()]
    ids = sorted({v.inspection_id for v in alive} | {h._engine_busy[0] if h._engine_busy else 0})

    def ahead(time: float, most: int) -> int:
        # Beyond the longest wait all times are the same.
        return max(-most, min(most, round((time - now) / STEP)))

    def answer(i: Inspection) -> Hashable:
        late = ahead(i.deadline, 3)
        error = i.outcome and i.outcome.error
        return (ids.index(i.inspection_id), i.job, i.code, error, late, i.revision)

    def waits(i: Inspection) -> Hashable:
        ready = i.inspection_id in results.ready
        return answer(i), ready, ahead(i.decided, 3) if i.decided else None

    job = h._job
    return (
        astuple(replace(world.controls, part_id=0)),
        tuple(waits(i) for i in results.pending.values()),
        (results.shown is None, results.valid, h._trigger_ack, h._link_lost, h._online),
        h._engine_busy and (ids.index(h._engine_busy[0]), ahead(h._engine_busy[1], 5)),
        ahead(h._alive, 3) if world.controls.enable else 0,
        astuple(flags),
        (job.active, job.wanted, job.error, job.being_selected),
        tuple(ids.index(v.inspection_id) for v in world.inspecting),
        len(world.given_up),
        {ids.index(i): answer(v) for i, v in world.unwritten.items() if i in ids}.__repr__(),
        tuple(answer(v) for v in world.recording),
        tuple(world.selecting),
        tuple(sorted((ids.index(i), r) for i, r in results.overdue if i in ids)),
    )


@pytest.mark.parametrize(
    ("rules", "may"),
    [
        *(
            pytest.param(
                replace(RULES, watchdog_ms=0, hang_ms=NEVER, review=review),
                {"trigger", "ack", "good", "fail", "review"},
                id=f"triggers and acknowledgements, review shown as {review}",
            )
            for review in ("ng", "review", "ok")
        ),
        pytest.param(
            replace(RULES, queue=1, deadline_ms=10, watchdog_ms=0, hang_ms=NEVER),
            {"trigger", "ack", "time", "disk full"},
            id="deadlines",
        ),
        pytest.param(
            replace(RULES, deadline_ms=10, watchdog_ms=0, hang_ms=NEVER),
            {"trigger", "time", "good", "fail", "disk full"},
            id="failures",
        ),
        pytest.param(
            replace(RULES, deadline_ms=10, watchdog_ms=0, hang_ms=20, job_ms=30),
            {"trigger", "time"},
            id="engines that hang",
        ),
        pytest.param(
            replace(RULES, queue=1, deadline_ms=10, watchdog_ms=20, hang_ms=NEVER),
            {"trigger", "offline", "enable", "beat", "time"},
            id="offline, enable and heartbeat",
        ),
        pytest.param(
            replace(RULES, queue=1, deadline_ms=NEVER % 60_000, watchdog_ms=0, hang_ms=NEVER),
            {"trigger", "ack", "jobs"},
            id="jobs",
        ),
        pytest.param(
            replace(RULES, queue=1, deadline_ms=10, watchdog_ms=0, hang_ms=NEVER, review="ok"),
            {"trigger", "ack", "time", "review"},
            id="reviews that pass, and deadlines",
        ),
    ],
)
def test_every_reachable_state(rules: HandshakeConfig, may: set[str]) -> None:
    """From each state all that may happen; World checks each step. An engine, a disk or a job that
    never answers piles up questions without end: more than a few are not walked."""
    start = World(Handshake(rules, frozenset({1, 2})))
    start.do(start.handshake.go_online(1, start.now))
    start.write(enable=True)
    seen = {essence(start)}
    frontier = deque([start])
    while frontier:
        world = frontier.popleft()
        for happen in inputs(world, frozenset(may)):
            new = copied(world)
            happen(new)
            key = essence(new)
            piling = len(new.given_up) > 1 or len(new.selecting) > 2 or len(new.recording) > 2
            if key not in seen and not piling:
                seen.add(key)
                frontier.append(new)
    print(len(seen), "states")
    assert len(seen) > 500
