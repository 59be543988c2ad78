"""S3, the Hugging Face hub, MLflow and plain HTTP on loopback: found by content, fetched by the
worker, credentials from the environment only and nowhere to be read afterwards."""

import json
import socket
from importlib import import_module
from pathlib import Path

import pytest

from auditor.errors import AuditError
from tests.fleet.hub import Hub
from tests.fleet.models import network, write_external, write_hostile

SECRET, TOKEN = "wJalrSECRETEXAMPLEKEY", "hf_localTOKENlocalTOKEN"


def everything_written(out):
    return "".join(p.read_text(errors="replace") for p in Path(out).rglob("*") if p.is_file())


def names(index):
    return {m["model"]: m["verdict"] for m in index()["models"]}


@pytest.fixture
def contents(tmp_path):
    """Path -> bytes of a small remote place."""
    made = tmp_path / "made"
    made.mkdir()
    write_external(made / "ext.onnx", 5, data="ext.onnx.data")
    write_hostile(made / "bad.onnx", 6)
    return {
        "a.onnx": network(1).SerializeToString(),
        "deep/unnamed": network(2).SerializeToString(),
        "deep/ext.onnx": (made / "ext.onnx").read_bytes(),
        "deep/ext.onnx.data": (made / "ext.onnx.data").read_bytes(),
        "bad.onnx": (made / "bad.onnx").read_bytes(),
        "README.md": b"# about\n",
        "config.json": b"{}",
        "empty.onnx": b"",
    }


EXPECTED = {
    "a.onnx": "review",
    "deep/unnamed": "review",
    "deep/ext.onnx": "review",
    "bad.onnx": "fail",
    "empty.onnx": "unreadable",
}


@pytest.fixture(scope="module")
def s3_server():
    moto = pytest.importorskip("moto.server", reason="moto is not installed (extra dev)")
    pytest.importorskip("s3fs", reason="s3fs is not installed (extra s3)")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server, contents, monkeypatch):
    import boto3

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIALOCALEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    # fsspec keeps file systems by their arguments, not by the environment they were made in.
    import_module("s3fs").S3FileSystem.clear_instance_cache()
    client = boto3.client("s3")
    client.create_bucket(Bucket="models")
    for path, data in contents.items():
        client.put_object(Bucket="models", Key=f"team/{path}", Body=data)
    yield client
    for path in contents:
        client.delete_object(Bucket="models", Key=f"team/{path}")
    client.delete_bucket(Bucket="models")


def test_s3_models_are_found_fetched_and_audited(fleet, index, bucket, tmp_path):
    totals = fleet("s3://models/team")
    assert names(index) == {f"s3://models/team/{k}": v for k, v in EXPECTED.items()}
    assert totals.passed == 3
    external = next(m for m in index()["models"] if m["model"].endswith("ext.onnx"))
    report = json.loads((tmp_path / "out" / external["report"]).read_text())
    assert [f["name"] for f in report["artifact"]["files"]] == ["ext.onnx", "ext.onnx.data"]
    written = everything_written(tmp_path / "out")
    assert SECRET not in written
    assert "AKIALOCALEXAMPLE" not in written


def test_s3_only_changed_objects_are_audited_again(fleet, index, log, bucket):
    fleet("s3://models/team")
    count = len([line for line in log() if line["event"] == "audited"])
    assert fleet("s3://models/team").known == 4  # external data has no stamp: compared by content
    bucket.put_object(Bucket="models", Key="team/a.onnx", Body=network(50).SerializeToString())
    fleet("s3://models/team")
    audited = [line["uri"] for line in log() if line["event"] == "audited"]
    assert audited[count:] == ["s3://models/team/a.onnx"]


def test_s3_in_worker_processes_patterns_and_single_objects(fleet, index, bucket):
    totals = fleet("s3://models/team/*.onnx", "s3://models/team/deep/unnamed", jobs=1)
    assert totals.models == 4
    assert totals.exit_code == 1


def test_s3_that_does_not_answer_is_one_sentence(fleet, monkeypatch, bucket):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    import_module("s3fs").S3FileSystem.clear_instance_cache()
    with pytest.raises(AuditError, match="s3://models/team cannot be reached") as caught:
        fleet("s3://models/team")
    assert SECRET not in str(caught.value)


