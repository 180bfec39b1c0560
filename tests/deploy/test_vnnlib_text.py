"""VNN-LIB text: formulas against a reading of their own, exact decimals, and hostile files."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path

import pytest

import trm_verify as tv
from trm_verify.deploy.vnnlib import Specification, Unsupported, VnnlibError, arg_max_query, parse, read
from trm_verify.deploy.vnnlib.syntax import MAX_BYTES

X2Y2 = "\n".join(f"(declare-const {name} Real)" for name in ("X_0", "X_1", "Y_0", "Y_1"))
BOX = "(assert (>= X_0 -1)) (assert (<= X_0 1)) (assert (>= X_1 0)) (assert (<= X_1 0.5))"


def holds(specification: Specification, x: list[Fraction], y: list[Fraction]) -> bool:
    """Whether the cases allow these inputs and outputs."""
    return any(
        box is not None
        and all(a <= v <= b for a, v, b in zip(box.lo, x, box.hi, strict=True))
        and any(all(sum(c * y[j] for j, c in a.coefficients) <= a.bound for a in clause) for clause in clauses)
        for box, clauses in specification.cases.items()
    )


def formula(rng: random.Random, depth: int) -> tuple[str, object]:
    """A random formula as text, and as a nested tuple that says the same in another way."""
    if depth == 0 or rng.random() < 0.3:
        head = rng.choice(["<=", ">="])
        a, b = f"Y_{rng.randrange(2)}", rng.randrange(-2, 3)
        kind = rng.randrange(4)
        if kind == 0:
            i, end = rng.randrange(2), Fraction(rng.randrange(-4, 5), 4)
            return f"({head} X_{i} {float(end)})", (head, {f"X_{i}": 1}, end)
        if kind == 1:
            return f"({head} {a} {b}.0)", (head, {a: 1}, Fraction(b))
        if kind == 2:
            return f"({head} Y_0 Y_1)", (head, {"Y_0": 1, "Y_1": -1}, Fraction(0))
        return f"({head} (- (* 0.5 Y_0) (+ Y_1 {b})) (- 1))", (
            head,
            {"Y_0": Fraction(1, 2), "Y_1": -1},
            Fraction(b - 1),
        )
    word = rng.choice(["and", "or"])
    parts = [formula(rng, depth - 1) for _ in range(rng.randrange(1, 4))]
    return f"({word} {' '.join(text for text, _ in parts)})", (word, [said for _, said in parts])


def true(said: object, values: dict[str, Fraction]) -> bool:
    assert isinstance(said, tuple)
    if said[0] in ("and", "or"):
        return (all if said[0] == "and" else any)(true(each, values) for each in said[1])
    left = sum(c * values[name] for name, c in said[1].items())
    return bool(left <= said[2] if said[0] == "<=" else left >= said[2])


def test_random_formulas_mean_what_they_say() -> None:
    rng = random.Random(0)
    read_formulas = held = 0
    while read_formulas < 150:
        made = [formula(rng, 3) for _ in range(rng.randrange(1, 3))]
        text = X2Y2 + BOX + "".join(f"(assert {each})" for each, _ in made)
        try:
            found = parse(text)
        except VnnlibError as error:  # no constraint on outputs, or none that can be met
            assert "every case" in str(error) or "contradict" in str(error)
            continue
        read_formulas += 1
        for _ in range(40):
            x = [Fraction(rng.randrange(-5, 6), 4) for _ in range(2)]
            y = [Fraction(rng.randrange(-6, 7), 2) for _ in range(2)]
            values = {"X_0": x[0], "X_1": x[1], "Y_0": y[0], "Y_1": y[1]}
            inside = -1 <= x[0] <= 1 and 0 <= x[1] <= Fraction(1, 2)
            wanted = inside and all(true(said, values) for _, said in made)
            assert holds(found, x, y) == wanted, text
            held += wanted
    assert held > 300


def test_decimals_are_exact() -> None:
    (box,) = parse(
        "(declare-const X_0 Real) (declare-const Y_0 Real) (assert (<= X_0 0.1)) (assert (>= X_0 -2.5e-3))"
        "(assert (>= Y_0 0.333333333333333333333333))"
    ).cases
    assert box is not None and box.lo == [Fraction(-1, 400)] and box.hi == [Fraction(1, 10)]


def test_several_boxes_with_the_same_property_and_with_their_own() -> None:
    same = parse(f"{X2Y2} (assert (or (and (>= X_0 0) (<= X_0 1)) (and (>= X_0 2) (<= X_0 3)))) "
                 "(assert (>= X_1 0)) (assert (<= X_1 0)) (assert (>= Y_0 Y_1))")  # fmt: skip
    assert [len(boxes) for boxes in same.properties.values()] == [2]
    own = parse(f"{X2Y2} {BOX} (assert (or (and (<= X_0 0) (>= Y_0 1)) (and (>= X_0 0) (>= Y_1 1))))")
    assert [len(boxes) for boxes in own.properties.values()] == [1, 1] and len(own.cases) == 2


def test_a_query_of_ours_reads_back_as_it_was_meant() -> None:
    box = tv.Box([Fraction(1, 10), Fraction(-1, 3)], [Fraction(1, 10), 0.1])
    text = arg_max_query(box, (2, 3), (0, 2), "two positions\nof three classes")
    assert text.startswith("; two positions\n; of three classes\n")
    found = parse(text)
    ((read_box, clauses),) = found.cases.items()
    assert read_box is not None and found.inputs == 2 and found.outputs == 6
    assert read_box.lo[0] == read_box.hi[0] == Fraction(1, 10) and read_box.hi[1] == Fraction(0.1)
    assert 0 < Fraction(-1, 3) - read_box.lo[1] < Fraction(1, 10**50)  # rounded outward
    wanted = {(0, 1), (0, 2), (5, 3), (5, 4)}  # (winner, competitor): Y_winner − Y_competitor ≤ 0
    assert {
        (next(j for j, c in a.coefficients if c == 1), next(j for j, c in a.coefficients if c == -1))
        for (a,) in clauses
    } == wanted and all(a.bound == 0 for (a,) in clauses)


BROKEN = {
    "(assert (<= X_0": "ends this command",
    "(assert (<= X_0 1)))": "closes nothing",
    "hello": "in parentheses",
    "(check-sat)": "declare-const",
    "(vnnlib-version <2.0>)": "VNN-LIB 1.0",
    "(declare-const X_3 Real)": "X_2 to be declared next",
    "(declare-const Z Real)": "X_i Real",
    "(declare-const X_2 Int)": "X_i Real",
    "(declare-const X_2)": "X_i Real",
    "(assert)": "(assert FORMULA)",
    "(assert (<= X_0 1) (<= X_0 2))": "(assert FORMULA)",
    "(assert true)": "a formula",
    "(assert ())": "a formula",
    "(assert (xor (<= X_0 1)))": "found (xor",
    "(assert (<= X_0))": "two terms",
    "(assert (<= X_0 1 2))": "two terms",
    "(assert (<= X_7 1))": "declared X_i or Y_j",
    "(assert (<= X_0 1e9999999))": "declared X_i or Y_j",
    "(assert (<= X_0 1e99999))": "exponent",
    f"(assert (<= X_0 {'9' * 2000}))": "digits",
    "(assert (<= X_0 NaN))": "declared X_i or Y_j",
    "(assert (<= X_0 (/ 1 3)))": "+, - or *",
    "(assert (<= X_0 (+)))": "+, - or *",
    "(assert (and (>= X_0 2) (>= Y_0 0)))": "contradict",
    "(assert (or))": "contradict",
    "(assert (or (<= X_0 0) (>= Y_0 1)))": "every case",
    f"(assert (<= Y_0 (* {' '.join(['1e1000'] * 60)})))": "bits",
    "(" * 100_000: "nested",
    f"(assert {'(and ' * 500}(<= Y_0 1){')' * 501}": "nested",
}


@pytest.mark.parametrize("text", BROKEN, ids=lambda text: text[:30])
def test_broken_files(text: str) -> None:
    with pytest.raises(VnnlibError) as caught:
        parse(f"{X2Y2}\n{BOX}\n{text}")
    assert BROKEN[text] in str(caught.value) and not isinstance(caught.value, Unsupported)
    assert len(str(caught.value)) < 400


UNSUPPORTED = {
    "(assert (< Y_0 1))": "'<'",
    "(assert (not (<= Y_0 1)))": "'not'",
    "(assert (<= (+ X_0 X_1) 1))": "between inputs (only boxes are)",
    "(assert (<= X_0 Y_0))": "between inputs and outputs",
    "(assert (<= (* Y_0 Y_1) 1))": "product of variables",
    "(assert (<= Y_0 1e300))": "2^400",
    "(assert (<= (* 1e-300 X_0) 1))": "2^400",
    "".join(["(assert (or (<= Y_0 1) (<= Y_0 2) (<= Y_1 3)))"] * 12): "10000 cases",
    f"(assert (or {'(<= Y_0 1)' * 10001}))": "10000 cases",
}


@pytest.mark.parametrize("text", UNSUPPORTED, ids=lambda text: text[:30])
def test_what_is_in_good_order_but_not_supported(text: str) -> None:
    with pytest.raises(Unsupported) as caught:
        parse(f"{X2Y2}\n{BOX}\n{text}")
    assert UNSUPPORTED[text] in str(caught.value)


def test_inputs_need_both_bounds_and_outputs_a_constraint() -> None:
    with pytest.raises(VnnlibError, match="none of X_1"):
        parse(f"{X2Y2} (assert (<= X_0 1)) (assert (>= X_0 0)) (assert (<= X_1 0)) (assert (<= Y_0 0))")
    with pytest.raises(VnnlibError, match="every case"):
        parse(f"{X2Y2} {BOX}")
    for nothing in ("", "; nothing", X2Y2):
        with pytest.raises(VnnlibError, match="found none"):
            parse(nothing)


def test_errors_name_the_line() -> None:
    with pytest.raises(VnnlibError, match="^line 7: "):
        parse(f"; a comment (\n{X2Y2}\n{BOX}\n(assert (xor 1))")


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.vnnlib"
    path.write_text(f"{X2Y2} {BOX} (assert (<= Y_0 1))")
    assert read(path).inputs == 2
    path.write_bytes(b"(declare-const X_0 R\xe9al)")
    with pytest.raises(VnnlibError, match="ASCII"):
        read(path)
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(VnnlibError, match="at most"):
        read(path)
    with pytest.raises(OSError):
        read(tmp_path / "none.vnnlib")


def test_a_large_file_is_read_in_reasonable_time() -> None:
    n = 3072
    lines = [f"(declare-const X_{i} Real)" for i in range(n)] + ["(declare-const Y_0 Real)"]
    lines += [f"(assert (<= X_{i} 0.{i:04})) (assert (>= X_{i} -0.5))" for i in range(n)] + ["(assert (<= Y_0 0))"]
    (box,) = parse("\n".join(lines)).cases
    assert box is not None and box.hi[17] == Fraction(17, 10000)
