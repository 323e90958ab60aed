"""Which streams fit on a card."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from dualface_client.memory.vram import (
    MIB,
    WORKER_BYTES,
    Card,
    StreamLoad,
    StreamShape,
    VramGuard,
    admit,
    stream_terms,
)

HD = StreamShape("hd", 1920, 1080)


def one_worker(streams: int) -> int:
    del streams
    return WORKER_BYTES


def each_its_own(streams: int) -> int:
    return streams * WORKER_BYTES


def need(name: str, mib: int) -> tuple[str, dict[str, int]]:
    return name, {"frames": mib * MIB}


def test_the_formula_meets_what_was_measured() -> None:
    """359 MiB: benchmarks/gpu/results/end_to_end_one_cuda_stream.json, 4 in flight, of 8 each."""
    slots = 5 * (8 * (640 * 640 * 3 + 3840)) + 2 * 4 * (112 * 112 * 3 + 512)
    load = StreamLoad(frames_held=8 * 6 + 24 + 8 + 4 + 4, slot_bytes=slots, drawn_at_once=8)
    assert 0.95 < sum(stream_terms(HD, load).values()) / (359 * MIB) < 1.1


def test_terms_grow_with_what_they_depend_on() -> None:
    load = StreamLoad(10, 1000, (960, 540), 4)
    terms = stream_terms(HD, load)
    assert terms == {
        "decoder": 10 * 3110400,
        "frames": 10 * 3110400,
        "slots": 1000,
        "canvases": 6 * 777600,
    }
    together = stream_terms(HD, replace(load, drawn_at_once=8))
    assert together["canvases"] == 13 * 777600
    ten_bit = stream_terms(StreamShape("x", 3840, 2160, "hevc", 10), load)
    assert ten_bit["decoder"] == 12 * 2 * 4 * 3110400
    assert ten_bit["frames"] == 4 * terms["frames"]


def test_streams_that_do_not_fit_are_refused_by_name_with_the_figures() -> None:
    card = Card(10_000 * MIB, 2_000 * MIB, 0.5)  # room 3000, minus 354 for the worker
    needs = [need("a", 1000), need("b", 1000), need("c", 1000)]
    found = admit(needs, card, 3, one_worker, queue=False)
    assert found.at_a_time == 2
    assert list(found.refused) == ["c"]
    for figure in ("needs 1,000 MiB", "5,000 MiB (50% of the card", "use 2,000", "354", "2,000"):
        assert figure in found.refused["c"]
    assert "--on-oom queue" in found.refused["c"]


def test_a_small_stream_behind_a_large_one_may_still_run() -> None:
    card = Card(10_000 * MIB, 2_000 * MIB, 0.5)
    needs = [need("a", 2000), need("b", 2000), need("c", 400)]
    found = admit(needs, card, 3, one_worker, queue=False)
    assert list(found.refused) == ["b"]
    # One at a time they all fit.
    assert admit(needs, card, 1, one_worker, queue=False).refused == {}


def test_queue_runs_fewer_at_a_time_and_refuses_only_what_never_fits() -> None:
    card = Card(10_000 * MIB, 2_000 * MIB, 0.5)
    needs = [need("a", 1000), need("b", 1000), need("c", 1000), need("huge", 9000)]
    found = admit(needs, card, 4, one_worker, queue=True)
    assert found.at_a_time == 2
    assert list(found.refused) == ["huge"]
    assert "not even alone" in found.refused["huge"]


def test_each_worker_process_costs_its_context() -> None:
    card = Card(2 * WORKER_BYTES + 250 * MIB, 0, 1.0)
    needs = [need("a", 100), need("b", 100)]
    assert admit(needs, card, 2, each_its_own, queue=False).refused == {}
    smaller = Card(2 * WORKER_BYTES + 150 * MIB, 0, 1.0)
    assert list(admit(needs, smaller, 2, each_its_own, queue=False).refused) == ["b"]
    assert admit(needs, smaller, 2, each_its_own, queue=True).at_a_time == 1


def test_a_full_card_admits_nobody() -> None:
    card = Card(1000 * MIB, 900 * MIB)
    assert card.room_bytes == 0
    assert admit([need("a", 1)], card, 1, one_worker, queue=True).at_a_time == 0
    assert admit([need("a", 1)], card, 1, one_worker, queue=False).at_a_time == 0


@given(
    sizes=st.lists(st.integers(1, 4000), min_size=1, max_size=12),
    at_a_time=st.integers(1, 8),
    room=st.integers(0, 12_000),
    queue=st.booleans(),
)
def test_whatever_runs_together_fits(
    sizes: list[int], at_a_time: int, room: int, queue: bool
) -> None:
    card = Card(room * MIB, 0, 1.0)
    needs = [need(str(number), size) for number, size in enumerate(sizes)]
    found = admit(needs, card, at_a_time, one_worker, queue=queue)
    running = [size for number, size in enumerate(sizes) if str(number) not in found.refused]
    worst = sum(sorted(running, reverse=True)[: found.at_a_time])
    assert worst * MIB + (WORKER_BYTES if found.at_a_time else 0) <= card.room_bytes or not worst
    # Every stream either runs or is refused by name.
    assert bool(running) == (found.at_a_time > 0)
    assert found.at_a_time <= at_a_time


def test_the_guard_corrects_estimates_by_what_is_really_used() -> None:
    used, now_s = [1000], [0.0]
    guard = VramGuard(lambda: used[0], 3000, 500, lambda: now_s[0], ramp_s=5.0)
    # Started ones do not show yet: 1000 + 4 x 500 fit, a fifth does not.
    assert [guard.admit() for _ in range(5)] == [True] * 4 + [False]
    now_s[0], used[0] = 10.0, 1400  # they took less than was thought
    assert guard.admit()
    now_s[0], used[0] = 20.0, 2600  # and then more
    assert not guard.admit()
    assert VramGuard(lambda: None, 0, 1, lambda: 0.0).admit()  # nobody can tell
