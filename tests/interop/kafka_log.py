"""What Apache Kafka's log says of the directory that it was started on."""

import re

# What Apache Kafka logs when it finds a directory other than it left it. It always goes through the metadata log anew.
REPAIRS = re.compile(
    r" (ERROR|FATAL) |unclean shutdown|Recovering unflushed(?!.* for __cluster_metadata-0)|Rebuilding index|Could not find"
    r"|Found invalid|Corrupt|[Tt]runcat(ed|ing) to|-stray|conflicting entries"
)
# On a busy machine its own registration can come before its own election: it asks again.
NO_REPAIR = re.compile(r" ERROR ControllerApis: .*RequestHeader\(apiKey=CONTROLLER_REGISTRATION,")


def check(kafka, results, where, allowed=()):
    """It found a clean stop and nothing to repair but what lines with one of `allowed` tell."""
    log = kafka.log_path.read_text(encoding="utf-8", errors="replace")
    # Not the settings that it prints at its start, which are indented.
    lines = [line for line in log.splitlines() if not line.startswith("\t") and not NO_REPAIR.search(line)]
    repairs = [line for line in lines if REPAIRS.search(line) and not any(text in line for text in allowed)]
    failure = None
    if repairs:
        failure = f"{len(repairs)} lines in {kafka.log_path}:" + "".join(f"\n      | {line[:300]}" for line in repairs[:8])
    elif "clean shutdown file was found" not in log:
        failure = f"it did not find a clean shutdown ({kafka.log_path})"
    results.add("takeover", f"Apache Kafka finds a clean stop and nothing to repair{where}", failure, 0)
