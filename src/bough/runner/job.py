"""One claimed agent, from its worktree to its recorded end.

Guarantees: the program starts only in a worktree of its own; when it ends, whatever it left is
committed before the agent is completed or failed; a runner that has lost the agent touches neither
its worktree nor its record again. While PostgreSQL is away the program goes on.
"""

import asyncio
import contextlib
import logging
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bough.client.errors import AgentEnded, BoughError, StaleLease
from bough.client.insist import insist, parked
from bough.client.rows import Claimed, Json
from bough.client.runner_calls import RunnerClient
from bough.runner.door import door_of
from bough.runner.drivers import launch_of
from bough.runner.environment import environment_of
from bough.runner.launch import Own, own_directory
from bough.runner.models import ModelDoor, withheld
from bough.runner.presets.preset import NoKey, UnknownProgram
from bough.runner.programs import program
from bough.runner.programs.output import Batches
from bough.runner.programs.strays import boot_id, kill_strays
from bough.runner.spares import Spares
from bough.runner.workplace import NOT_SAVED, Failure, Workplace

_log = logging.getLogger(__name__)
_TAIL_CHARS = 2000
GRACE_S = 5.0
_MOST_KILLED = 3


class Job:
    """Runs one agent; the runner tells it when others have stopped or paused the agent."""

    def __init__(
        self,
        client: RunnerClient,
        agent: Claimed,
        home: Path,
        *,
        url: str | None = None,
        spares: Spares | None = None,
        models: ModelDoor | None = None,
    ) -> None:
        self.agent = agent
        self.park_at_end: dict[str, Any] | None = None
        self._client = client
        self._workplace = Workplace(client, agent, home, spares)
        self._directory = own_directory(home, str(agent.id))
        self._name = agent.driver
        self._url = url
        self._models = models
        self._program: program.Program | None = None
        self._resumes = False
        self._killed = 0
        self._paused = False
        self._dropped: str | None = None
        self._tail: deque[str] = deque(maxlen=50)

    async def run(self) -> None:
        """Do everything; raises only what is a defect or a lost database."""
        event = {"event": "agent.lost", "agent_id": str(self.agent.id)}
        try:
            await self._work_and_finish()
        except (StaleLease, AgentEnded) as error:
            # Somebody else decided; the kernel has kept what we had to say.
            _log.info("agent %s: %s", self.agent.id, error, extra=event)
        finally:
            await self._workplace.close()

    async def _work_and_finish(self) -> None:
        while await self._work_once():
            pass

    async def _work_once(self) -> bool:
        """Run the program to its end and record that; True when it is to run once more."""
        try:
            ended = await self._work()
            # Who has lost the agent hears it again when it reports the end, which is then kept.
            with contextlib.suppress(StaleLease):
                await self._workplace.save(lost=self._dropped == "lost")
        except Failure as failure:
            if self._dropped is None:
                # What a set-up wrote is kept too, for whoever looks for the reason.
                with contextlib.suppress(Failure, StaleLease):
                    await self._workplace.save(lost=failure.code == NOT_SAVED)
                await self.fail(failure.code, failure.message)
                return False
            event = {"event": f"agent.{failure.code}", "agent_id": str(self.agent.id)}
            _log.warning("agent %s: %s", self.agent.id, failure.message, extra=event)
        else:
            # What ended by itself has ended, even if it was to be stopped in the same moment.
            if self._dropped is None or ended.reason == "exited":
                if self.park_at_end and ended.code == 0:
                    return not await self._parked()
                if self._goes_on(ended):
                    return True
                await self._finish(ended)
        return False

    def _goes_on(self, ended: program.Exit) -> bool:
        """Whether a program that was killed is started again, where it was."""
        killed = ended.reason in ("exited", "keeper_lost") and ended.code is None
        if not killed or not self._resumes or self._killed >= _MOST_KILLED:
            return False
        self._killed += 1
        event = {"event": "agent.program_killed", "agent_id": str(self.agent.id)}
        _log.warning("agent %s: its program was killed, it goes on", self.agent.id, extra=event)
        return True

    async def _parked(self) -> bool:
        """Park as the program asked; False when what it waits for has happened already."""
        conditions, self.park_at_end = self.park_at_end or {}, None
        return await parked(self._client, conditions, lambda: self._dropped is not None)

    def pause(self, *, on: bool) -> None:
        """Hold the program, or let it go on."""
        if on == self._paused:
            return
        self._paused = on
        if self._program:
            self._program.pause() if on else self._program.resume()

    async def drop(self, reason: str) -> None:
        """Stop the program: the agent was ended, is handed back, or is no longer ours ("lost")."""
        self._dropped = self._dropped or reason
        if self._program:
            await self._program.stop(grace_s=GRACE_S, reason=reason)

    async def _work(self) -> program.Exit:
        agent = self.agent
        if agent.lease_epoch > 1:
            await self._end_predecessor()
        place = await self._workplace.open()
        deadline_s = self._remaining_s()
        if self._dropped:
            return program.Exit(None, None, self._dropped, 0.0)
        env = environment_of(agent, workspace=place, withheld=withheld(self._models))
        env |= self._workplace.variables
        stopped = await self._set_up(place, env)
        if stopped:
            return stopped
        env |= await door_of(self._client, agent, self._url, self._models, env)
        argv = self._prepare(env)
        return await self._drive(argv, place, env, deadline_s)

    async def _set_up(self, place: Path, env: dict[str, str]) -> program.Exit | None:
        """Do what the repository asks for in a new worktree; the exit if it was stopped in it."""
        most = float(self._workplace.settings.setup_timeout_s)
        for line in self._workplace.to_set_up:
            ended = await self._drive(["sh", "-c", line], place, env, most)
            if self._dropped:
                return ended
            if ended.code != 0:
                what = f"exit code {ended.code}" if ended.code is not None else ended.reason
                last = "".join(self._tail).strip().splitlines()[-1:] or ["it printed nothing"]
                message = f"the set-up `{line}` ended with {what}: {last[0][:500]}"
                raise Failure("setup_failed", f"{message} (bough.toml [workspace] setup)")
        self._workplace.is_set_up()
        self._tail.clear()
        return None

    async def _drive(
        self, argv: list[str], place: Path, env: dict[str, str], deadline_s: float | None
    ) -> program.Exit:
        """Run one program to its end, its output kept; stopped with the agent."""
        batches = Batches(self._write)
        try:
            running = await program.start(
                argv, cwd=place, env=env, output=batches.add, deadline_s=deadline_s
            )
        except program.CannotStartError as error:
            await batches.close()
            raise Failure("program_not_started", str(error)) from error
        self._program = running
        if self._dropped:
            await running.stop(grace_s=GRACE_S, reason=self._dropped)
        if self._paused:
            running.pause()
        recording = asyncio.create_task(self._record(running.identity))
        try:
            ended = await running.wait()
            with contextlib.suppress(StaleLease):
                await batches.close()
        except (StaleLease, AgentEnded):
            await running.stop(grace_s=GRACE_S, reason="lost")
            raise
        finally:
            await recording
        return ended

    def _prepare(self, env: dict[str, str]) -> list[str]:
        """The command line, once its files are there and its variables are in env."""
        own = Own(self._directory, env)
        try:
            launch = launch_of(self.agent, own)
            launch.put(own)
        except NoKey as error:
            raise Failure("no_key", str(error)) from error
        except UnknownProgram as error:
            raise Failure("unknown_driver", str(error)) from error
        except OSError as error:
            raise Failure("program_not_started", f"{error.filename}: {error.strerror}") from error
        env |= launch.env
        self._name, self._resumes = launch.argv[0], launch.resumes
        return launch.argv

    def _remaining_s(self) -> float | None:
        agent = self.agent
        if agent.timeout_s is None:
            return None
        if agent.lease_epoch == 1 and not self._killed:
            return float(agent.timeout_s)
        remaining = agent.timeout_s - (datetime.now(UTC) - agent.started_at).total_seconds()
        if remaining <= 0:
            raise Failure(
                "deadline", f"its time-out of {agent.timeout_s} s passed while no runner had it"
            )
        return remaining

    async def _end_predecessor(self) -> None:
        boot = boot_id()
        strays = await insist(lambda: self._client.strays(boot))
        for stray in strays:
            if stray.agent_id == self.agent.id:
                identity = program.Identity(stray.pid, stray.process_start, boot)
                await kill_strays(identity, f"{program.MARKER}={self.agent.id}")

    async def _record(self, identity: program.Identity) -> None:
        try:
            await insist(
                lambda: self._client.record_program(
                    self.agent.id,
                    epoch=self.agent.lease_epoch,
                    pid=identity.pid,
                    process_start=identity.started,
                    boot_id=identity.boot_id,
                )
            )
        except BoughError as error:
            event = {"event": "program.not_recorded", "agent_id": str(self.agent.id)}
            _log.warning("agent %s: %s", self.agent.id, error, extra=event)

    async def _write(self, stream: str, text: str) -> None:
        self._tail.append(text[-_TAIL_CHARS:])
        await insist(
            lambda: self._client.log(
                self.agent.id, epoch=self.agent.lease_epoch, streams=[stream], contents=[text]
            )
        )

    async def _finish(self, ended: program.Exit) -> None:
        agent = self.agent
        result: Json = {
            "exit_code": ended.code,
            "duration_s": round(ended.duration_s, 3),
            "output_tail": "".join(self._tail)[-_TAIL_CHARS:],
        }
        if ended.code == 0 and ended.reason == "exited":
            await insist(
                lambda: self._client.complete(agent.id, epoch=agent.lease_epoch, result=result)
            )
            return
        name = self._name
        if ended.reason == "deadline":
            code, message = (
                "deadline",
                f"{name} was stopped after {agent.timeout_s} s, its time-out",
            )
        elif ended.signal is not None:
            code, message = "program_killed", f"{name} was ended by signal {ended.signal}"
        elif ended.code is None:
            code, message = "program_lost", f"{name} was killed together with its keeper"
        else:
            code, message = "program_failed", f"{name} ended with exit code {ended.code}"
        await self.fail(code, message, result)

    async def fail(self, code: str, message: str, result: Json | None = None) -> None:
        """Record that the agent could not do its task."""
        agent = self.agent
        await insist(
            lambda: self._client.fail(
                agent.id, epoch=agent.lease_epoch, code=code, message=message, result=result
            )
        )
