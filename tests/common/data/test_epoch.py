"""The epoch's number reaches processes that were started before it was set."""

from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event

from torch import multiprocessing

from common.data.epoch import SharedEpoch


def send_number(epoch: SharedEpoch, ready: Event, found: "Queue[int]") -> None:
    ready.wait()
    found.put(int(epoch))


def test_a_process_sees_the_number_that_is_set_after_its_start() -> None:
    context = multiprocessing.get_context("spawn")
    epoch, ready, found = SharedEpoch(), context.Event(), context.Queue()
    assert int(epoch) == 0
    process = context.Process(target=send_number, args=(epoch, ready, found))
    process.start()
    epoch.set(7)
    ready.set()
    assert found.get(timeout=60) == 7
    process.join()
