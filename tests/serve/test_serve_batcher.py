"""Batches of many requests: whose answer is whose, when a batch is released, and what a failure concerns."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from medsharp.errors import InputError
from serve.engine.batcher import Batcher, Batching

FOREVER = 1e6
"""Seconds that no test waits for: what happens then happened for another reason."""


@dataclass
class Ticket:
    owner: str
    wanted: bool = True
    results: list[object] = field(default_factory=list)
    skipped: int = 0
    done: threading.Event = field(default_factory=threading.Event)

    def is_wanted(self) -> bool:
        return self.wanted

    def deliver(self, result: object, waited: float, seconds: float) -> None:
        assert waited >= 0
        assert seconds >= 0
        self.results.append(result)
        self.done.set()

    def skip(self) -> None:
        self.skipped += 1
        self.done.set()

    def answer(self) -> object:
        assert self.done.wait(30)
        (result,) = self.results
        return result


class Network:
    """Doubles numbers, when it may.

    Attributes:
        batches: That it was given.
        begun: Released with each.
        go: Until it is set, it works.
        releases: Why and how large each batch was.
        retried: Batches that were run again.
    """

    def __init__(self, run: Callable[[list[int]], Sequence[int]] | None = None) -> None:
        self.batches: list[list[int]] = []
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()
        self.releases: list[tuple[str, int]] = []
        self.retried = 0
        self._run = run or (lambda items: [2 * item for item in items])

    def __call__(self, items: list[int]) -> Sequence[int]:
        self.batches.append(list(items))
        self.begun.release()
        assert self.go.wait(30)
        return self._run(items)

    def batcher(self, max_batch: int, max_wait: float = FOREVER) -> Batcher[int, int]:
        def released(reason: str, size: int) -> None:
            self.releases.append((reason, size))

        def retry() -> None:
            self.retried += 1

        return Batcher(self, max_batch, max_wait, released, retry)


def put(batcher: Batcher[int, int], owner: str, *items: int) -> list[Ticket]:
    tickets = [Ticket(owner) for _ in items]
    for ticket, item in zip(tickets, items, strict=True):
        batcher.put(ticket, item)
    return tickets


def busy(network: Network, batcher: Batcher[int, int]) -> Ticket:
    """Begin a batch of one that ends when `network.go` is set."""
    (first,) = put(batcher, "first", 0)
    network.begun.acquire()
    return first


def test_each_answer_goes_to_its_own_image() -> None:
    network = Network()
    batcher = network.batcher(3)
    first = busy(network, batcher)
    tickets = {number: put(batcher, f"visitor {number % 4}", number)[0] for number in range(1, 12)}
    network.go.set()
    assert {number: ticket.answer() for number, ticket in tickets.items()} == {n: 2 * n for n in range(1, 12)}
    assert first.answer() == 0
    assert sorted(map(len, network.batches)) == [1, 2, 3, 3, 3]
    assert batcher.depth == 0


def test_requests_take_turns_so_that_one_image_does_not_wait_for_ten() -> None:
    network = Network()
    batcher = network.batcher(2)
    busy(network, batcher)
    many, few = put(batcher, "many", *range(10, 20)), put(batcher, "few", 1)
    assert batcher.depth == 11
    network.go.set()
    for ticket in (*many, *few):
        ticket.answer()
    assert network.batches[1:] == [[10, 1], [11, 12], [13, 14], [15, 16], [17, 18], [19]]


def test_lone_image_is_released_at_once() -> None:
    network = Network()
    network.go.set()
    (ticket,) = put(network.batcher(8), "one", 1)
    assert ticket.answer() == 2
    assert network.releases == [("idle", 1)]


def test_image_waits_for_one_that_is_on_its_way_and_no_longer_once_that_is_known_not_to_come() -> None:
    network = Network()
    network.go.set()
    batcher = network.batcher(8)
    second, third = batcher.expect(), batcher.expect()
    (one,) = put(batcher, "one", 1)
    second.end()
    second.end()  # says nothing new: the third one is expected still
    assert not one.done.wait(0.05)
    (two,) = put(batcher, "two", 2)
    assert not two.done.wait(0.05)
    third.end()
    assert (one.answer(), two.answer()) == (2, 4)
    assert network.releases == [("idle", 2)]


def test_full_batch_waits_for_no_more() -> None:
    network = Network()
    network.go.set()
    batcher = network.batcher(2)
    batcher.expect()
    one, two = (*put(batcher, "one", 1), *put(batcher, "two", 2))
    assert (one.answer(), two.answer()) == (2, 4)
    assert network.releases == [("full", 2)]


def test_image_waits_no_longer_than_it_may_for_one_that_does_not_come() -> None:
    network = Network()
    network.go.set()
    batcher = network.batcher(8, max_wait=1e-3)
    batcher.expect()
    (one,) = put(batcher, "one", 1)
    assert one.answer() == 2
    assert network.releases == [("waited", 1)]


def test_batcher_that_is_closed_waits_for_no_more_and_answers_what_it_has() -> None:
    network = Network()
    network.go.set()
    batcher = network.batcher(8)
    batcher.expect()
    (one,) = put(batcher, "one", 1)
    assert not one.done.wait(0.02)
    batcher.close()
    assert one.answer() == 2
    assert network.releases == [("shutdown", 1)]
    assert put(batcher, "late", 4)[0].answer() == 8


def test_only_the_image_that_a_batch_fails_at_fails() -> None:
    def run(items: list[int]) -> list[int]:
        if 3 in items:
            raise ZeroDivisionError
        return [2 * item for item in items]

    network = Network(run)
    batcher = network.batcher(4)
    busy(network, batcher)
    tickets = put(batcher, "all", 1, 2, 3, 4)
    network.go.set()
    results = [ticket.answer() for ticket in tickets]
    assert results[:2] == [2, 4]
    assert isinstance(results[2], ZeroDivisionError)
    assert results[3] == 8
    assert network.batches[1:] == [[1, 2, 3, 4], [1], [2], [3], [4]]
    assert network.retried == 1
    assert put(batcher, "later", 5)[0].answer() == 10


def test_network_that_forgets_an_image_gives_none_the_answer_of_another() -> None:
    network = Network(lambda items: items[1:])
    network.go.set()
    (one,) = put(network.batcher(4), "one", 1)
    assert isinstance(one.answer(), RuntimeError)


def test_images_that_were_discarded_or_are_wanted_no_longer_are_never_run() -> None:
    network = Network()
    batcher = network.batcher(2)
    busy(network, batcher)
    gone, unwanted, waiting = put(batcher, "gone", 1, 2), put(batcher, "unwanted", 3, 4), put(batcher, "waiting", 5)
    batcher.discard("gone")
    batcher.discard("nobody")
    for ticket in unwanted:
        ticket.wanted = False
    network.go.set()
    assert waiting[0].answer() == 10
    assert network.batches == [[0], [5]]
    assert [ticket.skipped for ticket in (*gone, *unwanted)] == [0, 0, 1, 1]
    assert not any(ticket.results for ticket in (*gone, *unwanted))


def test_ticket_that_cannot_take_its_answer_costs_no_other_its_own() -> None:
    class Broken(Ticket):
        def deliver(self, result: object, waited: float, seconds: float) -> None:
            raise ZeroDivisionError

    network = Network()
    batcher = network.batcher(4)
    busy(network, batcher)
    batcher.put(Broken("broken"), 1)
    (other,) = put(batcher, "other", 2)
    network.go.set()
    assert other.answer() == 4
    assert put(batcher, "later", 3)[0].answer() == 6


@pytest.mark.parametrize("wrong", [{"max_batch": 0}, {"max_wait": -1.0}, {"max_wait": float("nan")}])
def test_impossible_batching_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="max_batch must be at least 1"):
        Batching(**wrong)  # type: ignore[arg-type]


def test_batches_are_small_on_a_cpu_unless_it_is_said_otherwise() -> None:
    assert (Batching().largest("cpu"), Batching().largest("cuda"), Batching(7).largest("cpu")) == (4, 32, 7)
