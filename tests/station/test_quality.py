"""Quality figures against numbers that were computed by hand, and scipy's interval."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from rdx_fast.station.records.labels import Label
from rdx_fast.station.records.quality import Kind, Quality, quality_of

DRAWN, OTHER = Kind("OK", True), Kind("OK", False)


def labels(*said: tuple[int, str, str]) -> list[Label]:
    """Of each the part, the user and the verdict."""
    return [
        Label(number, part, user, "2026-01-01T00:00:00.000+00:00", verdict, "other", "")  # type: ignore[arg-type]
        for number, (part, user, verdict) in enumerate(said, start=1)
    ]


def test_a_week_that_was_counted_by_hand() -> None:
    counts = {
        **{DRAWN: 40, OTHER: 3900},
        **{Kind("REVIEW", False): 30, Kind("REVIEW", True): 1},
        **{Kind("NG", False): 18, Kind("NG", True): 2},
        **{Kind("ERROR", False): 5, Kind("LATE", True): 4},
    }
    parts = {i: DRAWN for i in range(1, 21)}  # 20 of the 40 sampled are labelled
    parts |= {i: OTHER for i in (31, 32)}  # found by chance, and bad: not of the sample
    parts |= {41: Kind("NG", False), 42: Kind("NG", True), 43: Kind("REVIEW", False)}
    parts |= {44: Kind("REVIEW", True), 45: Kind("NG", False)}
    said = [(i, "ada", "good") for i in range(1, 20)] + [(20, "ada", "bad")]
    said += [(31, "ada", "bad"), (32, "ada", "bad")]
    said += [(41, "ada", "bad"), (42, "ada", "good"), (43, "ada", "good"), (44, "ada", "bad")]
    said += [(45, "ada", "good"), (45, "bob", "bad")]  # disputed
    said += [(1, "bob", "good"), (41, "bob", "bad")]
    found = quality_of(counts, parts, labels(*said))
    assert (found.parts, found.verdicts) == (4000, 3991)
    assert (found.sampled, found.sampled_ok, found.sampled_ok_labelled) == (47, 40, 20)
    assert (found.escapes, found.escape_rate) == (1, 1 / 20)
    # Clopper and Pearson of 1 in 20: the ends solve 1 - (1-p)^20 = 0.025 and
    # (1-p)^20 + 20 p (1-p)^19 = 0.025.
    assert found.escape_low == pytest.approx(1 - 0.975 ** (1 / 20))
    assert found.escape_high is not None
    left = 1 - found.escape_high
    assert left**20 + 20 * found.escape_high * left**19 == pytest.approx(0.025)
    assert (found.reviews, found.review_share) == (31, 31 / 3991)
    assert (found.rejects_labelled, found.false_rejects) == (4, 2)
    assert (found.false_reject_share, found.disputed) == (0.5, 1)
    assert (found.labelled_twice, found.agreements, found.agreement) == (3, 2, 2 / 3)


def test_the_newest_label_of_a_user_counts() -> None:
    said = labels((1, "ada", "bad"), (2, "ada", "good"), (1, "ada", "good"))
    found = quality_of({DRAWN: 2}, {1: DRAWN, 2: DRAWN}, said)
    assert (found.sampled_ok_labelled, found.escapes, found.labelled_twice) == (2, 0, 0)


def test_agreement_is_that_of_first_labels() -> None:
    """Who corrects a label has seen those of others; what the part is, the correction says."""
    ng = Kind("NG", False)
    parts = dict.fromkeys(range(10), ng)
    said = [(i, "ada", "bad") for i in range(10)]
    said += [(i, "bob", "good" if i < 4 else "bad") for i in range(10)]
    blind = quality_of({ng: 10}, parts, labels(*said))
    said += [(i, "bob", "bad") for i in range(3)] + [(9, "bob", "good")]
    found = quality_of({ng: 10}, parts, labels(*said))
    for of in (blind, found):
        assert (of.labelled_twice, of.agreements, of.agreement) == (10, 6, 0.6)
    assert (blind.disputed, blind.rejects_labelled) == (4, 6)
    assert (found.disputed, found.rejects_labelled) == (2, 8)


def test_disputed_parts_of_the_sample_widen_the_interval_of_escapes() -> None:
    said = [(i, "ada", "bad" if i < 2 else "good") for i in range(20)]
    said += [(i, "bob", "bad") for i in range(17, 20)]  # disputed
    found = quality_of({DRAWN: 30}, dict.fromkeys(range(20), DRAWN), labels(*said))
    assert (found.sampled_ok_labelled, found.sampled_ok_disputed) == (17, 3)
    assert found.escape_rate == 2 / 17
    low, _ = binomtest(2, 20).proportion_ci(0.95, method="exact")
    _, high = binomtest(5, 20).proportion_ci(0.95, method="exact")
    assert _ends(found) == pytest.approx((low, high))


def test_parts_that_were_confirmed_good_and_are_rejected_again() -> None:
    said = labels((7, "ada", "good"), (3, "ada", "good"), (5, "ada", "good"), (5, "ada", "bad"))
    found = quality_of({DRAWN: 9}, {}, said, again_rejected=[7, 3, 5, 11])
    assert found.again_rejected == (3, 7)
    assert found.sampled_ok_labelled == 0, "they are of another time"


def test_without_labels_nothing_is_known_of_escapes() -> None:
    for counts in ({DRAWN: 3, OTHER: 5}, {}):
        found = quality_of(counts, {}, [])
        assert (found.escape_rate, found.escape_low, found.escape_high) == (None, None, None)
        assert (found.false_reject_share, found.agreement) == (None, None)
        assert (found.review_share is None) == (not counts)


@given(st.integers(1, 200), st.data())
def test_intervals_are_those_of_scipy(of: int, data: st.DataObject) -> None:
    bad = data.draw(st.integers(0, of))
    said = labels(*((i, "ada", "bad" if i < bad else "good") for i in range(of)))
    found = quality_of({DRAWN: of}, dict.fromkeys(range(of), DRAWN), said)
    low, high = binomtest(bad, of).proportion_ci(0.95, method="exact")
    assert _ends(found) == pytest.approx((low, high))
    rejects = dict.fromkeys(range(of), Kind("NG", False))
    found = quality_of({Kind("NG", False): of}, rejects, said)
    low, high = binomtest(of - bad, of).proportion_ci(0.95, method="exact")
    assert (found.false_reject_low, found.false_reject_high) == pytest.approx((low, high))


def _ends(found: Quality) -> tuple[float | None, float | None]:
    return found.escape_low, found.escape_high
