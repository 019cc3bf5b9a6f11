"""Keeps an invocation short."""

import platform


def pytest_benchmark_generate_machine_info():
    """The harness's own probe starts several programs and takes longer than the benches do."""
    return {
        "machine": platform.machine(),
        "python_implementation": platform.python_implementation(),
        "python_version": platform.python_version(),
        "system": platform.system(),
    }
