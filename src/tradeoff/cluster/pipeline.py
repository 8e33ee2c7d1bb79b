"""The study as DVC sees it: what is stale, what its cache has, and what it is told.

Workers run the scripts of stages in the working tree, and DVC learns from here what they did. Its
lock is held for moments, never while a script runs, and every write of dvc.lock replaces the whole
file at once, so that a kill leaves the last one.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tradeoff.cluster import lockfile
from tradeoff.core import code
from tradeoff.core.study import Study

CODE = "code"  # the stage that lists the code of the others, which all depend on


class Pipeline:
    """The stages that some targets need, in the order in which DVC would run them.

    Attributes:
        needs: of each stage those whose outputs it reads.

    Raises:
        DvcException: dvc.yaml, dvc.lock or params.yaml cannot be read.
    """

    def __init__(
        self, root: Path, study: Study, targets: Collection[str], say: Callable[[str], None]
    ) -> None:
        from dvc.repo import Repo
        from dvc.repo.reproduce import get_active_graph, plan_repro

        self._root, self._study, self._say = root, study, say
        self._repo = Repo(str(root))
        with self._alone():
            self._first = list(lockfile.read(root))
            graph = get_active_graph(self._repo.index.graph)
            chosen = [stage for name in targets for stage in self._repo.stage.collect(name)]
            steps = plan_repro(graph, chosen or None)
        self._stages: dict[str, Any] = {stage.addressing: stage for stage in steps}
        self.needs = {
            name: [need.addressing for need in graph.successors(stage)]
            for name, stage in self._stages.items()
        }
        self._inputs: dict[str, list[Any]] = {}

    def close(self) -> None:
        self._repo.close()

    @property
    def order(self) -> list[str]:
        return list(self._stages)

    def command(self, name: str) -> str:
        """What DVC would run for a stage."""
        return str(self._stages[name].cmd)

    def outputs(self, name: str) -> list[Path]:
        """What a stage writes."""
        return [Path(out.def_path) for out in self._stages[name].outs]

    def stale(self) -> list[str]:
        """The stages that DVC would look at again: changed ones, and all that stand on these.

        The code that stages run is listed before, and that of `code` is not among them.
        """
        names: dict[str, None] = {}
        with self._alone():
            self._list_code()
            if _changed(self._stages[CODE]):
                self._commit([self._stages[CODE]])
            for name, stage in self._stages.items():
                if any(need in names for need in self.needs[name]) or _changed(stage):
                    names[name] = None
        return list(names)

    def restore(self, name: str) -> bool:
        """Whether a stage needs no run: nothing of it has changed, or DVC's cache has its outputs
        of the same inputs, which are then put in place. What it needs must be there."""
        from dvc.exceptions import DvcException

        stage = self._stages[name]
        with self._alone():
            if not _changed(stage):
                return True
            try:
                self._from_cache(stage)
            except (DvcException, OSError):  # it is not in the cache, or lacks what it needs
                return False
            self._commit([stage])
            return True

    def _from_cache(self, stage: Any) -> None:
        """Put a stage's outputs in place, if DVC's cache has them; raises what DVC raises."""
        from dvc_data.hashfile.hash_info import HashInfo

        if not stage.deps_cached():
            stage.save_deps()
            for out in stage.outs:
                out.hash_info = HashInfo()  # that of dvc.lock belongs to the inputs of before
        self._repo.stage_cache.restore(stage, dry=True)  # fails if it does not have them
        # DVC replaces no file that it does not know, as one from git may be.
        stage.remove_outs(ignore_remove=False, force=False)
        self._repo.stage_cache.restore(stage)

    def watch(self, names: Collection[str]) -> None:
        """Note the inputs that stages find, before the scripts of these run in this order."""
        written = {out.def_path for name in names for out in self._stages[name].outs}
        with self._alone():
            self._list_code_again()
            for name in names:
                inputs = [dep for dep in self._stages[name].deps if dep.def_path not in written]
                self._inputs[name] = [(dep, _checksum(dep)) for dep in inputs]

    def commit(self, names: Collection[str]) -> list[str]:
        """Tell DVC that the scripts of stages have run: their outputs go to its cache, their
        entries to dvc.lock. Those whose inputs were changed meanwhile are left out and returned."""
        with self._alone():
            self._list_code_again()
            changed = [
                name
                for name in names
                if any(_checksum(dep) != before for dep, before in self._inputs[name])
            ]
            self._commit([self._stages[name] for name in names if name not in changed])
        return changed

    def _list_code(self) -> None:
        """Bring the folder `code` up to date with the code as it is now."""
        changed = code.write(self._root, code.texts(self._root, self._study))
        if changed:
            self._say(f"code: changed: {', '.join(map(str, changed))}")

    def _list_code_again(self) -> None:
        """The same while scripts run, which an edit that is half done must not end."""
        try:
            self._list_code()
        except code.BadCode as error:
            self._say(f"code: left as it was listed: {error}")

    def _commit(self, stages: list[Any]) -> None:
        from dvc.stage.serialize import to_lockfile
        from dvc.utils.serialize import dumps_yaml

        entries: lockfile.Entries = {}
        for stage in stages:
            # As DVC itself does: no copies of the reports in its cache.
            keep = all(out.use_cache or out.is_metric or out.is_plot for out in stage.outs)
            stage.save(run_cache=keep)
            stage.commit()
            text: str = dumps_yaml({"schema": "2.0", "stages": to_lockfile(stage)})
            entries |= lockfile.parse(text)
        if entries:
            entries = lockfile.read(self._root) | entries
            lockfile.write(lockfile.arranged(entries, self._first, self._stages), self._root)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold DVC's lock, which it has at all times but while the command of a stage runs."""
        from dvc.lock import LockError

        announced = False
        while True:
            try:
                self._repo.lock.lock()
                break
            except LockError:  # after three seconds
                if not announced:
                    self._say("DVC is at work in this clone; waiting until it lets go of dvc.lock")
                announced = True
        try:
            yield
        finally:
            self._repo.lock.unlock()


def _changed(stage: Any) -> bool:
    """Whether DVC would run the stage; one whose inputs are not there yet certainly."""
    if any(not out.exists for out in stage.outs):
        return True
    try:
        return bool(stage.changed())
    except OSError:
        return True


def _checksum(dep: Any) -> Any:
    """The checksum of a dependency, or the values of parameters; None if it is not there."""
    try:
        return dep.get_hash().value
    except OSError:
        return None
