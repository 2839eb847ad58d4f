"""
Many visitors of a web site at once (long: set C{PEERCRED_LONG_TESTS=1}).
"""

import json
from unittest import skipIf

from twisted.web.resource import Resource
from twisted.web.server import Site

from twisted_peercred import Capture, CredentialedUNIXServerFactory, IPeerCredentials

from .support import (
    LiveTestCase,
    needsLongRun,
    needsRoot,
    openDescriptors,
    runClient,
)

VISITORS = 50
ANSWERS = 20_000

#: Visitors of different users, all connected at once, each on one connection
#: that is kept; up to eight requests are under way.  Says how many answers
#: named the right user and the right request.
CLIENT = """
import random
visitors, each = map(int, sys.argv[2:4])
waitOut, waitIn = os.pipe()
saidOut, saidIn = os.pipe()
for number in range(visitors):
    if os.fork():
        continue
    os.close(waitIn)
    uid = 100_000 + 7919 * number
    become(uid, 50_000 + number)
    peer = connect()
    os.read(waitOut, 1)
    generator = random.Random(uid)
    answers = peer.makefile("rb")
    good = sent = received = 0
    while received < each:
        batch = min(generator.randint(1, 8), each - sent)
        peer.sendall(b"".join(
            b"GET /%d HTTP/1.1\\r\\nHost: x\\r\\nX-Uid: 0\\r\\n\\r\\n" % (sent + more)
            for more in range(batch)))
        sent += batch
        for _ in range(batch):
            length = 0
            while (line := answers.readline()) not in (b"\\r\\n", b""):
                name, _, value = line.partition(b": ")
                if name.lower() == b"content-length":
                    length = int(value)
            good += answers.read(length) == b"%d /%d" % (uid, received)
            received += 1
    os.write(saidIn, struct.pack("I", good))
    os._exit(0)
os.close(saidIn)
os.close(waitOut)
os.close(waitIn)
said = b""
while (more := os.read(saidOut, 4096)):
    said += more
print(json.dumps([good for good, in struct.iter_unpack("I", said)]))
"""


class Who(Resource):
    """
    Names the user and the request.
    """

    isLeaf = True

    def render_GET(self, request):
        return b"%d %b" % (IPeerCredentials(request).uid, request.path)


@skipIf(needsLongRun, needsLongRun)
@skipIf(needsRoot, needsRoot)
class LoadTests(LiveTestCase):
    """
    Tests under load.
    """

    timeout = 600

    async def test_manyVisitors(self) -> None:
        """
        20,000 answers to 50 users at once, on connections that are kept: each
        names the right one.
        """
        for capture in (Capture.CONNECT, Capture.EVERY_MESSAGE):
            site = Site(Who())
            site.noisy = False
            address = self.listen(
                CredentialedUNIXServerFactory(site, capture=capture), mode=0o666
            )
            before = openDescriptors()
            said = await runClient(
                address, CLIENT, str(VISITORS), str(ANSWERS // VISITORS), timeout=500
            )
            self.assertEqual(json.loads(said), [ANSWERS // VISITORS] * VISITORS)
            await self.until(lambda: openDescriptors() == before)
            print(f"{capture.value}: {ANSWERS} answers to {VISITORS} users good")
