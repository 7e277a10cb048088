"""A real SLURM of one node for tests: its own munge key, configuration and folder, loopback only, no systemd.

It needs Debian's packages slurmctld, slurmd, slurm-client and munge, installed but not running, and nothing else: no
cgroups, no accounting database. Whoever starts it is its administrator.
"""

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

CONFIGURATION = """
ClusterName=lnsub
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser={user}
SlurmdUser={user}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
CryptoType=crypto/munge
# cred_expire is also how long a job that is queued again waits before it starts; below 5 it is 120 s.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait=30
MinJobAge=3600
PropagateResourceLimits=NONE
{gres_types}NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} {gres}State=UNKNOWN
PartitionName=test Nodes=localhost Default=YES MaxTime=INFINITE DefaultTime=30 State=UP
"""


def missing() -> list[str]:
    """The programs that are needed and not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]


class SlurmNode:
    """One node under a controller of its own, from the time it is made until :meth:`stop`.

    Args:
        cpus: how many CPUs the node says it has; may be more than there are.
        gpus: how many GPUs it says it has; there need not be any.
    """

    def __init__(self, cpus: int, gpus: int = 0) -> None:
        # Directly below /tmp, as the path of a socket must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="lnsub-slurm-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))},
            "PATH": PATH,
            "SLURM_CONF": str(self.folder / "slurm.conf"),
        }
        self._daemons: list[subprocess.Popen[bytes]] = []
        try:
            self._start(cpus, gpus)
        except BaseException:
            self.stop()
            raise

    def _start(self, cpus: int, gpus: int) -> None:
        f = self.folder
        for name in ("state", "spool"):
            (f / name).mkdir()
        key = f / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(1024))
        controller, daemon = _free_ports(2)
        if gpus:
            # slurmd counts a GPU by its device's file; without cgroups any file will do.
            for number in range(gpus):
                (f / f"gpu{number}").touch()
            (f / "gres.conf").write_text(f"NodeName=localhost Name=gpu File={f}/gpu[0-{gpus - 1}]\n")
        (f / "slurm.conf").write_text(
            CONFIGURATION.format(
                host=socket.gethostname().split(".")[0],
                user=getpass.getuser(),
                folder=f,
                cpus=cpus,
                controller=controller,
                daemon=daemon,
                gres_types="GresTypes=gpu\n" if gpus else "",
                gres=f"Gres=gpu:{gpus} " if gpus else "",
            )
        )
        files = {"key": key, "socket": f / "munge.socket", "pid": f / "munge.pid", "log": f / "munge.log"}
        options = [f"--{name}{'' if name == 'socket' else '-file'}={path}" for name, path in files.items()]
        self._spawn("munged", "--foreground", *options, f"--seed-file={f / 'munge.seed'}")
        self._wait_for(lambda: files["socket"].is_socket(), "munged's socket")
        self._spawn("slurmctld", "-D", "-c", "-f", str(f / "slurm.conf"))
        self._spawn("slurmd", "-D", "-c", "-f", str(f / "slurm.conf"))
        self._wait_for(lambda: self.run("sinfo", "-h", "-N", "-o", "%T", check=False).strip() == "idle", "an idle node")

    def _spawn(self, *command: str) -> None:
        with (self.folder / f"{command[0]}.out").open("wb") as out:
            self._daemons.append(
                subprocess.Popen(
                    command,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    def _wait_for(self, condition: object, what: str, seconds: float = 60) -> None:
        assert callable(condition)
        end = time.monotonic() + seconds
        while not condition():
            dead = [daemon.args for daemon in self._daemons if daemon.poll() is not None]
            if dead or time.monotonic() > end:
                logs = "\n".join(path.read_text(errors="replace")[-1500:] for path in self.folder.glob("*.out"))
                raise RuntimeError(f"SLURM did not start: no {what}; ended: {dead}\n{logs}")
            time.sleep(0.2)

    def run(self, *command: str, check: bool = True, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
        """Runs a command as a user of this SLURM; returns what it printed."""
        done = subprocess.run(
            command,
            env={**self.environment, **(env or {})},
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def jobs(self, job: str) -> dict[str, dict[str, str]]:
        """What SLURM says of a job's tasks by their number, ``""`` for a job that is no array."""
        found = {}
        for line in self.run("scontrol", "show", "job", "-o", job).splitlines():
            fields = dict(part.split("=", 1) for part in line.split() if "=" in part)
            found[fields.get("ArrayTaskId", "")] = fields
        return found

    def wait(self, jobs: Sequence[str], seconds: float) -> None:
        """Waits until jobs have ended, whatever came of them."""
        end = time.monotonic() + seconds
        while (left := self.run("squeue", "-h", "-o", "%i %T %M %r", "-j", ",".join(jobs), check=False)).strip():
            if time.monotonic() > end:
                raise TimeoutError(f"not done after {seconds} s:\n{left}")
            time.sleep(0.5)

    def stop(self) -> None:
        """Ends its jobs and its daemons, and removes its folder."""
        if len(self._daemons) == 3:
            self.run("scancel", "--user", getpass.getuser(), check=False)
            self.run("scancel", "--full", "--signal=KILL", "--user", getpass.getuser(), check=False)
            end = time.monotonic() + 15
            while self.run("squeue", "-h", check=False).strip() and time.monotonic() < end:
                time.sleep(0.2)
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
