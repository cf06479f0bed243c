"""What happened in, statement out, as worked out by hand: from record and beats to the amount."""

import pytest

from nightingale_hub.services.billing.explain import list_changed
from nightingale_hub.services.billing.ledger import list_unbalanced, list_wrong_balances
from tests.told import FOLDER, Told


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.txt")))
def test_a_statement_is_what_was_worked_out_by_hand(database, name):
    with database.write() as conn:
        told = Told(conn, (FOLDER / name).read_text())
        told.settle()
        for expected, found in told.statements():
            assert found == expected
        assert (list_changed(conn), list_unbalanced(conn), list_wrong_balances(conn)) == (
            [],
            [],
            [],
        )
        told.settle()
        for expected, found in told.statements():
            assert found == expected, "and nothing changes when it is done again"
