"""What fuzz.py does not compare, and the differences that have a reason."""

import re

# Fields of any answer: times, addresses, sizes on disk, texts, and what each offers.
LEFT_OUT = {
    "ThrottleTimeMs", "ClusterId", "Host", "Port", "LogDir", "TotalBytes", "UsableBytes", "SessionId", "Records",
    "LogAppendTimeMs", "Documentation", "CurrentLeader", "NodeEndpoints", "PartitionSize", "FinalizedFeaturesEpoch", "ApiKeys", "SupportedFeatures",
    "FinalizedFeatures",
}
# Settings that Odradek alone has, or that are each node's own.
OWN_SETTINGS = {"durability", "log.dirs"}
# Arrays whose absence says what an empty one says.
NULL_IS_EMPTY = {"AbortedTransactions"}
# Errors that pass: a coordinator that loads, a partition that a broker of Apache Kafka does not lead yet.
PASSING = {6, 14, 15, 16}
# Texts that are shown and not compared.
TEXTS = {"ErrorMessage", "BatchIndexErrorMessage"}

# Of a difference in who is assigned what, where fuzz.py sees that all that is to be assigned is the same.
BY_IDS = "which of several members gets a partition goes by their ids, where a broker makes them"
_VANISHED = "in Apache Kafka a classic member that is not known takes an empty group of KIP-848's from memory, and not from the log"
# (API keys or none for all, in the request, path, Apache Kafka's, Odradek's, reason): patterns; but for that of the request, of whole texts. Some have more: what a group of the
# request was asked before, each as the key and version of the API and the request.
EXPLAINED = [
    ({75}, "'PartitionIndex': 2147483647", r".*", ".*", ".*", "a cursor behind the last partition goes on with the next topic"),
    ({44}, "'ConfigOperation': (4|-1)", r"Responses.ErrorCode", "-1|40", ".*", "an operation that does not exist fails its resource alone, and before what else is wrong with it"),
    ({33, 44}, "'Name': 'nope'", r"Responses.ErrorCode", "0", "40", "a setting that no broker has is refused"),
    ({0}, "'Records': (None|b'')", r"", "'no answer'", ".*", "null records are not answered by Apache Kafka"),
    ({0}, "'Records': b'x", r"Responses.*", ".*", ".*", "what is no batch fails the whole request in Apache Kafka"),
    ({0}, "lie='magic'", r"Responses.*", ".*", ".*", "what is no batch fails the whole request in Apache Kafka"),
    ({0}, "lie='attributes'", r"Responses.*", ".*", ".*", "a codec that does not exist has no error code in Apache Kafka"),
    ({3}, r"'TopicId': b'.x00.*'Name': None", r".*", ".*", ".*", "a topic without an id and a name has no error code in Apache Kafka"),
    ({8, 9}, r"'TopicId': b'.x00", r".*ErrorCode", "100", "3|0", "a topic without an id is one that is not known"),
    ({3}, "'Name': None", r"Topics|Topics.Partitions", r"\d+ elements", r"\d+ elements", "Apache Kafka leaves out what is named where other topics are asked for by id"),
    ({20}, "", r"Responses.TopicId", ".*", "b'.*", "a topic that is named by name and by id is refused by its name"),
    ({32}, "'ResourceType': (0|1|3|-1),", r"Results.*", ".*", ".*", "a type of resource that does not exist is refused alone"),
    ({1}, "MaxBytes': -1", r"Responses.*", "-1", ".*", "a negative size has no error code in Apache Kafka"),
    ({43}, "'ElectionType': 2.*'TopicPartitions': ..,", r"ErrorCode", "0", "42", "an election that does not exist is refused, also of nothing"),
    ({9}, "'MemberId': None, 'MemberEpoch'", r"Groups.ErrorCode", "-1|22", "25|22", "a member without an id has no error code in Apache Kafka"),
    ({11}, "'Metadata': b''", r".*", "23|-1", "-1|23", "a subscription that cannot be read"),
    ({11}, "'Name': ''", r"ProtocolName", "None", "''", "a protocol without a name"),
    ({1, 2, 23}, "__consumer_offsets", r".*(Offset|HighWatermark|Timestamp)", ".*", ".*", "records of groups' offsets are each program's own"),
    ({2}, "'Timestamp': -3", r"Topics.Partitions.Offset", r"\d", r"[1-9]\d*", "of several records with the largest timestamp Apache Kafka tells the first, also where it was deleted"),
    ({69}, "", r"Groups.Members.SubscribedTopicRegex", "''", "None", "an empty expression is none"),
    ({75}, "'Name': ''", r"Topics.*|NextCursor", ".*", ".*", "an empty name has no error code in Apache Kafka"),
    ({1}, r"'TopicId': b'.x00", r".*", ".*", ".*", "a topic without an id fails the whole request in Apache Kafka"),
    (
        {68, 69}, "", r"(Groups\.)?(GroupEpoch|AssignmentEpoch|MemberEpoch|GroupState|AssignorName|Members.*|Assignment.*)", ".*", ".*",
        "the topics of an expression are there with the first answer to a member, in Apache Kafka with the second", r"^68 .*'SubscribedTopicRegex': '[^']",
    ),
    (
        {68, 69}, "", r"(Groups\.)?(GroupEpoch|AssignmentEpoch|MemberEpoch|GroupState|Members.*|Assignment.*)", ".*", ".*",
        "of two assignors with one member each, Apache Kafka goes by that of the member whose heartbeat it is, and counts the epoch up with each",
        r"^68 .*'ServerAssignor': 'range'", r"^68 .*'ServerAssignor': 'uniform'",
    ),
    ({68}, "'MemberEpoch': -", r"ErrorCode", "69", "25", _VANISHED, r"^68 ", r"^11 .*'MemberId': (Named|'.)"),
    ({42}, "", r"Results.ErrorCode", "69", "0", _VANISHED, r"^68 ", r"^11 .*'MemberId': (Named|'.)"),
    (
        {11}, "'MemberId': Named.*'GroupInstanceId': 'i", r"ErrorCode|MemberId", "-1|''", "25|'.*'",
        "an id that was given to a member without a static name has no error code in Apache Kafka when one with a name brings it", r"^11 .*'MemberId': ''",
    ),
    ({9}, "", r"Groups.(ErrorCode|Topics)", "0|. elements", "25|113|0 elements", _VANISHED, r"^68 ", r"^11 .*'MemberId': (Named|'.)"),
    (
        {15}, "", r"Groups.Members.MemberAssignment", ".*", ".*",
        "who becomes classic again is told with what it has, in Apache Kafka with what it was to have, which another may still read", r"^68 ", r"^11 ",
    ),
    ({1}, "'IsolationLevel': (-1|2)", r".*", ".*", ".*", "an isolation level that does not exist has an error of the whole request alone"),
]


