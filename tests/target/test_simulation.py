"""Histories of runs and crashes: each wanted effect once, none besides, STATE never ahead."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from target_stripe_alloy.write.worker_pool import Watermark
from tests.target import simulation
from tests.target.simulation import Simulation
from tests.target.simulation_model import COPY, EXTERNAL, SAME, Violation
from tests.target.simulation_world import BLIND, KEYS, quick

HISTORIES = 50
ANSWER_LOST = "before the answer"
NEVER_SENT = "before Stripe has it"


@pytest.mark.parametrize("seed", [1, 2])
def test_histories_hold(seed: int) -> None:
    counts = simulation.histories(HISTORIES // 2, seed)
    assert not counts.found, "\n".join(map(simulation.told, counts.found))
    assert counts.histories >= HISTORIES // 2
    assert counts.runs["killed"] > 0
    assert counts.verdicts["created"] + counts.verdicts["updated"] > 0


@pytest.fixture(autouse=True)
def _quick(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.node.name.startswith("test_histories"):  # it does so itself
        yield
        return
    with quick():
        yield


def begun(mode: str = SAME, *, two: bool = False, whole: bool = True) -> Simulation:
    machine = Simulation()
    machine.begin(mode=mode, whole=whole, two=two, policy="delete", allowed=True, at_first=0)
    return machine


class TestSmallest:
    """The smallest histories in which something went wrong at cb5f45d."""

    @pytest.mark.parametrize("point", [NEVER_SENT, ANSWER_LOST])
    def test_an_invoice_is_mailed_once_across_a_crash(self, point: str) -> None:
        machine = begun()
        machine.note("invoices", _action="send")
        assert machine.go(crash_at=f"/send {point}").ended == "killed"
        machine.teardown()

    def test_an_invoice_is_mailed_once_though_the_journal_is_lost(self) -> None:
        machine = begun()
        machine.note("invoices", _action="send")
        machine.go()
        machine.between("lose_journal", 0, 0)
        machine.teardown()

    def test_an_invoice_is_mailed_once_though_the_key_is_another(self) -> None:
        machine = begun()
        machine.note("invoices", _action="send")
        machine.between("rotate", KEYS.index(BLIND[0]), 0)
        machine.go()
        machine.between("rotate", KEYS.index(BLIND[1]), 0)
        machine.teardown()

    def test_an_invoice_is_mailed_once_though_the_older_record_comes_again(self) -> None:
        machine = begun()
        machine.note("invoices", _action="send")
        machine.note("invoices", _action="finalize")
        machine.go()
        machine.sources[0].bookmark = 0  # the last STATE got lost
        machine.go()
        machine.teardown()

    @pytest.mark.parametrize("point", [NEVER_SENT, ANSWER_LOST])
    def test_a_setup_fee_is_billed_once_across_a_crash(self, point: str) -> None:
        machine = begun()
        machine.note("subscriptions", add_invoice_items=1)
        mailed = machine.world.made["mailed"]
        outcome = machine.go(crash_at=f"POST /v1/subscriptions/{mailed} {point}")
        assert outcome.ended == "killed"
        machine.teardown()

    def test_a_replaced_price_is_no_longer_meant_by_its_id(self) -> None:
        machine = begun()
        machine.note("prices", unit_amount=1500)
        machine.go()
        machine.note("prices", nickname="one")
        machine.go()
        machine.teardown()

    def test_one_refund_though_its_parent_is_named_in_two_ways(self) -> None:
        for _ in range(3):  # two workers must meet
            machine = begun(EXTERNAL)
            machine.note("refunds")
            machine.note("refunds", parent="payment_intent")
            machine.go(workers=2)
            machine.teardown()

    def test_two_pipelines_leave_each_other_their_metadata(self) -> None:
        machine = begun(two=True)
        machine.note("customers", metadata__own="1")
        machine.go()
        machine.note("customers", source=1, metadata__own="1")
        machine.go(1)
        machine.teardown()

    def test_a_null_clears_what_the_record_before_did_not_hold(self) -> None:
        machine = begun()
        machine.note("customers", metadata__b="1")
        machine.go()
        customer = machine.world.made["ada"]
        machine.world.api.customers.update(customer, {"metadata": {"a": "9"}})
        machine.note("customers", metadata__a=None)
        machine.go()
        machine.teardown()

    def test_a_journal_put_back_does_not_replay_an_old_answer(self) -> None:
        machine = begun()
        machine.note("customers", name="one")
        machine.go()
        machine.between("save_journal", 0, 0)
        for name in ("two", "one"):
            machine.note("customers", name=name)
            machine.go()
        machine.between("restore_journal", 0, 0)
        machine.note("customers", name="two")
        machine.go()
        machine.teardown()

    def test_a_refund_that_was_never_sent_asks_for_its_permission_again(self) -> None:
        machine = begun(EXTERNAL)
        machine.note("refunds")
        assert machine.go(crash_at=f"POST /v1/refunds {NEVER_SENT}").ended == "killed"
        machine.between("withdraw", 0, 0)
        machine.go()
        machine.teardown()

    def test_a_write_that_stays_open_is_not_made_with_another_key(self) -> None:
        machine = begun(EXTERNAL)
        machine.note("customers")
        assert machine.go(crash_at=f"POST /v1/customers {NEVER_SENT}").ended == "killed"
        machine.add_fault("conflict", 0, 9)  # longer than a request is tried
        machine.go()
        machine.go()
        machine.teardown()

    def test_another_field_is_written_though_the_price_has_a_successor(self) -> None:
        machine = begun()
        machine.note("prices", unit_amount=1500)
        machine.go()
        machine.note("prices", metadata__b="1")
        machine.go()
        machine.teardown()

    def test_a_pipeline_leaves_the_price_that_another_one_replaced(self) -> None:
        machine = begun(EXTERNAL, two=True)
        for stream in ("products", "prices"):
            machine.note(stream)
        machine.go()
        machine.note("products", source=1)
        machine.note("prices", source=1, unit_amount=1500)
        machine.go(1)
        machine.teardown()

    @pytest.mark.parametrize("days", [-2, 2])
    def test_a_wrong_clock_makes_nothing_twice(self, days: int) -> None:
        machine = begun(EXTERNAL)
        machine.between("rotate", KEYS.index(BLIND[0]), 0)
        machine.world.drift = days * 86_400
        machine.note("customers", 1)
        machine.go()
        machine.note("customers")
        assert machine.go(crash_at=f"POST /v1/customers {ANSWER_LOST}").ended == "killed"
        machine.go()
        machine.teardown()

    def test_items_of_a_copy_need_no_ids(self) -> None:
        machine = begun(COPY)
        for stream, place in (("customers", 1), ("products", 0), ("prices", 0)):
            machine.note(stream, place)
        items = [{"price": "price_x1", "quantity": 1}]
        machine.note("subscriptions", 1, items=items)
        machine.go()
        machine.teardown()


def test_a_state_may_come_out_when_newer_records_are_written_already() -> None:
    machine = begun(COPY)
    for stream in ("customers", "products", "prices", "invoices"):
        machine.note(stream)
    machine.note("prices", 1)
    machine.go()
    machine.note("subscription_items")  # it waits for its subscription
    machine.note("invoice_line_items", description="one")
    machine.note("invoices", 1)  # it waits for the other customer
    machine.note("invoice_line_items", description="two")
    machine.note("subscriptions")
    machine.note("products")
    machine.note("customers", 1)
    assert machine.go().ended == "done"
    machine.teardown()


def test_a_state_that_comes_out_before_its_records_are_written_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Watermark, "mark", property(lambda mark: mark.last))
    machine = begun(COPY)
    machine.note("subscription_items")  # it waits for its subscription
    machine.note("customers")
    machine.note("subscriptions")
    with pytest.raises(Violation, match="STATE ahead: subscription_items si_x1"):
        machine.go()
    machine.world.close()
