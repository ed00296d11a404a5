"""`redarte push-runs`: `dvc push --run-cache`, including the metrics of the runs.

DVC pushes the records of all runs, but of their outputs only those that dvc.yaml keeps in its cache. Metrics are in
git; without them a teammate's DVC cannot restore a run, and repeats the stage.
"""

from pathlib import Path

from redarte.history import repository
from redarte.history.dvc_cache import mixed_runs
from redarte.runtime.errors import UserError


def push(remote: str | None = None) -> int:
    """Pushes every run of this clone, committed or not, with all of its outputs; returns the number of pushed files.

    Args:
        remote: the name of a DVC remote; None: the default one.
    """
    pushed = 0
    with repository.opened("the runs could not be pushed") as repo:
        mixed = list(mixed_runs(Path(repo.stage_cache.cache_dir)))
        if mixed:
            raise UserError(
                f"{len(mixed)} records of runs have outputs of other runs, which a merged dvc.lock has left; type: "
                "redarte check --cache"
            )
        repo.stage_cache.push(remote)
        runs = [record.parts[-2:] for record in Path(repo.stage_cache.cache_dir).glob("*/*/*")]
        for objects in repo.stage_cache.get_used_objs(runs).values():
            done = repo.cloud.push(objects, remote=remote)
            if done.failed:
                raise UserError(f"{len(done.failed)} files could not be pushed; `dvc push` shows why.")
            pushed += len(done.transferred)
    return pushed
