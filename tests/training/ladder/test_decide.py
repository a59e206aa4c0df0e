"""The ladder's rules."""

import pytest

from training.ladder.decide import Budget, is_worth, level_of, verdict, widening
from training.ladder.forecast import Forecast
from vitrine.errors import UserError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, Budget()),
        ("90s", Budget(seconds=90)),
        ("30m", Budget(seconds=1800)),
        (" 1.5h ", Budget(seconds=5400)),
        ("1d", Budget(seconds=86_400)),
        ("2EUR", Budget(money=2)),
        ("2.50 eur", Budget(money=2.5)),
    ],
)
def test_budgets(text: str | None, expected: Budget) -> None:
    assert Budget.parse(text, "EUR", priced=True) == expected


@pytest.mark.parametrize("text", ["", "30", "m", "-3m", "0m", "3 weeks", "2USD", "1e9s", "2EUR; rm"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="give a time as 90s, 30m, 2h or 1d, or an amount as 2EUR"):
        Budget.parse(text, "EUR", priced=True)


def test_money_needs_prices() -> None:
    with pytest.raises(UserError, match="has no core_hour or gpu_hour"):
        Budget.parse("2EUR", "EUR", priced=False)


def test_what_may_be_spent() -> None:
    assert Budget().allows(1e9, 1e9)
    assert Budget(seconds=10).allows(10, 99) and not Budget(seconds=10).allows(10.1, 0)
    assert Budget(money=2).allows(1e9, 2) and not Budget(money=2).allows(0, 2.1)


def test_only_what_is_sure_climbs_or_stops() -> None:
    assert verdict(Forecast(0.05, 0.02, 0.08), 0.01) == "climb"
    assert verdict(Forecast(0.0, -0.02, 0.009), 0.01) == "stop"
    assert verdict(Forecast(0.05, 0.005, 0.1), 0.01) == "unclear"
    assert is_worth(Forecast(0.05, 0.02, 0.08), 100, None)
    assert is_worth(Forecast(0.05, 0.02, 0.08), 10, 5) and not is_worth(Forecast(0.05, 0.02, 0.08), 10.1, 5)


def test_intervals_grow_by_what_earlier_ones_missed() -> None:
    assert level_of(1) == pytest.approx(0.9) and level_of(4) == pytest.approx(0.975)
    assert widening([9.0] * 4) == 1.0  # too few to say
    assert widening([0.5, -0.5, 0.1, 0.2, -0.9]) == 1.0
    assert widening([2.0, -2.0, 2.0, -2.0, 2.0]) == 2.0
    assert Forecast(0.1, 0.05, 0.2).widened(2) == Forecast(0.1, 0.0, pytest.approx(0.3))
