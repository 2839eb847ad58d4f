"""
Mutants that no test can notice, or none should, and why.
"""

from typing import NamedTuple


class Explained(NamedTuple):
    """
    @ivar module: as in L{tests.mutation.__main__.TESTS}.
    @ivar was: a part of the line that is mutated.
    @ivar operators: cosmic-ray's names for the mutations, a regular expression.
    @ivar became: a regular expression found in the line when it is mutated, for
        where it matters what it became.
    """

    module: str
    was: str
    operators: str
    reason: str
    became: str = ""


EXPLAINED = (
    Explained(
        "limits",
        "if self._taken == self.limit:",
        "ReplaceComparisonOperator_Eq_GtE",
        "same: there are never more than the limit",
    ),
    Explained(
        "limits",
        "-next(iter(guests.values()))",
        "ReplaceUnaryOperator_USub_Invert",
        "same: ~n is -n - 1, which sorts alike",
    ),
    Explained(
        "limits",
        "if self._taken[uid] >= self.limit:",
        "ReplaceComparisonOperator_GtE_Eq",
        "same: there are never more than the limit",
    ),
    Explained(
        "policy",
        "@dataclass(frozen=True, slots=True)",
        "ReplaceTrueWithFalse",
        "memory alone, and that a policy's own note of a user is frozen, which"
        " nobody else sees; a test holds that a decision is",
    ),
    Explained(
        "policy",
        "len(each.conditions) == 1 and isinstance(each.conditions[0], _CERTAIN)",
        "NumberReplacer|ReplaceComparisonOperator_Eq_(Is|Lt|LtE)",
        "speed: a rule that is certain is looked at again, which decides the same;"
        " and one condition is the first and the last, no rule has none",
    ),
    Explained(
        "policy",
        "alone = len(rule.conditions) == 1",
        "ReplaceComparisonOperator_Eq_(Is|LtE)",
        "same: no rule has no condition, and CPython has each small int once",
    ),
    Explained(
        "policy",
        "type(self) is type(other)",
        "ReplaceComparisonOperator_Is_Eq",
        "same: classes are equal where they are the same",
    ),
    Explained(
        "kernels/linux",
        "= 256",
        "NumberReplacer",
        "memory: one answer more or less is kept",
    ),
    Explained(
        "kernels/linux",
        "len(self._kept) >= KEPT",
        "ReplaceComparisonOperator_GtE_(Eq|Is)",
        "same: there are never more, and CPython has each small int once",
    ),
    Explained(
        "kernels/linux",
        "len(data) != UCRED_SIZE",
        "ReplaceComparisonOperator_NotEq_IsNot",
        "same: CPython has each small int once",
    ),
    Explained(
        "kernels/linux",
        "if uid == NO_ID or gid == NO_ID:",
        "ReplaceComparisonOperator_Eq_GtE",
        "same: a u32 is no greater",
    ),
    Explained(
        "kernels/linux",
        "self._kept.get((ancillary[0], capture))",
        "NumberReplacer",
        "same: there is one, the first and the last",
    ),
    Explained(
        "kernels/linux",
        "if pid == uid == gid == 0:",
        "ReplaceComparisonOperator_Eq_LtE",
        "same: a u32 is no less",
    ),
    Explained(
        "kernels/linux",
        "CMSG_SPACE(4096)",
        "NumberReplacer",
        "same: the kernel's 253 descriptors take 1,012 bytes",
    ),
    Explained(
        "kernels/linux",
        ">= NO_ID",
        "ReplaceComparisonOperator_GtE_Eq",
        "same: the kernel maps no ID twice, so there are never more",
    ),
    Explained(
        "kernels/linux",
        "error.errno != errno.E",
        "ReplaceComparisonOperator_NotEq_IsNot",
        "same: CPython has each small int once",
    ),
    Explained(
        "kernels/linux",
        "if level != socket.SOL_SOCKET",
        "ReplaceComparisonOperator_NotEq_IsNot",
        "same: CPython has each small int once",
    ),
    Explained(
        "kernels/linux",
        "kind == SCM_",
        "ReplaceComparisonOperator_Eq_Is",
        "same: CPython has each small int once",
    ),
    Explained(
        "kernels/linux",
        "if pid == uid == gid == 0:",
        "ReplaceComparisonOperator_Eq_Is",
        "same where it counts: CPython has 0 once",
    ),
    Explained(
        "kernels/linux",
        "capture is not Capture.CONNECT",
        "ReplaceComparisonOperator_IsNot_NotEq",
        "same: a member of an Enum is equal to itself alone",
    ),
    Explained(
        "kernels/linux",
        "self.receiveMessage(ours, 1, False,",
        "NumberReplacer|ReplaceFalseWithTrue",
        "same: a message of one byte without descriptors is read",
        r"ours, 2,|1, True,",
    ),
    Explained(
        "kernels/linux",
        "known(self.options.passCred), 1)",
        "NumberReplacer",
        "same: any number but 0 is on (socket(7))",
        r", 2\)",
    ),
    Explained(
        "kernels/linux",
        "if data and len(ancillary) == 1 and not flags:",
        "ReplaceUnaryOperator_Delete_Not",
        "speed, of a look: the long way comes to the same writer",
    ),
    Explained(
        "kernels/linux",
        "kind == SCM_PIDFD else",
        "ReplaceComparisonOperator_Eq_GtE",
        "same: the other kind there is less",
    ),
    Explained(
        "kernels/linux",
        "credentials[0]",
        "NumberReplacer",
        "same: they are all alike there",
    ),
    Explained(
        "kernels/linux",
        "if pid == 0 and uid in self._overflow",
        "ReplaceComparisonOperator_Eq_LtE",
        "same: the kernel gives no negative PID",
    ),
    Explained(
        "server",
        "self._ports <= 0",
        "ReplaceComparisonOperator_LtE_Eq",
        "same: no more ports stop than have started",
    ),
    Explained(
        "server",
        "is Factory.buildProtocol",
        "ReplaceComparisonOperator_Is_Eq",
        "same: a function is equal to itself alone",
    ),
    Explained(
        "server",
        "self._capture is not Capture.CONNECT",
        "ReplaceComparisonOperator_IsNot_NotEq",
        "same: a member of an Enum is equal to itself alone",
    ),
    Explained(
        "arrival",
        "known.capture is Capture.",
        "ReplaceComparisonOperator_Is_Eq",
        "same: a member of an Enum is equal to itself alone",
    ),
    Explained(
        "arrival",
        "result is main.CONNECTION_DONE",
        "ReplaceComparisonOperator_Is_Eq",
        "same: an exception is equal to itself alone",
    ),
    Explained(
        "arrival",
        "transport.socket.recv(1, socket.MSG_PEEK)",
        "NumberReplacer",
        "same: it is looked at whether there is a byte, and left where it is",
        r"recv\( ?2,",
    ),
    Explained(
        "arrival",
        "if type(answer) is Decision and",
        "ReplaceComparisonOperator_Is_(Eq|Gt)",
        "speed: what is no admission here is looked at again by what knows all answers",
    ),
    Explained(
        "arrival",
        "is not answer:",
        "ReplaceComparisonOperator_IsNot_NotEq",
        "same: a Deferred is equal to itself alone",
    ),
    Explained(
        "arrival",
        "if expelled is self:",
        "ReplaceComparisonOperator_Is_Eq",
        "same: an Arrival is equal to itself alone",
    ),
    Explained(
        "arrival",
        "known is self._transport.connectionCredentials",
        "ReplaceComparisonOperator_Is_Eq",
        "same: credentials of another capture are others",
    ),
    Explained(
        "arrival",
        "while len(self._sync) < len(",
        "ReplaceComparisonOperator_Lt_NotEq",
        "same: no more is read than is missing",
    ),
    Explained(
        "arrival",
        "if self._policy is not None and known.capture is",
        "ReplaceAndWithOr",
        "same: what is set is made use of with both alone",
    ),
    Explained(
        "arrival",
        "poll.poll(0)",
        "NumberReplacer",
        "same: a millisecond",
    ),
    Explained(
        "arrival",
        "sock.recv(1, socket.MSG_OOB",
        "NumberReplacer",
        "same: there is one such byte at a time",
        "recv\\( ?2",
    ),
    Explained(
        "rules",
        "slots=True",
        "ReplaceTrueWithFalse",
        "memory",
        "slots=False",
    ),
    Explained(
        "rules",
        "if end != len(value):",
        "ReplaceComparisonOperator_NotEq_Lt",
        "same: no match ends behind its text",
    ),
    Explained(
        "rules",
        "return UserIn(text, 0, 0)",
        "NumberReplacer",
        "same: no uid is less than 0",
        "-1, 0",
    ),
    Explained(
        "rules",
        'if word == "uid" else GroupIn',
        "ReplaceComparisonOperator_Eq_GtE",
        "same: it is one of two words there",
    ),
    Explained(
        "rules",
        "if len(digits) > 10 or",
        "NumberReplacer",
        "speed: a number of eleven digits is too great as well",
        "> 11",
    ),
    Explained(
        "rules",
        "if answer is False:",
        "ReplaceComparisonOperator_Is_Eq",
        "same: a condition says True, False or None",
    ),
    Explained(
        "arrival",
        "self._decided(answers[0],",
        "NumberReplacer",
        "same: there is one, the first and the last",
    ),
    Explained(
        "arrival",
        "socket.MSG_OOB | socket.MSG_PEEK",
        "ReplaceBinaryOperator_BitOr_(Add|BitXor)",
        "same: the two have no bit in common",
    ),
)
