"""Refusals of the files themselves: JSON, numbers, statement, weights."""

from __future__ import annotations

import json
import struct

from tests.corpus.bad import Files, base, changed, edit, refused, text_edit, weights_edit, with_weights
from tests.corpus.sheet import Json, canonical, dyadic, weights_file

A = "linf_affine"


def parts(weights: bytes) -> tuple[Json, bytes]:
    (length,) = struct.unpack("<Q", weights[:8])
    return json.loads(weights[8 : 8 + length]), weights[8 + length :]


def header(change: object, extra: bytes = b"") -> object:
    """A function of a weights file that changes its header (or the data, by `extra`)."""

    def make(weights: bytes) -> bytes:
        head, data = parts(weights)
        for name, fields in change.items():  # type: ignore[attr-defined]
            head[name] = {**head.get(name, {}), **fields} if isinstance(fields, dict) else fields
        return weights_file(canonical(head), data + extra)

    return make


# strict JSON


@refused("LIMIT", "nesting to depth 100000")
def nesting_100000() -> Files:
    return b"[" * 100_000 + b"]" * 100_000, base(A)[1]


@refused("LIMIT", "nesting one deeper than the limit, inside an otherwise good certificate")
def nesting_33() -> Files:
    document, weights = base(A)
    deep: object = []
    for _ in range(30):
        deep = [deep]
    return canonical(changed(document, "predicate.produced_by", deep)), weights


@refused("LIMIT", "a JSON integer of 16 digits")
def json_integer_16_digits() -> Files:
    document, weights = base(A)
    return canonical(changed(document, "predicate.steps.0.domain", 10**15)), weights


@refused("LIMIT", "a number of 8193 hexadecimal digits")
def giant_mantissa() -> Files:
    document, weights = base(A)
    return canonical(changed(document, "predicate.steps.0.rate", {"exp": 0, "int": "1" * 8193})), weights


@refused("JSON", "a byte order mark")
def byte_order_mark() -> Files:
    document, weights = base(A)
    return b"\xef\xbb\xbf" + canonical(document), weights


@refused("JSON", "the file ends in the middle")
def truncated_certificate() -> Files:
    document, weights = base(A)
    return canonical(document)[:-40], weights


@refused("JSON", "an empty file")
def empty_certificate() -> Files:
    return b"", base(A)[1]


@refused("JSON", "a second document after the first")
def trailing_document() -> Files:
    document, weights = base(A)
    return canonical(document) + b"{}", weights


@refused("JSON", "a list at the top")
def top_level_list() -> Files:
    document, weights = base(A)
    return b"[" + canonical(document) + b"]", weights


@refused("JSON", "bytes that are no UTF-8")
def invalid_utf8() -> Files:
    document, weights = base(A)
    return canonical(document).replace(b"trm_verify", b"trm\xff\xfe", 1), weights


text_edit(
    "JSON",
    "a duplicate key: readers disagree on which counts",
    "duplicate_key",
    A,
    '"rate":{',
    '"rate":{"exp":0,"int":"0"},"rate":{',
)
text_edit("JSON", "NaN", "json_nan", A, '"steps":60', '"steps":NaN')
text_edit("JSON", "Infinity", "json_infinity", A, '"steps":60', '"steps":Infinity')
text_edit("JSON", "a float where an integer belongs", "json_float", A, '"steps":60', '"steps":60.0')
text_edit("JSON", "an integer in scientific notation", "json_exponent", A, '"steps":60', '"steps":6e1')

# the statement

edit("VERSION", "a semantics of which this version knows nothing", "semantics_binary32", A, semantics="binary32")
edit("FIELD", "semantics left out", "semantics_missing", A, semantics=...)
edit("FIELD", "a key that the format does not have", "unknown_key", A, steps__0__note="trust me")
edit("FIELD", "a flag instead of a proof", "flag_robust", A, robust=True)
edit("FIELD", "a claim without its rate", "claim_without_rate", A, claims__0__rate=...)
edit("FIELD", "a truth value as an index", "boolean_index", A, steps__0__domain=False)
edit("FIELD", "steps as an object", "steps_object", A, steps={})
edit("FIELD", "a line break in a name that is printed", "line_break_in_name", A, unused=["x\nVALID"])


