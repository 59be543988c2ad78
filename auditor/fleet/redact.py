"""Nothing secret is shown: URLs lose user names, passwords, queries and signatures."""

from __future__ import annotations

import hashlib
import os
import re
from urllib.parse import parse_qsl, urlsplit, urlunsplit

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")
_SIGNING = re.compile(
    r"(?i)^(x-amz-.*|x-goog-.*|awsaccesskeyid|signature|sig|s[evprt]|spr|sk(oid|tid|t|e|s|v)|expires|"
    r"policy|key-pair-id|googleaccessid|token|access_?token|auth.*|.*secret.*|.*password.*|"
    r"api_?key|key)$"
)
_SECRET_NAME = re.compile(r"(?i)(token|secret|password|passwd|api_?key|access_?key|credential)")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")
_PAIR = re.compile(
    r"(?i)\b(\w*(?:token|secret|password|signature|api_?key|access_?key(?:_?id)?)\w*)"
    r"(\s*[=:]\s*)['\"]?[^\s'\",;&]+"
)
_SHORTEST = 6


def shown_url(url: str) -> str:
    """`url` without user, password, query and fragment.

    What is left of the query without signing parameters tells two models apart, so a short digest
    of that stays: ``https://host/get (query 1a2b3c4d)``.
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    bare = urlunsplit((parts.scheme, host, parts.path, "", ""))
    telling = sorted((k, v) for k, v in parse_qsl(parts.query) if not _SIGNING.match(k))
    if not telling:
        return bare
    return f"{bare} (query {hashlib.sha256(repr(telling).encode()).hexdigest()[:8]})"


def redacted(text: str) -> str:
    """`text` (a message of some library, say) with every URL bare and known secrets blotted out."""
    text = _URL.sub(lambda match: shown_url(match[0]), text)
    text = _BEARER.sub(r"\1 ***", text)
    text = _PAIR.sub(r"\1\2***", text)
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST and value in text:
            text = text.replace(value, "***")
    return text
