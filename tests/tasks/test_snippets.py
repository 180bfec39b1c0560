from __future__ import annotations

import ast
import io
import keyword
import tokenize
import warnings

import pytest
import torch

from trm_verify.tasks import IGNORE, Split, snippets
from trm_verify.tasks.base import one_hot
from trm_verify.tasks.library import modules
from trm_verify.tasks.snippets import TOKENS, parse_rate, parses, tokens, written

FRAGILE = set("([{)]}:")


@pytest.fixture(scope="module")
def task():
    return snippets()


def lines(split: Split) -> list[tuple[list[int], list[int]]]:
    """Input and target tokens without padding."""
    pairs = zip(split.x.argmax(dim=-1).tolist(), split.y.tolist(), strict=True)
    return [([t for t in x if t], [t for t in y if t != IGNORE]) for x, y in pairs]


def accepted(code: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(code + " pass" if code.endswith(":") else code)
    except SyntaxError:
        return False
    return True


def test_originals_parse_and_corrupted_ones_do_not(task):
    for split in (task.train, task.validation, task.test):
        for broken, whole in lines(split)[:600]:
            assert accepted(written(whole)) and not accepted(written(broken))
            changed = [(TOKENS[a], TOKENS[b]) for a, b in zip(broken, whole, strict=True) if a != b]
            assert 1 <= len(changed) <= 2 and all({a, b} <= FRAGILE for a, b in changed)


def test_no_line_is_on_two_sides(task):
    known = [tuple(whole) for split in (task.train, task.validation, task.test) for _, whole in lines(split)]
    assert len(set(known)) == len(known) == 4096 + 256 + 512
    # The side of a line does not depend on the size.
    other = task.at(32)
    train = {tuple(whole) for _, whole in lines(task.train)}
    assert not train & {tuple(whole) for _, whole in lines(other.test)}
    assert train & {tuple(whole) for _, whole in lines(other.train)}


def test_tokens_against_the_tokenizer_of_the_library():
    """On lines that stand by themselves both read the same tokens."""
    checked = 0
    for name, source in modules()[::8]:
        for text in source.splitlines()[::5]:
            mine = tokens(text)
            if mine is None or not mine or not parses(mine):
                continue
            try:
                wanted = list(tokenize.generate_tokens(io.StringIO(text.strip()).readline))
            except (tokenize.TokenError, IndentationError, SyntaxError):
                continue  # a bracket is open: the line is part of a longer statement
            kinds = {tokenize.NUMBER: "0", tokenize.STRING: '""'}
            theirs = [
                "x" if t.type == tokenize.NAME and not keyword.iskeyword(t.string) else kinds.get(t.type, t.string)
                for t in wanted
                if t.type in (tokenize.NAME, tokenize.OP, *kinds)
            ]
            assert written(mine).split(" ") == theirs, (name, text)
            checked += 1
    assert checked > 1000
    for unread in ('x = f"{y}"', "'''text", 'x = """', "x = 1 \\", "x = $y", "é = 1"):
        assert tokens(unread) is None
    assert written(tokens("  if a.b[0x1F] == r'c' : # why") or ()) == 'if x . x [ 0 ] == "" :'


def test_metrics(task):
    target = task.test.y
    right = one_hot(target.clamp_min(0), task.classes)
    assert task.metric(right, target) == task.metrics["parses"](right, target) == 1.0
    assert parse_rate(task.test.x, target) == task.metric(task.test.x, target) == 0.0  # the input as it came
    padded = right.clone()
    padded[target == IGNORE] = one_hot(torch.tensor(TOKENS.index(")")), task.classes)
    assert parse_rate(padded, target) == 1.0  # what is answered beyond the end does not count
    assert task.baseline() <= task.metrics["parses"](task.reference.answers(task), target) < 0.3


def test_seeds_sizes_refusals_and_text(task):
    assert torch.equal(snippets().test.x, task.test.x)
    assert not torch.equal(snippets(seed=1).test.y, task.test.y)
    assert task.at(16).input_shape == (16, len(TOKENS))
    with pytest.raises(ValueError, match="ask for fewer"):
        snippets(8)
    with pytest.raises(ValueError, match="snippets"):
        snippets(corruptions=0)
    broken, whole = lines(task.test)[0]
    assert task.show(task.test.x[0], task.test.y[0]) == f"{written(broken)}\n{written(whole)}"


def test_modules_are_the_library():
    known = dict(modules())
    assert {"ast", "json", "textwrap"} - known.keys() == {"json"}  # a package is no top-level module
    assert "def dedent" in known["textwrap"] and len(known) >= 100