@refused("VERSION", "another predicate type")
def predicate_type_v2() -> Files:
    document, weights = base(A)
    return canonical(changed(document, "predicateType", "https://trm-verify.dev/certificate/v2")), weights


@refused("VERSION", "another statement type")
def statement_type() -> Files:
    document, weights = base(A)
    return canonical(changed(document, "_type", "https://in-toto.io/Statement/v0.1")), weights


@refused("FIELD", "two weights files in one certificate")
def two_subjects() -> Files:
    document, weights = base(A)
    return canonical(changed(document, "subject", document["subject"] * 2)), weights


# numbers

edit("NUMBER", "upper-case hexadecimal", "hex_upper_case", A, steps__0__rate={"exp": -4, "int": "C"})
edit(
    "NUMBER",
    "a leading zero: two spellings of one number",
    "hex_leading_zero",
    A,
    steps__0__rate={"exp": -2, "int": "03"},
)
edit("NUMBER", "minus zero", "hex_minus_zero", A, steps__0__rate={"exp": -2, "int": "-0"})
edit("NUMBER", "a prefix", "hex_prefix", A, steps__0__rate={"exp": -2, "int": "0x3"})
edit("NUMBER", "an underscore", "hex_underscore", A, steps__0__rate={"exp": -2, "int": "1_1"})
edit("NUMBER", "a line break after the digits", "hex_line_break", A, steps__0__rate={"exp": -2, "int": "3\n"})
edit("NUMBER", "no digits", "hex_empty", A, steps__0__rate={"exp": -2, "int": ""})
edit("NUMBER", "two spaces between entries", "vector_two_spaces", A, norms__0__weights={"exp": 0, "int": "1 1  1 1"})
edit("NUMBER", "a vector that is one entry short", "vector_short", A, norms__0__weights={"exp": 0, "int": "1 1 1"})
edit("NUMBER", "an exponent beyond the limit", "exponent_beyond_limit", A, steps__0__rate={"exp": -20001, "int": "1"})
edit("FIELD", "digits as a JSON integer", "digits_as_integer", A, steps__0__rate={"exp": -2, "int": 3})
edit("NUMBER", "a negative index, which would count from the end", "negative_index", A, steps__0__norm=-1)
edit("NUMBER", "a box index past the end of the table", "index_past_the_end", A, steps__0__region=9)
edit("NUMBER", "a claim about a step that is not there", "claim_of_missing_step", A, claims__0__step=17)

# the weights file


@refused("DIGEST", "another digest than that of the file")
def wrong_digest() -> Files:
    document, weights = base(A)
    return canonical(changed(document, "subject.0.digest.sha256", "0" * 64)), weights


@refused("DIGEST", "one bit of one weight changed")
def one_bit_of_a_weight() -> Files:
    document, weights = base(A)
    return canonical(document), weights[:-1] + bytes([weights[-1] ^ 1])


@refused("DIGEST", "the digest in upper case")
def digest_upper_case() -> Files:
    document, weights = base(A)
    return canonical(
        changed(document, "subject.0.digest.sha256", document["subject"][0]["digest"]["sha256"].upper())
    ), weights


@refused("NONFINITE", "a weight is NaN")
def weight_nan() -> Files:
    document, weights = base(A)
    return with_weights(document, weights[:-4] + struct.pack("<f", float("nan")))


@refused("NONFINITE", "a bfloat16 weight is infinite")
def weight_infinite_bf16() -> Files:
    document, weights = base("log_norm_damped")
    return with_weights(document, weights[:-2] + struct.pack("<H", 0x7F80))


