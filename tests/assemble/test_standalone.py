"""What a machine without a dispatcher hands down to hooks, agents and tasks."""

from fleet.assemble.standalone import without_secrets


def test_what_the_file_names_is_taken_out_of_the_environment_and_what_every_process_needs_is_not() -> None:
    environ = {
        "SERVER_SECRET": "s",
        "GIT_TOKEN": "g",
        "HOME": "/h",
        "PATH": "/bin",
        "https_proxy": "http://p",
        "CUDA_HOME": "/c",
    }
    assert without_secrets({"SERVER_SECRET", "GIT_TOKEN", "HOME", "https_proxy", "NOT_SET"}, environ) == {
        "HOME": "/h",
        "PATH": "/bin",
        "https_proxy": "http://p",
        "CUDA_HOME": "/c",
    }
