"""`redarte push-runs`: `dvc push --run-cache`, with the metrics that it leaves behind.

DVC keeps every run of a stage, and gives a teammate the records of them; but of their outputs it pushes only those that
are in its cache by dvc.yaml. Metrics are in git, and without them no run can be taken over: the stage runs again.
"""

from pathlib import Path

from redarte.commands import repository
from redarte.runtime.errors import UserError


def push(remote: str | None = None) -> int:
    """Pushes every run that this clone keeps, committed or not, with all of its outputs.

    Args:
        remote: a DVC remote by its name; None: the default one.

    Returns:
        How many files went there.

    Raises:
        UserError: there is no such remote, or it cannot be written to.
    """
    pushed = 0
    with repository.opened("the runs could not be pushed") as repo:
        repo.stage_cache.push(remote)
        runs = [record.parts[-2:] for record in Path(repo.stage_cache.cache_dir).glob("*/*/*")]
        for objects in repo.stage_cache.get_used_objs(runs).values():
            done = repo.cloud.push(objects, remote=remote)
            if done.failed:
                raise UserError(f"{len(done.failed)} files could not be pushed; `dvc push` says why.")
            pushed += len(done.transferred)
    return pushed
