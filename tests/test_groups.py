import pytest

from tests.groups import asked_for

pytest_plugins = ["pytester"]

TESTS = """
    import pytest

    @pytest.mark.s3
    def test_one():
        pass

    @pytest.mark.s3
    def test_two():
        {two}

    @pytest.mark.ray
    def test_three():
        pass
"""


@pytest.fixture
def run(pytester):
    def result(*arguments, two="pass"):
        pytester.makepyprojecttoml('[tool.pytest.ini_options]\nmarkers = ["s3: a", "ray: b", "cluster: c"]\n')
        pytester.makepyfile(TESTS.format(two=two))
        return pytester.runpytest_inprocess("-p", "tests.groups", *arguments)

    return result


def test_groups_are_read_off_the_expression():
    assert asked_for("ray or s3 or wheel or cluster") == ["ray", "s3", "cluster", "wheel"]
    assert asked_for("not ray and not wheel and not s3") == []
    assert asked_for("cluster and not ray") == ["cluster"]
    assert asked_for("") == []


def test_a_run_in_which_every_group_has_passed_is_green(run):
    assert run("-m", "s3 or ray").ret == pytest.ExitCode.OK


def test_a_group_without_a_test_that_passed_fails_the_run(run):
    result = run("-m", "s3 or cluster")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["FAILED no test marked cluster has passed"])


def test_a_skipped_test_of_a_group_fails_the_run(run):
    result = run("-m", "s3", two="pytest.skip('no server')")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["FAILED 1 tests marked s3 were skipped"])


def test_no_test_at_all_fails_the_run(run):
    assert run("-m", "cluster").ret == pytest.ExitCode.TESTS_FAILED


def test_groups_that_were_not_asked_for_may_be_skipped(run):
    assert run("-m", "ray", two="pytest.skip('no server')").ret == pytest.ExitCode.OK
    assert run(two="pytest.skip('no server')").ret == pytest.ExitCode.OK


def test_one_test_may_be_run_by_its_name(run):
    assert run("-m", "s3", "-k", "one", two="pytest.skip('no server')").ret == pytest.ExitCode.OK


@pytest.mark.parametrize("expression", ["s3 or ray", "s3 or cluster"])
def test_tests_of_several_processes_are_counted_as_those_of_one(run, expression):
    alone, shared = run("-m", expression), run("-m", expression, "--numprocesses", "2", "--dist", "loadgroup")
    assert shared.ret == alone.ret
    shared.stdout.fnmatch_lines(["*2 passed*" if "cluster" in expression else "*3 passed*"])
