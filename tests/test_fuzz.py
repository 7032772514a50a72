"""Any bytes, wherever files and requests of others are read: an answer, or one clear error, and never anything else."""

import contextlib

import pytest
from fuzz_targets import Target, targets
from hypothesis import given
from hypothesis import strategies as st

import convladder as cl
from convladder.markup import printable
from fuzzed import cases, mutated

# Cases of each: together some ten seconds. `make fuzz` tries a million, guided by what the code does with them.
CASES = {
    "picture": 400,
    "IDX": 200,
    "npz": 200,
    "CSV": 150,
    "folder": 100,
    "run folder": 50,
    "model": 60,
    "description of a model": 60,
    "form": 300,
    "request": 300,
}


@pytest.fixture(scope="module")
def all_targets(run: cl.Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return {target.name: target for target in targets(tmp_path_factory.mktemp("fuzz"), run)}


def test_every_target_is_fuzzed(all_targets: dict[str, Target]) -> None:
    assert list(CASES) == list(all_targets)


@pytest.mark.parametrize("name", CASES)
def test_valid_inputs_are_read(all_targets: dict[str, Target], name: str) -> None:
    target = all_targets[name]
    answered = 0
    for seed in target.seeds:
        with contextlib.suppress(cl.ConvladderError):
            target.run(seed)
            answered += 1
    assert answered > 0


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # of NumPy and Pillow, about odd files; the command line shows them as lines
@pytest.mark.parametrize("name", CASES)
def test_any_bytes_are_an_answer_or_one_error(all_targets: dict[str, Target], name: str) -> None:
    target = all_targets[name]

    @cases(CASES[name])
    @given(mutated(target.seeds))
    def fuzz(data: bytes) -> None:
        with contextlib.suppress(cl.ConvladderError):
            target.run(data)

    fuzz()


@cases(300)
@given(st.text(st.characters(), max_size=30))
def test_any_text_is_printable_on_one_line(text: str) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown)
    shown.encode()
