"""No credential in what is shown, and two models stay two."""

import pytest

from auditor.fleet.names import report_stem
from auditor.fleet.redact import redacted, shown_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://AKIA:secret@bucket/a.onnx", "s3://bucket/a.onnx"),
        ("https://u:p@h.org:8443/m.onnx?X-Amz-Signature=abc&X-Amz-Expires=9", "https://h.org:8443/m.onnx"),
        ("https://a.blob.core.windows.net/c/m?sv=2022&sig=x%3D&se=2027&sp=r", "https://a.blob.core.windows.net/c/m"),
        ("https://h/m.onnx#token=abc", "https://h/m.onnx"),
        ("hf://org/model", "hf://org/model"),
    ],
)  # fmt: skip
def test_urls_are_bare(url, shown):
    assert shown_url(url) == shown


def test_a_query_that_chooses_the_model_still_tells_two_apart():
    one, two = shown_url("https://h/get?id=1&sig=a"), shown_url("https://h/get?id=2&sig=a")
    assert one != two
    assert one == shown_url("https://h/get?sig=other&id=1")
    assert "id=" not in one


def test_messages_lose_urls_tokens_and_values_of_the_environment(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    text = redacted(
        "403 for https://u:p@h/x?Signature=zzz (Authorization: Bearer abcdefghijkl) hf_abcdefgh "
        "wJalrXUtnFEMI aws_access_key_id=AKIAXXXX token: 'qqqq'"
    )
    for secret in ("u:p", "zzz", "abcdefgh", "wJalr", "AKIAXXXX", "qqqq"):
        assert secret not in text
    assert "https://h/x" in text


@pytest.mark.parametrize(
    "uri", ["/a/../../etc/passwd", "/a/\x1b[31mm.onnx", "/a/" + "x" * 5000, "s3://b/ü/ü.onnx", "/"]
)  # fmt: skip
def test_report_names_are_safe(uri):
    shelf, _, name = report_stem(uri).partition("/")
    assert len(shelf) == 2
    assert name == "".join(c for c in name if c.isascii() and (c.isalnum() or c in "._-"))
    assert 0 < len(name) < 90
    assert ".." not in name.split("/")


def test_report_names_of_different_models_differ_also_where_case_does_not_count():
    names = {report_stem(u).lower() for u in ("/a/M.onnx", "/a/m.onnx", "/b/m.onnx", "/a/m-onnx")}
    assert len(names) == 4