weights_edit("WEIGHTS", "the data ends early", "weights_truncated", lambda w: w[:-4])
weights_edit("WEIGHTS", "data behind the last tensor", "weights_trailing", lambda w: w + b"\0\0\0\0")
weights_edit("WEIGHTS", "a gap between tensors", "weights_gap", header({"b": {"data_offsets": [68, 84]}}, b"\0" * 4))
weights_edit("WEIGHTS", "two tensors overlap", "weights_overlap", header({"b": {"data_offsets": [60, 76]}}))
weights_edit("WEIGHTS", "a range that does not fit the shape", "weights_range", header({"W": {"shape": [4, 5]}}))
weights_edit("WEIGHTS", "a data type of other files", "weights_dtype", header({"W": {"dtype": "F8_E4M3"}}))
weights_edit("WEIGHTS", "booleans are no numbers here", "weights_dtype_bool", header({"b": {"dtype": "BOOL"}}))
weights_edit("WEIGHTS", "a negative offset", "weights_negative_offset", header({"W": {"data_offsets": [-64, 0]}}))
weights_edit("WEIGHTS", "metadata that is not text", "weights_metadata", header({"__metadata__": {"step": 3}}))
weights_edit("WEIGHTS", "an unknown field of a tensor", "weights_field", header({"W": {"stride": [1, 4]}}))
weights_edit("LIMIT", "a header that claims 2 GB", "weights_header_2gb", lambda w: struct.pack("<Q", 1 << 31) + w[8:])
weights_edit(
    "WEIGHTS", "a header longer than the file", "weights_header_long", lambda w: struct.pack("<Q", len(w)) + w[8:]
)
weights_edit("LIMIT", "a tensor of 17 axes", "weights_17_axes", header({"b": {"shape": [4] + [1] * 16}}))
weights_edit("WEIGHTS", "no weights at all", "weights_empty", lambda w: b"")
weights_edit(
    "WEIGHTS", "a tensor named twice in the header", "weights_duplicate_name",
    lambda w: weights_file(canonical(parts(w)[0])[:-1] + b"," + canonical({"b": parts(w)[0]["b"]})[1:], parts(w)[1]),
)  # fmt: skip
edit("WEIGHTS", "a tensor that the file does not have", "weights_missing_tensor", A, graph__step__nodes__1__name="V")
edit(
    "UNUSED",
    "a tensor of the file is neither used nor listed",
    "tensor_not_listed",
    "unused_and_integer_tensors",
    unused=[],
)
edit(
    "UNUSED",
    "a used tensor is listed as unused",
    "tensor_listed_but_used",
    "unused_and_integer_tensors",
    unused=["extra", "W"],
)
edit(
    "UNUSED",
    "a listed tensor is not in the file",
    "tensor_listed_but_absent",
    "unused_and_integer_tensors",
    unused=["extra", "y"],
)
edit(
    "UNUSED", "a tensor is listed twice", "tensor_listed_twice", "unused_and_integer_tensors", unused=["extra", "extra"]
)

# tables, steps and claims as such

edit("EMPTY", "nothing is claimed", "no_claims", A, claims=[], steps=[])
edit("EMPTY", "steps without a claim", "steps_without_claim", A, claims=[])
edit("RULE", "a rule that does not exist", "unknown_rule", A, steps__0__rule="assume")
edit("PREMISE", "a step that cites itself", "premise_itself", A, steps__1__premises=[1])
edit("PREMISE", "a step that cites a later one", "premise_later", A, steps__1__premises=[2])
edit("PREMISE", "two steps that cite each other", "premise_cycle", A, steps__1__premises=[2], steps__2__premises=[1])
edit("PREMISE", "a negative premise, which would count from the end", "premise_negative", A, steps__1__premises=[-1])
edit("CLAIM", "a claim that does not exist", "unknown_claim", A, claims__0__claim="robust")
edit(
    "BOX",
    "an inverted box: nothing is in it",
    "box_inverted",
    A,
    boxes__2={"space": "state", "lo": {"exp": 0, "int": "1 1 1 1"}, "hi": {"exp": 0, "int": "-1 1 1 1"}},
)
edit("BOX", "a box of another space", "box_space", A, boxes__0__space="output")
edit("BOX", "all of no input", "box_all_of_nothing", A, boxes__0={"space": "input", "all": True})
edit("BOX", "a state box as domain", "box_as_domain", A, steps__0__domain=1)
edit("BOX", "all: false", "box_all_false", A, boxes__1={"space": "state", "all": False})
edit(
    "NORM",
    "a weight of zero: N would not see that coordinate",
    "norm_weight_zero",
    A,
    norms__0__weights={"exp": 0, "int": "1 1 0 1"},
)
edit("NORM", "a negative weight", "norm_weight_negative", A, norms__0__weights={"exp": 0, "int": "1 1 -1 1"})
edit(
    "NORM",
    "groups that leave a coordinate out",
    "norm_uncovered",
    A,
    norms__0__runs=[[3, 1]],
    norms__0__weights={"exp": 0, "int": "1 1 1"},
)
edit(
    "NORM",
    "groups beyond the state",
    "norm_too_long",
    A,
    norms__0__runs=[[3, 2]],
    norms__0__weights={"exp": 0, "int": "1 1 1"},
)
edit("NORM", "a norm of an unknown kind", "norm_kind", A, norms__0__kind="l1")
edit(
    "NORM",
    "a metric that is not symmetric: its test would say nothing",
    "metric_asymmetric",
    "metric_tanh",
    norms__0__matrix={"exp": -3, "int": "8 1 2 80"},
)
edit("NORM", "a metric with floor 0", "metric_floor_zero", "metric_tanh", norms__0__floor={"exp": 0, "int": "0"})


