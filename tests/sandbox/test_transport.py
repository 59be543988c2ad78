"""Frames: what goes in comes out, and nothing else is believed."""

import contextlib
import io
import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from auditor.sandbox import transport
from auditor.sandbox.transport import Closed, Message, TransportError

LIMIT = 1 << 20


def _wire(message):
    return b"".join(bytes(part) for part in transport.encode(message, LIMIT))


def _receive(raw, limit=LIMIT, **options):
    return transport.receive(io.BytesIO(raw), limit, **options)


def _frame(header, payload=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return b"AUD1" + struct.pack("<I", len(text)) + text + payload


def _header(*arrays, body=None):
    return {"kind": "event", "body": body or {}, "arrays": list(arrays)}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
arrays = hnp.arrays(
    dtype=st.sampled_from(sorted(transport.DTYPES)),
    shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
)


@settings(max_examples=60, deadline=None, database=None)
@given(body=st.dictionaries(st.text(), json_values, max_size=5), array=arrays)
def test_messages_survive_the_way(body, array):
    back = _receive(_wire(Message("result", body, {"x": array})))
    assert (back.kind, back.body) == ("result", body)
    assert back.arrays["x"].dtype == array.dtype
    np.testing.assert_array_equal(back.arrays["x"], array)


@settings(max_examples=200, deadline=None, database=None)
@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda b: b"AUD1" + b))
def test_random_bytes_are_refused_and_never_crash(raw):
    with pytest.raises((TransportError, Closed)):
        _receive(raw)


@settings(max_examples=200, deadline=None, database=None)
@given(st.data())
def test_a_damaged_frame_is_a_message_or_refused(data):
    raw = bytearray(_wire(Message("event", {"a": [1, 2.5]}, {"x": np.arange(6.0)})))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(TransportError, Closed):
        assert isinstance(_receive(bytes(raw)), Message)


@pytest.mark.parametrize("cut", [1, 7, 9, -1])
def test_a_cut_frame_is_told_from_a_closed_pipe(cut):
    with pytest.raises(TransportError, match="middle of a frame"):
        _receive(_wire(Message("event", {}, {"x": np.ones(9)}))[:cut])
    with pytest.raises(Closed):
        _receive(b"")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), b"raw", {1, 2}])
def test_what_is_not_json_is_not_sent(value):
    with pytest.raises(TransportError, match="not plain JSON"):
        transport.encode(Message("event", {"value": value}), LIMIT)


def test_numpy_scalars_travel_as_numbers_and_their_nan_does_not():
    body = {"f": np.float32(0.5), "i": np.int64(3), "b": np.bool_(True)}
    assert _receive(_wire(Message("event", body))).body == {"f": 0.5, "i": 3, "b": True}
    with pytest.raises(TransportError):
        _wire(Message("event", {"f": np.float32("nan")}))


@pytest.mark.parametrize("dtype", ["object", "U3", "S3", "complex64", "datetime64[s]"])
def test_foreign_dtypes_are_not_sent(dtype):
    with pytest.raises(TransportError, match="may not travel"):
        transport.encode(Message("event", {}, {"x": np.zeros(2, dtype)}), LIMIT)


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "not an object"),
        (b"{}", "lacks kind"),
        (b'{"kind": "call me", "body": {}, "arrays": []}', "lacks kind"),
        (b'{"kind": ["event"], "body": {}, "arrays": []}', "lacks kind"),
        (b'{"kind": "event", "body": [], "arrays": []}', "lacks kind"),
        (b'{"kind": "event", "body": {"x": NaN}, "arrays": []}', "NaN"),
        (b'{"kind": "event", "body": {"x": -Infinity}, "arrays": []}', "Infinity"),
        (b'{"kind": "event", "body": {"x": 1e999}, "arrays": []}', "not finite"),
        (b'{"kind": "event", "body": {"x": ' + b"9" * 400 + b"}}", "too large"),
        (b'{"kind": "event", "body": ' + b'{"a":' * 70 + b"1" + b"}" * 70 + b"}", "nested"),
        (b"[" * 100_000, "not JSON"),
        (_header(7), "not an object"),
        (_header({"name": "x", "dtype": "object", "shape": [1]}), "dtype"),
        (_header({"name": "x", "dtype": ["int8"], "shape": [1]}), "dtype"),
        (_header({"name": "x", "dtype": ">f4", "shape": [1]}), "dtype"),
        (_header({"name": 5, "dtype": "int8", "shape": [1]}), "name"),
        (_header({"name": "x" * 2000, "dtype": "int8", "shape": [1]}), "name"),
        (_header(*[{"name": "x", "dtype": "int8", "shape": [0]}] * 2), "twice"),
        (_header({"name": "x", "dtype": "int8", "shape": [-1]}), "sizes"),
        (_header({"name": "x", "dtype": "int8", "shape": [True]}), "sizes"),
        (_header({"name": "x", "dtype": "int8", "shape": [1.0]}), "sizes"),
        (_header({"name": "x", "dtype": "int8", "shape": "11"}), "shape"),
        (_header({"name": "x", "dtype": "int8", "shape": [1] * 33}), "shape"),
        (_header({"name": "x", "dtype": "int8", "shape": [1 << 40]}), "over"),
        (_header({"name": "x", "dtype": "int8", "shape": [0, 1 << 47, 1 << 47]}), "over"),
        (
            _header(*[{"name": f"{n}", "dtype": "int8", "shape": [1 << 19]} for n in range(3)]),
            "over",
        ),
    ],
)
def test_lies_in_the_header_are_refused(header, why):
    with pytest.raises(TransportError, match=why):
        _receive(_frame(header))


def test_too_many_arrays_are_refused():
    spec = [{"name": str(n), "dtype": "int8", "shape": [0]} for n in range(70_000)]
    with pytest.raises(TransportError, match="70000 arrays"):
        _receive(_frame(_header(*spec)))


def test_a_huge_header_is_refused_before_it_is_read():
    with pytest.raises(TransportError, match="announces"):
        _receive(b"AUD1" + struct.pack("<I", 1 << 31))
    with pytest.raises(TransportError, match="over"):
        transport.encode(Message("event", {"x": "y" * (9 << 20)}), LIMIT)


def test_a_bool_array_holds_only_zero_and_one():
    spec = {"name": "x", "dtype": "bool", "shape": [2]}
    assert _receive(_frame(_header(spec), b"\x00\x01")).arrays["x"].tolist() == [False, True]
    with pytest.raises(TransportError, match="bool"):
        _receive(_frame(_header(spec), b"\x00\x02"))


def test_lone_surrogates_are_kept_only_from_the_parent():
    raw = _wire(Message("event", {"path\udcff": ["a\udcff", "\U0001f600"]}))
    assert _receive(raw).body == {"path\ufffd": ["a\ufffd", "\U0001f600"]}
    assert _receive(raw, trusted=True).body == {"path\udcff": ["a\udcff", "\U0001f600"]}
