"""A sample of the audit log's soak: instances that send at once lose and double nothing."""

from tests.soak.__main__ import main


def test_a_sample_of_instances_loses_and_doubles_nothing(capsys):
    assert main(["log", "--sample", "6", "--seed", "3"]) == 0
    assert "| streams that lost or doubled a line | 0 |" in capsys.readouterr().out
