"""The private parts of Hydra that the project uses behave as it expects."""

from hydra._internal.utils import get_args_parser
from hydra.core.utils import JobReturn, JobStatus


def test_parser_knows_the_flags_of_hydra():
    given = ["-m", "--config-dir", "mine", "seed=1", "--cfg", "job", "--resolve", "lr=2"]
    flags, after = get_args_parser().parse_known_args([*given, "--no-flag"])
    assert flags.multirun and flags.resolve
    assert (flags.config_dir, flags.cfg, flags.overrides) == ("mine", "job", ["seed=1"])
    assert not (flags.help or flags.run or flags.shell_completion)
    assert flags.info is flags.experimental_rerun is None
    assert after == ["lr=2", "--no-flag"]


def test_the_parser_prints_a_version():
    assert get_args_parser()._option_string_actions["--version"].version.startswith("Hydra ")


def test_a_failed_job_holds_its_error(capsys):
    job = JobReturn(status=JobStatus.FAILED)
    job.return_value = error = ValueError("no such file\nand more")
    assert job._return_value is error
    assert capsys.readouterr().err == ""
