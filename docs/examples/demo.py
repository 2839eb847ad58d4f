"""
Starts C{twistd peercred-echo} on a temporary socket, connects as the current
user (and as nobody, too, when that is root) and shows both sides.  What
C{make demo} runs.
"""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time


def converse(path):
    """
    Connect, say hello, and print what comes back.
    """
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(10)
        peer.connect(path)
        peer.sendall(b"hello\n")
        peer.shutdown(socket.SHUT_WR)
        with peer.makefile() as lines:
            for line in lines:
                print("  client reads:", line, end="", flush=True)


def converseAs(name, path):
    """
    The same in a process of another user.
    """
    user = pwd.getpwnam(name)
    pid = os.fork()
    if not pid:
        try:
            os.setgroups([user.pw_gid])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            converse(path)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def waitFor(path, server):
    """
    Wait until the server listens.
    """
    for _ in range(200):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as peer:
            peer.connect(path)
            return
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit("the server did not start")


def main():
    """
    Both sides.
    """
    directory = tempfile.mkdtemp(prefix="peercred-demo")
    path = os.path.join(directory, "s")
    log = os.path.join(directory, "log")
    os.chmod(directory, 0o755)
    command = f"twistd -n --pidfile= --logfile={log}".split()
    command += ["peercred-echo", "--endpoint", f"unix:{path}:mode=666"]
    print("$", *command, flush=True)
    # The one that belongs to this Python.
    command[0] = os.path.join(os.path.dirname(sys.executable), command[0])
    server = subprocess.Popen(command, cwd=directory)
    try:
        waitFor(path, server)
        print(f"as {pwd.getpwuid(os.getuid()).pw_name}:", flush=True)
        converse(path)
        if os.getuid() == 0:
            print("as nobody:", flush=True)
            if not converseAs("nobody", path):
                raise SystemExit("nobody was not served")
    finally:
        server.terminate()
        server.wait()
        print("the server's log:")
        with contextlib.suppress(FileNotFoundError), open(log) as lines:
            for line in lines:
                print("  " + line, end="")
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
