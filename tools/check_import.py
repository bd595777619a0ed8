"""Measures what `import samovar` costs: CPU over a bare Python, in milliseconds, and threads started.

Runs in an environment that holds the release wheel. Exits with 1 beyond the bound or when a thread started.
"""

import os
import resource
import statistics
import subprocess
import sys

BOUND_MS = 30.0
RUNS = 15
COUNT_THREADS = "import samovar, os; print(len(os.listdir('/proc/self/task')) - 1)"


def cpu_ms(code: str) -> float:
    """Return the CPU time, user and system, of one child interpreter that runs *code*."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) * 1000


def threads_started() -> int | None:
    """Return how many threads the import leaves running, or None where the system does not list them."""
    if not os.path.isdir("/proc/self/task"):
        return None
    return int(subprocess.check_output([sys.executable, "-P", "-c", COUNT_THREADS]))


def main() -> None:
    """Measure, print one line, and exit with 1 if a promise is broken."""
    cpu_ms("import samovar")  # warms the file cache and writes the .pyc files
    costs = [cpu_ms("import samovar") - cpu_ms("pass") for _ in range(RUNS)]
    cost, spread = statistics.median(costs), max(costs) - min(costs)
    threads = threads_started()
    print(
        f"import samovar: {cost:.1f} ms CPU over a bare Python (median of {RUNS}, spread {spread:.1f}, "
        f"bound {BOUND_MS:.0f}); threads started: {'unknown' if threads is None else threads}"
    )
    if cost > BOUND_MS or threads:
        sys.exit(1)


if __name__ == "__main__":
    main()
