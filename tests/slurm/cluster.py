"""A real Slurm on this machine: virtual nodes with fake GPUs, without systemd, cgroups or accounts.

    python -m tests.slurm.cluster FOLDER      until Ctrl-C; then use sbatch, squeue and Snakemake

Needs root on Debian or Ubuntu, whose packages it installs if they are not there.
"""

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

PACKAGES = ("slurm-wlm", "munge")
# Jobs look for the configuration here: Snakemake's job step drops SLURM_CONF from the environment.
CONFIGURATION = Path("/etc/slurm")
SECONDS = 60  # for daemons to come up

# What the nodes claim to have, so that a profile for a real cluster fits. Slurm looks at the memory
# that jobs take every second.
NODE = "CPUs=64 CoresPerSocket=64 RealMemory=500000"

# A job whose node went down waits until its credential is over: longer than KillWait, or what is left
# of it would still run when it starts again.
SLURM_CONF = """\
ClusterName=virtual
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={folder}/munge.socket,cred_expire=20
StateSaveLocation={folder}/controller
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/controller.log
SlurmdLogFile={folder}/%n.log
SlurmctldPort=16817
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=10
GresTypes=gpu
"""


def needs() -> str | None:
    """What this machine lacks, as a sentence; None if a cluster can be started."""
    if os.geteuid() != 0:
        return "a Slurm cluster can only be started by root"
    if shutil.which("slurmctld") is None and shutil.which("apt-get") is None:
        return f"Slurm has to be installed, or apt-get to install {' and '.join(PACKAGES)} with"
    if (CONFIGURATION / "slurm.conf").exists():
        return f"{CONFIGURATION}/slurm.conf exists, so this machine has a Slurm of its own"
    return None


def install() -> None:
    """Install Slurm, if it is not there."""
    if shutil.which("slurmctld") is None or shutil.which("munged") is None:
        _run("apt-get", "update", "-qq")
        _run("apt-get", "install", "-qq", "--no-install-recommends", *PACKAGES)


@contextmanager
def cluster(folder: Path, nodes: int = 4, gpus: int = 2) -> Iterator[Callable[[], None]]:
    """Run a cluster; logs in ``folder``. Partitions ``cpu`` and ``gpu`` are the same nodes, all but the
    last, which is ``spare``. What it yields restarts the controller.

    munged wants every user to be able to enter the folder and those above it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    daemons: list[subprocess.Popen] = []
    links: list[Path] = []

    def start(*command: str) -> subprocess.Popen:
        output = open(folder / f"{Path(command[0]).name}.out", "a")  # noqa: SIM115 (the daemon's)
        daemon = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        daemons.append(daemon)
        return daemon

    def restart() -> None:
        controller.terminate()  # it saves its jobs; those of its last seconds would be lost by a kill
        controller.wait()
        start("slurmctld", "-D")
        _wait(folder, lambda: _output("sinfo", "-hNp", "cpu"))

    try:
        _start_munge(folder, start)
        links += _configure(folder, [f"node{number + 1}" for number in range(nodes)], gpus)
        controller = start("slurmctld", "-D")
        for number in range(nodes):
            start("slurmd", "-D", "-N", f"node{number + 1}")
        _wait(folder, lambda: set(_output("sinfo", "-hN", "-o", "%t").split()) == {"idle"})
        yield restart
    finally:
        with suppress(subprocess.SubprocessError):
            subprocess.run(["scancel", "--user=root"], timeout=10, check=False)
            time.sleep(1)
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in reversed(daemons):
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(20)
            daemon.kill()
        _kill_jobs()
        for link in links:
            link.unlink()


def _kill_jobs() -> None:
    """What Slurm no longer knows of: jobs of a node that was down."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if re.fullmatch(r"node\d+", process.environ().get("SLURMD_NODENAME", "")):
                process.kill()


def _start_munge(folder: Path, start: Callable[..., None]) -> None:
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(1024))
    options = {"key-file": key, "socket": folder / "munge.socket"}
    options |= {f"{name}-file": folder / f"munge.{name}" for name in ("pid", "log", "seed")}
    start("munged", "--foreground", *(f"--{name}={path}" for name, path in options.items()))
    _wait(folder, lambda: _output("munge", "-n", "-S", str(folder / "munge.socket")))


def _configure(folder: Path, nodes: list[str], gpus: int) -> list[Path]:
    """Write the three configuration files; returns the links to them, where Slurm looks."""
    host = socket.gethostname().partition(".")[0]
    slurm = SLURM_CONF.format(host=host, folder=folder)
    gres = "AutoDetect=off\n"
    for number, node in enumerate(nodes):
        (folder / node).mkdir()
        slurm += (
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={16820 + number} "
            f"{NODE} Gres=gpu:{gpus}\n"
        )
        for gpu in range(gpus):
            # A gres named gpu needs a device file: this is /dev/null under another name.
            device = folder / f"{node}-gpu{gpu}"
            os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
            gres += f"NodeName={node} Name=gpu File={device}\n"
    *most, last = nodes
    for partition, members in (("cpu Default=YES", most), ("gpu", most), ("spare", [last])):
        slurm += f"PartitionName={partition} Nodes={','.join(members)} MaxTime=1-0\n"
    files = {"slurm": slurm, "gres": gres, "cgroup": "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n"}
    CONFIGURATION.mkdir(exist_ok=True)
    links = []
    for name, text in files.items():
        (folder / f"{name}.conf").write_text(text)
        links.append(CONFIGURATION / f"{name}.conf")
        links[-1].unlink(missing_ok=True)  # of a cluster that was killed
        links[-1].symlink_to(folder / f"{name}.conf")
    return links


def _wait(folder: Path, ready: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not ready():
        if time.monotonic() > end:
            logs = [*folder.glob("*.out"), *folder.glob("*.log")]
            last = "".join(f"\n{log.name}:\n{log.read_text()[-500:]}" for log in logs)
            sys.exit(f"error: the cluster did not come up in {SECONDS} s{last}")
        time.sleep(0.2)


def _output(*command: str) -> str:
    """What a command prints; nothing if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return "" if done.returncode else done.stdout


def _run(*command: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-1000:]}{done.stderr[-2000:]}")


def main() -> None:
    if reason := needs():
        sys.exit(f"error: {reason}")
    install()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # by way of stopping the daemons
    with cluster(Path(sys.argv[1]).resolve()):
        print("The cluster is up; Ctrl-C ends it.", flush=True)
        with suppress(KeyboardInterrupt):
            while True:
                time.sleep(60)


if __name__ == "__main__":
    main()
