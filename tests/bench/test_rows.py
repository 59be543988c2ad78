import pytest

from auditor.bench import rows as table
from auditor.errors import UsageError
from tests.bench.made_up import row, rows


def test_jsonl_and_csv_hold_the_same(tmp_path):
    given = [*rows(6), row(7, False, named=None, error="-died, =1+1", features={}, baselines={})]
    lines, sheet = tmp_path / "rows.jsonl", tmp_path / "rows.csv"
    for one in given:
        table.append(lines, one)
    table.write_csv(given, sheet)
    assert table.read(lines) == given
    assert table.read(sheet) == given


def test_a_line_cut_by_a_kill_is_left_out_and_one_in_the_middle_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    for one in rows(2):
        table.append(path, one)
    text = path.read_text()
    path.write_text(text + text[:200])
    assert len(table.read(path)) == 2
    path.write_text("{broken}\n" + text)
    with pytest.raises(UsageError, match=r"rows\.jsonl, line 1 is no row"):
        table.read(path)


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "model\n"])
def test_a_csv_of_something_else(tmp_path, content):
    path = tmp_path / "rows.csv"
    path.write_text(content)
    if content.count("\n") > 1:
        with pytest.raises(UsageError, match="no row of audit bench"):
            table.read(path)
    else:
        assert table.read(path) == []


def test_values_that_are_no_numbers_are_refused(tmp_path):
    path = tmp_path / "rows.csv"
    table.write_csv(rows(1), path)
    path.write_text(path.read_text().replace("50000", "nan"))
    with pytest.raises(UsageError, match="line 2"):
        table.read(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="cannot read the rows"):
        table.read(tmp_path / "no.csv")