@refused("UNUSED", "a step that no claim needs")
def step_not_cited() -> Files:
    document, weights = base(A)
    steps = [*document["predicate"]["steps"], {"rule": "at_most_one", "premises": [0]}]
    return canonical(changed(document, "predicate.steps", steps)), weights


@refused("LIMIT", "a chain of products that doubles the length of its numbers at every node")
def doubling_numbers() -> Files:
    document, weights = base(A)
    nodes = document["predicate"]["graph"]["step"]["nodes"]
    last = len(nodes)
    more: list[Json] = [{"op": "constant", "in": [], "shape": [4], "value": {"exp": 0, "int": "3 3 3 3"}}]
    more += [{"op": "mul", "in": [last + i, last + i]} for i in range(40)]
    more.append({"op": "add", "in": [last - 1, last + 40]})
    document = changed(document, "predicate.graph.step.nodes", [*nodes, *more])
    return canonical(changed(document, "predicate.graph.step.outputs", [last + 41])), weights


@refused("LIMIT", "an expansion to more elements than fit into memory")
def huge_expansion() -> Files:
    document, weights = base(A)
    nodes = [
        {"op": "constant", "in": [], "shape": [1, 1, 1], "value": dyadic(0)},
        {"op": "expand", "in": [0], "shape": [1 << 20, 1 << 20, 1 << 20]},
    ]
    return canonical(changed(document, "predicate.graph.step", {"nodes": nodes, "outputs": [1]})), weights


@refused("NUMBER", "a fixed depth of 10^12, which the kernel would have to run")
def endless_loop() -> Files:
    document, weights = base("answer_at_a_fixed_depth")
    return canonical(changed(document, "predicate.steps.0.steps", 10**12)), weights


# what the caller wanted

_OTHER = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
edit("EXPECTED", "valid, and another rate was wanted", "expected_rate", A, "--expect", "contraction(rate<=0.5)")
edit("EXPECTED", "valid, and another norm was wanted", "expected_norm", A, "--expect", "contraction(rate<=0.9,norm=l2)")
edit(
    "EXPECTED",
    "valid for one box, and all inputs were wanted",
    "expected_domain",
    "answer_of_a_damped_bistable_loop",
    "--expect",
    "answer(answer=2,domain=all)",
)
edit(
    "EXPECTED",
    "valid, and another answer was wanted",
    "expected_answer",
    "answer_at_a_fixed_depth",
    "--expect",
    "answer_at(answer=1-0)",
)
edit("EXPECTED", "valid, and no such claim is in it", "expected_claim", A, "--expect", "answer(answer=1)")
edit(
    "EXPECTED",
    "valid for the damped loop, and plain iteration was wanted",
    "expected_operator",
    "log_norm_damped",
    "--expect",
    "convergence(operator=picard)",
)
edit("EXPECTED", "valid, about another graph than the model's", "expected_graph", A, "--graph", _OTHER)
edit(
    "EXPECTED",
    "valid, and fewer steps were wanted",
    "expected_steps",
    A,
    "--expect",
    "convergence(epsilon<=1e-6,steps<=10)",
)