def is_left_out(element, suffix):
    """A setting of one of them alone; a topic without partitions, which Apache Kafka does not answer; a group of another history."""
    if not isinstance(element, dict):
        return False
    group = element.get("GroupId") or (element.get("ResourceType") == 32 and element.get("ResourceName"))
    if group and not group.endswith(suffix):
        return True
    if element.get("Name") in OWN_SETTINGS:
        return True
    return any(element.get(name) == [] for name in ("Partitions", "PartitionResponses")) and element.get("ErrorCode", 0) == 0


def explained(step, path, theirs, ours, history):
    """The reason of a difference; None where it has none. `history`: the steps so far."""
    for keys, in_request, in_path, of_theirs, of_ours, reason, *before in EXPLAINED:
        if (
            (not keys or step.key in keys) and re.search(in_request, repr(step.body)) and re.fullmatch(in_path, path)
            and re.fullmatch(of_theirs, theirs) and re.fullmatch(of_ours, ours) and all(_was_asked(pattern, step, history) for pattern in before)
        ):
            return reason
    return None


def _was_asked(pattern, step, history):
    groups = groups_of(step)
    return any(set(groups) & set(groups_of(one)) and re.search(pattern, f"{one.key} {one.version} {one.body!r}") for one in history)


def groups_of(step):
    """The names of the groups that a request is of."""
    named = step.body.get("GroupsNames") or step.body.get("GroupIds") or step.body.get("Groups") or [step.body.get("GroupId")]
    return [one["GroupId"] if isinstance(one, dict) else one for one in named]