def test_a_missing_bucket_is_one_sentence(fleet, bucket):
    with pytest.raises(AuditError, match=r"nothing at s3://elsewhere|cannot be reached"):
        fleet("s3://elsewhere")


def test_one_place_that_fails_does_not_end_the_others(fleet, index, bucket):
    totals = fleet("s3://elsewhere", "s3://models/team/deep")
    assert totals.models == 3
    assert names(index)["s3://elsewhere"] == "unreadable"


@pytest.fixture
def hub(contents, monkeypatch, tmp_path):
    library = pytest.importorskip(
        "huggingface_hub", reason="huggingface_hub is not installed (extra hf)"
    )
    server = Hub("org/model", contents, TOKEN)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    constants = import_module("huggingface_hub.constants")
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        server.url + "/{repo_id}/resolve/{revision}/{filename}",
    )
    library.HfFileSystem.clear_instance_cache()
    yield server
    library.HfFileSystem.clear_instance_cache()
    server.close()


def test_hub_models_are_found_fetched_and_audited(fleet, index, hub, tmp_path):
    fleet("hf://org/model")
    assert not hub.unknown
    assert names(index) == {f"hf://org/model/{k}": v for k, v in EXPECTED.items()}
    assert TOKEN not in everything_written(tmp_path / "out")


def test_hub_second_run_fetches_only_what_it_must(fleet, hub, log):
    fleet("hf://org/model")
    hub.seen.clear()
    totals = fleet("hf://org/model")
    assert totals.known == 4
    fetched = {p for p in hub.seen if "/resolve/" in p and "onnx" in p}
    assert all("ext.onnx" in p or "empty.onnx" in p for p in fetched), fetched


def test_hub_without_a_token_is_one_sentence(fleet, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrongTOKENwrong")
    with pytest.raises(AuditError, match="hf://org/model cannot be reached") as caught:
        fleet("hf://org/model")
    assert "wrongTOKEN" not in str(caught.value)


def test_a_library_that_is_missing_is_named_with_its_extra(fleet, monkeypatch):
    def missing(url):
        raise ImportError("Install s3fs to access S3")

    pytest.importorskip("fsspec")
    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(AuditError, match=r"pip install 'model-auditor\[s3\]'"):
        fleet("s3://models/team")


def test_memory_urls_work_too_for_any_file_system_will_do(fleet, index, contents):
    fsspec = pytest.importorskip("fsspec")
    fs = fsspec.filesystem("memory")
    for path, data in contents.items():
        fs.pipe(f"/place/{path}", data)
    fleet("memory://place")
    assert {Path(k).name for k in names(index)} == {Path(k).name for k in EXPECTED}
    fs.rm("/place", recursive=True)


def test_mlflow_versions_are_listed_and_fetched(fleet, index, contents, monkeypatch, tmp_path):
    pytest.importorskip("mlflow", reason="mlflow is not installed (extra mlflow)")
    registry = import_module("mlflow.store.artifact.artifact_repository_registry")
    store = tmp_path / "mlruns" / "model"
    for path, data in contents.items():
        (store / path).parent.mkdir(parents=True, exist_ok=True)
        (store / path).write_bytes(data)
    (store / "MLmodel").write_text("flavors: {}\n")
    real = registry.get_artifact_repository

    def get(uri):
        assert uri == "models:/name/3"
        return real(store.as_uri())  # MLflow's own repository, without a registry server

    monkeypatch.setattr(registry, "get_artifact_repository", get)
    fleet("models:/name/3")
    found = {k.removeprefix("models:/name/3/"): v for k, v in names(index).items()}
    assert {k: found.get(k) for k in EXPECTED} == EXPECTED, found


def test_an_mlflow_registry_that_does_not_answer_is_one_sentence(fleet, monkeypatch):
    pytest.importorskip("mlflow", reason="mlflow is not installed (extra mlflow)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://user:secretpass@127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(AuditError, match="models:/name/3 cannot be listed") as caught:
        fleet("models:/name/3")
    assert "secretpass" not in str(caught.value)
