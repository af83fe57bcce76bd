"""The scope of a reconciliation of visits: its days, prisons or prisoner."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reports.engine.units import Scope
from reports.reconciliations.visits.reconciliation import Visits
from tests.harness.reads import PlainReads
from tests.harness.sandboxes import PRISONS
from tests.harness.visits import PRISON, TODAY, VisitSetup


def test_only_the_chosen_days_are_compared(visit_setup: VisitSetup) -> None:
    """If days are chosen, visits on other days are not compared."""
    visit_setup.book("aa-aa", TODAY + timedelta(days=3))
    visit_setup.book("bb-bb", TODAY + timedelta(days=4))
    visit_setup.write("bb-bb", mapped=False)
    day = TODAY + timedelta(days=3)
    scope = Scope(prisons=(PRISON,), from_date=day, to_date=day, days_chosen=True)
    assert visit_setup.compare(scope).kinds == {"aa-aa": "nomis-visit-missing"}
    assert set(visit_setup.compare().kinds) == {"aa-aa", "bb-bb"}


def test_a_run_resumed_after_midnight_keeps_its_days(visit_setup: VisitSetup) -> None:
    """A run that is resumed after midnight covers the same days as before.

    Since these were the default days, NOMIS visits on other days are compared too.
    """
    first, last = Visits.window(visit_setup.reconciliation().settings, TODAY - timedelta(days=1))
    visit_setup.book("bb-bb", last + timedelta(days=1))
    visit_setup.write("bb-bb", mapped=False)
    scope = Scope(prisons=(PRISON,), from_date=first, to_date=last)
    assert visit_setup.compare(scope).kinds == {"bb-bb": "mapping-missing"}


def test_the_visits_of_one_prisoner_are_compared_everywhere(visit_setup: VisitSetup) -> None:
    """If a prisoner is chosen, only that prisoner's visits are compared, whichever prison they are at."""
    visit_setup.book("aa-aa", TODAY)
    other = visit_setup.sandbox.prisoners()[1]["offenderNo"]
    visit_setup.book("bb-bb", TODAY, prisoner_id=other, prison_id="BLI")
    assert visit_setup.compare(Scope(offender_nos=(other,))).kinds == {"bb-bb": "nomis-visit-missing"}


@pytest.mark.parametrize("generation", ["2023", "today"])
def test_the_setting_replaces_the_prisons_of_the_service(visit_setup: VisitSetup, generation: str) -> None:
    """The setting gives the prisons. Without it, they are all prisons for which staff or the public can book visits.

    Another setting gives the number of days ahead.
    """
    visit_setup.reset(generation=generation)
    reads = PlainReads()
    prisons = {unit.id for unit in visit_setup.reconciliation(Scope()).population(reads).units}
    assert len(prisons) == PRISONS
    chosen = visit_setup.reconciliation(Scope(), VISIT_PRISONS="BLI,HEI").population(reads)
    assert [unit.id for unit in chosen.units] == ["BLI", "HEI"]
    ahead = visit_setup.reconciliation(Scope(), VISIT_PRISONS="HEI", VISIT_RECONCILIATION_DAYS_AHEAD="7").population(
        reads
    )
    assert ahead.detail == {
        "from": (TODAY - timedelta(days=1)).isoformat(),
        "to": (TODAY + timedelta(days=7)).isoformat(),
    }
