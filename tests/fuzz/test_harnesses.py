"""Every harness of the fuzzer, driven for a moment by Hypothesis: its seeds, what is near them, and anything else.

No fuzzer is needed for this, so it runs with the ordinary tests; `make fuzz` goes on where it stops.
"""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fuzz.catalogue import CANARY, HARNESSES, PLANTED, UnknownHarness, chosen
from fuzz.harness import Broken, Harness, Splitter, check_growth, require
from fuzz.harnesses.growth import PARSERS, fuzz_growth

EXAMPLES = 200
# These read a file, or build a class, for each input.
SLOW = {"configuration.pyproject": 8, "configuration.environment": 4, "configuration.guard": 20, "outputs.lines": 30}


@st.composite
def near(draw: st.DrawFn, harness: Harness) -> bytes:
    """A seed with a part of it replaced, taken out or repeated."""
    seed = draw(st.sampled_from(harness.seeds))
    start = draw(st.integers(0, len(seed)))
    end = draw(st.integers(start, min(start + 8, len(seed))))
    others = st.sampled_from([b"", b"\r\n", b"\0", b'"', b",", b"%2e", b"\\", seed[start:end] * 2])
    return seed[:start] + draw(st.one_of(st.binary(max_size=4), others)) + seed[end:]


@pytest.mark.parametrize("harness", HARNESSES.values(), ids=lambda harness: harness.name)
def test_a_parser_keeps_its_oracle(harness: Harness) -> None:
    for seed in harness.seeds:
        harness.run(seed)

    @settings(
        max_examples=SLOW.get(harness.name, EXAMPLES),
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(near(harness), near(harness), st.binary(max_size=harness.max_bytes)))
    def keeps(data: bytes) -> None:
        harness.run(data)

    keeps()


def test_names_are_unique_and_every_seed_fits_its_harness() -> None:
    groups = [harness.name.partition(".")[0] for harness in HARNESSES.values()]
    assert len(HARNESSES) == len(groups) > 25
    for harness in HARNESSES.values():
        assert harness.seeds, harness
        assert max(map(len, harness.seeds)) <= harness.max_bytes, harness


def test_a_group_and_a_name_choose_harnesses_once_and_an_unknown_one_is_refused() -> None:
    heads = [name for name in HARNESSES if name.startswith("heads.")]
    assert [harness.name for harness in chosen(["heads", "heads.path"])] == heads
    assert [harness.name for harness in chosen([])] == list(HARNESSES)
    with pytest.raises(UnknownHarness, match=r"no harness 'tails'.*heads\.path"):
        chosen(["tails"])


def test_the_canary_breaks_on_what_is_planted_and_on_nothing_near_it() -> None:
    CANARY.run(PLANTED[:3] + b"x")
    with pytest.raises(Broken, match="planted"):
        CANARY.run(PLANTED + b"more")


def test_an_oracle_says_what_it_found() -> None:
    require(condition=True, what="never seen")
    with pytest.raises(Broken, match=r"^another path: b'/a', 7$"):
        require([], "another path", b"/a", 7)


def test_a_splitter_gives_back_every_byte_once() -> None:
    split = Splitter(b"\x07\x02abrest")
    assert (split.number(5), split.piece(), split.rest()) == (2, b"ab", b"rest")
    assert Splitter(b"").number(9) == 0
    assert Splitter(b"").piece() == b""
    for data in (b"", b"\x02\x00\x03\x00\x01\x00\x09abcdef", b"\xff" * 40):
        rest = data[1 + 2 * (1 + (data[0] % 4 if data else 0)) :]
        assert b"".join(Splitter(data).chunks()) == rest


def quadratic(data: bytes) -> Iterator[int]:
    return iter([data.count(b"a", position) for position in range(len(data)) for _ in range(8)])


def test_time_that_grows_with_the_square_is_noticed_and_linear_time_is_not() -> None:
    check_growth(lambda data: data.count(b"a"), front=b"", pump=b"a", back=b"")
    with pytest.raises(Broken, match="four times the length takes"):
        check_growth(quadratic, front=b"", pump=b"a", back=b"")


def test_every_parser_is_pumped_by_a_seed_of_its_own_place() -> None:
    for place in range(len(PARSERS)):
        fuzz_growth(bytes([place]) + b"\x02ab\x02cdef")
