"""What tools.py runs: Apache Kafka's own tools, line by line, in sections; and the differences that have a reason.

A line is a tool's short name and its arguments; `@` is the broker's address, `DATA` its log directory; what stands behind ` << `
is what the tool reads from stdin. `member` starts and stops members of groups, `transaction` has producers go through transactions, `walk` takes the admin client through its calls;
they are in tools. Sections run in this
order on one life of both brokers, so that later ones see what earlier ones did. Topics of one partition, or keys: where a
record without a key goes is left to chance.
"""

TOOLS = {
    "topics": "TopicCommand",
    "configs": "ConfigCommand",
    "consumer-groups": "consumer.group.ConsumerGroupCommand",
    "groups": "GroupsCommand",
    "get-offsets": "GetOffsetShell",
    "delete-records": "DeleteRecordsCommand",
    "log-dirs": "LogDirsCommand",
    "features": "FeatureCommand",
    "metadata-quorum": "MetadataQuorumCommand",
    "cluster": "ClusterTool",
    "leader-election": "LeaderElectionCommand",
    "reassign": "reassign.ReassignPartitionsCommand",
    "broker-api-versions": "BrokerApiVersionsCommand",
    "client-metrics": "ClientMetricsCommand",
    "console-producer": "ConsoleProducer",
    "console-consumer": "consumer.ConsoleConsumer",
    "producer-perf": "ProducerPerformance",
    "transactions": "TransactionsCommand",
    "consumer-perf": "ConsumerPerformance",
    "verifiable-producer": "VerifiableProducer",
    "verifiable-consumer": "VerifiableConsumer",
    "streams-reset": "StreamsResetter",
}

SECTIONS = {
    "topics are created": """
        topics --bootstrap-server @ --create --topic plain
        topics --bootstrap-server @ --create --topic a.b --partitions 2
        topics --bootstrap-server @ --create --topic a_b
        topics --bootstrap-server @ --create --topic a.b --if-not-exists
        topics --bootstrap-server @ --create --topic a.b
        topics --bootstrap-server @ --create --topic ..
        topics --bootstrap-server @ --create --topic x/y
        topics --bootstrap-server @ --create --topic rf2 --replication-factor 2
        topics --bootstrap-server @ --create --topic rf0 --replication-factor 0
        topics --bootstrap-server @ --create --topic p0 --partitions 0
        topics --bootstrap-server @ --create --topic big --partitions 20000
        topics --bootstrap-server @ --create --topic assigned --replica-assignment 1,1,1
        topics --bootstrap-server @ --create --topic unknown-broker --replica-assignment 1,2
        topics --bootstrap-server @ --create --topic twice-there --replica-assignment 1:1
        topics --bootstrap-server @ --create --topic uneven --replica-assignment 1:2,1
        topics --bootstrap-server @ --create --topic settings --config retention.ms=1000000 --config cleanup.policy=compact
        topics --bootstrap-server @ --create --topic bad-number --config retention.ms=abc
        topics --bootstrap-server @ --create --topic bad-name --config nope=1
        topics --bootstrap-server @ --create --topic bad-word --config cleanup.policy=x
        topics --bootstrap-server @ --create --topic too-small --config segment.bytes=1
        topics --bootstrap-server @ --create --topic too-large --config min.cleanable.dirty.ratio=1.5
        topics --bootstrap-server @ --create --topic no-boolean --config preallocate=maybe
        topics --bootstrap-server @ --create --topic at-odds --config min.compaction.lag.ms=10 --config max.compaction.lag.ms=5
        topics --bootstrap-server @ --create --topic tiered --config remote.storage.enable=true
    """,
    "topics are listed and described": """
        topics --bootstrap-server @ --list
        topics --bootstrap-server @ --list --exclude-internal
        topics --bootstrap-server @ --list --topic a.*
        topics --bootstrap-server @ --describe
        topics --bootstrap-server @ --describe --topic settings
        topics --bootstrap-server @ --describe --topic none
        topics --bootstrap-server @ --describe --topics-with-overrides
        topics --bootstrap-server @ --describe --under-replicated-partitions
        topics --bootstrap-server @ --describe --unavailable-partitions
        topics --bootstrap-server @ --describe --at-min-isr-partitions
        topics --bootstrap-server @ --describe --topic assigned --partition-size-limit-per-response 1
    """,
    "topics grow and go": """
        topics --bootstrap-server @ --alter --topic assigned --partitions 5
        topics --bootstrap-server @ --alter --topic assigned --partitions 5
        topics --bootstrap-server @ --alter --topic assigned --partitions 2
        topics --bootstrap-server @ --alter --topic assigned --partitions 7 --replica-assignment 1,1,1,1,1,1,1
        topics --bootstrap-server @ --alter --topic assigned --partitions 8 --replica-assignment 1,1,1,1,1,1,1,2
        topics --bootstrap-server @ --alter --topic assigned --partitions 9 --replica-assignment 1,1
        topics --bootstrap-server @ --alter --topic none --partitions 3
        topics --bootstrap-server @ --alter --topic none --partitions 3 --if-exists
        topics --bootstrap-server @ --alter --topic assigned --partitions 30000
        topics --bootstrap-server @ --describe --topic assigned
        topics --bootstrap-server @ --delete --topic assigned
        topics --bootstrap-server @ --delete --topic none
        topics --bootstrap-server @ --delete --topic none --if-exists
        topics --bootstrap-server @ --list
    """,
    "records are produced and consumed": """
        console-producer --bootstrap-server @ --topic plain << a\\nb\\nc\\nd\\n
        console-producer --bootstrap-server @ --topic a.b --reader-property parse.key=true --reader-property key.separator=: << k:v1\\nk:v2\\nother:v3\\n
        console-producer --bootstrap-server @ --topic settings << no key\\n
        console-producer --bootstrap-server @ --topic plain --compression-codec zstd << e\\nf\\n
        console-consumer --bootstrap-server @ --topic plain --from-beginning --max-messages 6 --group console-1
        console-consumer --bootstrap-server @ --topic plain --partition 0 --offset 3 --max-messages 2
        console-consumer --bootstrap-server @ --topic plain --partition 0 --offset earliest --max-messages 1 --formatter-property print.offset=true --formatter-property print.partition=true
        console-consumer --bootstrap-server @ --topic a.b --from-beginning --max-messages 3 --group console --formatter-property print.key=true
        producer-perf --topic plain --num-records 100 --record-size 10 --throughput -1 --command-property bootstrap.servers=@
        consumer-perf --bootstrap-server @ --topic plain --num-records 50 --group perf
        verifiable-producer --bootstrap-server @ --topic verified --max-messages 5
        get-offsets --bootstrap-server @ --topic verified
    """,
    "offsets are told": """
        get-offsets --bootstrap-server @ --exclude-internal-topics
        get-offsets --bootstrap-server @ --topic plain
        get-offsets --bootstrap-server @ --topic plain --time -1
        get-offsets --bootstrap-server @ --topic plain --time earliest
        get-offsets --bootstrap-server @ --topic settings --time max-timestamp
        get-offsets --bootstrap-server @ --topic plain --time earliest-local
        get-offsets --bootstrap-server @ --topic plain --time latest-tiered
        get-offsets --bootstrap-server @ --topic plain --time earliest-pending-upload
        get-offsets --bootstrap-server @ --topic plain --time 0
        get-offsets --bootstrap-server @ --topic plain --partitions 0,7
        get-offsets --bootstrap-server @ --topic none
        get-offsets --bootstrap-server @ --topic-partitions a.b:0,plain:0-3
    """,
    "records are deleted": """
        delete-records --bootstrap-server @ --offset-json-file FILE(delete.json)
        get-offsets --bootstrap-server @ --topic plain --time earliest
        delete-records --bootstrap-server @ --offset-json-file FILE(delete-too-much.json)
        console-consumer --bootstrap-server @ --topic plain --from-beginning --max-messages 1 --group console-5
    """,
    "groups without members": """
        consumer-groups --bootstrap-server @ --list
        consumer-groups --bootstrap-server @ --describe --group nope
        consumer-groups --bootstrap-server @ --describe --group nope --state
        consumer-groups --bootstrap-server @ --describe --group nope --members
        consumer-groups --bootstrap-server @ --delete --group nope
        consumer-groups --bootstrap-server @ --delete-offsets --group nope --topic plain
        consumer-groups --bootstrap-server @ --reset-offsets --group g1 --topic plain --to-earliest --execute
        consumer-groups --bootstrap-server @ --reset-offsets --group g1 --topic plain --to-latest --dry-run
        consumer-groups --bootstrap-server @ --reset-offsets --group g1 --topic plain --shift-by 2 --execute
        consumer-groups --bootstrap-server @ --reset-offsets --group g1 --topic plain --shift-by -1 --execute
        consumer-groups --bootstrap-server @ --reset-offsets --group g1 --topic plain --shift-by 100000 --execute
        consumer-groups --bootstrap-server @ --reset-offsets --group g1 --topic plain:0 --to-offset 5 --execute
        consumer-groups --bootstrap-server @ --reset-offsets --group g1 --topic plain:0 --to-offset 5 --export
        consumer-groups --bootstrap-server @ --reset-offsets --group g1 --topic plain --to-current --execute
        consumer-groups --bootstrap-server @ --reset-offsets --group g1 --topic plain --by-duration PT1H --execute
        consumer-groups --bootstrap-server @ --reset-offsets --group g1 --topic plain --to-datetime 2020-01-01T00:00:00.000 --execute
        consumer-groups --bootstrap-server @ --reset-offsets --group g1 --topic plain --to-datetime 2999-01-01T00:00:00.000 --execute
        consumer-groups --bootstrap-server @ --reset-offsets --group g1 --from-file FILE(reset.csv) --execute
        consumer-groups --bootstrap-server @ --reset-offsets --group g1 --all-topics --to-earliest --execute
        consumer-groups --bootstrap-server @ --reset-offsets --all-groups --all-topics --to-latest --dry-run
        consumer-groups --bootstrap-server @ --reset-offsets --group g1 --topic nowhere --to-earliest --execute
        consumer-groups --bootstrap-server @ --describe --group g1
        consumer-groups --bootstrap-server @ --describe --group g1 --verbose
        consumer-groups --bootstrap-server @ --describe --group g1 --state
        consumer-groups --bootstrap-server @ --describe --group g1 --members
        consumer-groups --bootstrap-server @ --delete-offsets --group g1 --topic plain:0
        consumer-groups --bootstrap-server @ --delete-offsets --group g1 --topic nope
        consumer-groups --bootstrap-server @ --validate-regex a.*
    """,
    "groups with members": """
        topics --bootstrap-server @ --create --topic shared --partitions 3
        member start m @ shared group.id=g2 client.id=c2
        consumer-groups --bootstrap-server @ --describe --group g2
        consumer-groups --bootstrap-server @ --describe --group g2 --verbose
        consumer-groups --bootstrap-server @ --describe --group g2 --members
        consumer-groups --bootstrap-server @ --describe --group g2 --members --verbose
        consumer-groups --bootstrap-server @ --describe --group g2 --state
        member start static @ shared group.id=g3 client.id=c3 group.instance.id=i3 partition.assignment.strategy=org.apache.kafka.clients.consumer.CooperativeStickyAssignor
        consumer-groups --bootstrap-server @ --describe --group g3 --members --verbose
        consumer-groups --bootstrap-server @ --describe --group g3 --state
        consumer-groups --bootstrap-server @ --describe --all-groups --state
        consumer-groups --bootstrap-server @ --list --state
        consumer-groups --bootstrap-server @ --list --state Empty,Stable
        consumer-groups --bootstrap-server @ --list --state Dead
        consumer-groups --bootstrap-server @ --list --type
        consumer-groups --bootstrap-server @ --list --type classic
        consumer-groups --bootstrap-server @ --list --type consumer
        groups --bootstrap-server @ --list
        groups --bootstrap-server @ --list --consumer
        groups --bootstrap-server @ --list --group-type classic
        groups --bootstrap-server @ --list --protocol consumer
        groups --bootstrap-server @ --list --share
        consumer-groups --bootstrap-server @ --delete --group g2
        consumer-groups --bootstrap-server @ --delete-offsets --group g2 --topic shared
        consumer-groups --bootstrap-server @ --reset-offsets --group g2 --topic shared --to-latest --execute
        member stop m @
        member stop static @
        consumer-groups --bootstrap-server @ --delete --group g2 --group console
        consumer-groups --bootstrap-server @ --list --state
    """,
    "a group of both protocols": """
        topics --bootstrap-server @ --create --topic mixed --partitions 4
        topics --bootstrap-server @ --list
        consumer-groups --bootstrap-server @ --list --type
        member start new @ mixed group.id=g5 client.id=c5 group.protocol=consumer
        consumer-groups --bootstrap-server @ --describe --group g5
        consumer-groups --bootstrap-server @ --describe --group g5 --members
        consumer-groups --bootstrap-server @ --describe --group g5 --members --verbose
        consumer-groups --bootstrap-server @ --describe --group g5 --state
        consumer-groups --bootstrap-server @ --describe --group g5 --state --verbose
        consumer-groups --bootstrap-server @ --describe --group g5 --offsets --verbose
        consumer-groups --bootstrap-server @ --list --type
        consumer-groups --bootstrap-server @ --list --type consumer
        consumer-groups --bootstrap-server @ --delete --group g5
        member start old @ mixed group.id=g5 client.id=c6 group.instance.id=i6 session.timeout.ms=6000 heartbeat.interval.ms=1000 partition.assignment.strategy=org.apache.kafka.clients.consumer.CooperativeStickyAssignor
        member rest g5 @ 2
        consumer-groups --bootstrap-server @ --describe --group g5 --state
        consumer-groups --bootstrap-server @ --describe --group g5 --state --verbose
        groups --bootstrap-server @ --list
        member stop new @
        member rest g5 @ 1
        consumer-groups --bootstrap-server @ --list --type
        consumer-groups --bootstrap-server @ --describe --group g5 --members --verbose
        consumer-groups --bootstrap-server @ --describe --group g5 --state
        member start newer @ mixed group.id=g5 client.id=c7 group.protocol=consumer
        member rest g5 @ 2
        consumer-groups --bootstrap-server @ --list --type
        consumer-groups --bootstrap-server @ --describe --group g5 --state
        member stop old @
        member rest g5 @ 1
        consumer-groups --bootstrap-server @ --describe --group g5 --members --verbose
        member stop newer @
        member start regex @ ~mix.* group.id=g6 client.id=c8 group.protocol=consumer
        member rest g6 @ 1
        consumer-groups --bootstrap-server @ --describe --group g6
        consumer-groups --bootstrap-server @ --describe --group g6 --members
        member stop regex @
        consumer-groups --bootstrap-server @ --delete --group g5 --group g6
        consumer-groups --bootstrap-server @ --list --state
    """,
    "applications of Streams begin anew": """
        topics --bootstrap-server @ --create --topic app-store-changelog
        streams-reset --bootstrap-server @ --application-id app --input-topics plain --dry-run
        streams-reset --bootstrap-server @ --application-id app --input-topics plain
        streams-reset --bootstrap-server @ --application-id app --input-topics plain --to-offset 3
        consumer-groups --bootstrap-server @ --describe --group app
        streams-reset --bootstrap-server @ --application-id app --input-topics none
        topics --bootstrap-server @ --list
    """,
    "settings of topics": """
        configs --bootstrap-server @ --describe --topic plain
        configs --bootstrap-server @ --describe --topic plain --all
        configs --bootstrap-server @ --alter --topic plain --add-config retention.ms=1000000,cleanup.policy=[compact,delete]
        configs --bootstrap-server @ --describe --topic plain
        configs --bootstrap-server @ --describe --entity-type topics --entity-name plain
        configs --bootstrap-server @ --alter --topic plain --delete-config cleanup.policy
        configs --bootstrap-server @ --describe --topic plain
        configs --bootstrap-server @ --alter --topic plain --add-config nope=1
        configs --bootstrap-server @ --alter --topic plain --add-config retention.ms=x
        configs --bootstrap-server @ --describe --topic none
        configs --bootstrap-server @ --alter --topic none --add-config retention.ms=1
    """,
    "settings of brokers": """
        configs --bootstrap-server @ --describe --broker 1
        configs --bootstrap-server @ --describe --broker 7
        configs --bootstrap-server @ --describe --broker-defaults
        configs --bootstrap-server @ --alter --broker 1 --add-config log.retention.ms=12345000
        configs --bootstrap-server @ --alter --broker-defaults --add-config log.retention.ms=99999000,log.cleanup.policy=[compact,delete]
        configs --bootstrap-server @ --describe --broker 1
        configs --bootstrap-server @ --describe --entity-type brokers --entity-default
        configs --bootstrap-server @ --describe --topic shared --all
        configs --bootstrap-server @ --alter --broker 1 --delete-config log.retention.ms
        configs --bootstrap-server @ --describe --topic shared --all
        configs --bootstrap-server @ --alter --broker-defaults --delete-config log.retention.ms,log.cleanup.policy
        configs --bootstrap-server @ --alter --broker 1 --add-config num.partitions=3
        configs --bootstrap-server @ --alter --broker 1 --add-config log.retention.ms=x
        configs --bootstrap-server @ --alter --broker 1 --add-config log.segment.bytes=1
        configs --bootstrap-server @ --alter --broker-defaults --add-config ssl.keystore.location=/a
        configs --bootstrap-server @ --alter --broker 1 --add-config num.io.threads=9
        configs --bootstrap-server @ --describe --broker 1
        configs --bootstrap-server @ --alter --broker 1 --delete-config num.io.threads
        configs --bootstrap-server @ --describe --broker 1
        configs --bootstrap-server @ --describe --broker 1 --all
    """,
    "subscriptions to clients' metrics": """
        configs --bootstrap-server @ --describe --entity-type broker-loggers --entity-name 1
        configs --bootstrap-server @ --alter --entity-type broker-loggers --entity-name 1 --add-config root=WARN
        configs --bootstrap-server @ --alter --broker-logger 1 --add-config nope=INFO
        configs --bootstrap-server @ --alter --broker-logger 1 --add-config root=LOUD
        configs --bootstrap-server @ --alter --broker-logger 1 --add-config root=debug
        configs --bootstrap-server @ --alter --broker-logger 1 --delete-config root
        configs --bootstrap-server @ --describe --broker-logger 1
        configs --bootstrap-server @ --alter --broker-logger 1 --add-config root=INFO
        configs --bootstrap-server @ --describe --entity-type broker-loggers
        configs --bootstrap-server @ --describe --broker-logger 7
        client-metrics --bootstrap-server @ --list
        client-metrics --bootstrap-server @ --alter --name m1 --metrics org.apache.kafka.producer.,x.y --interval 5000 --match client_id=x,client_source_port=[0-9]+
        client-metrics --bootstrap-server @ --describe --name m1
        client-metrics --bootstrap-server @ --describe
        client-metrics --bootstrap-server @ --list
        configs --bootstrap-server @ --describe --client-metrics m1 --all
        configs --bootstrap-server @ --alter --client-metrics m2 --add-config interval.ms=100
        configs --bootstrap-server @ --describe --client-metrics m2 --all
        configs --bootstrap-server @ --describe --entity-type client-metrics
        configs --bootstrap-server @ --alter --client-metrics m2 --add-config interval.ms=99
        configs --bootstrap-server @ --alter --client-metrics m2 --add-config interval.ms=3600001
        configs --bootstrap-server @ --alter --client-metrics m2 --add-config interval.ms=x
        configs --bootstrap-server @ --alter --client-metrics m2 --add-config nope=1
        configs --bootstrap-server @ --alter --client-metrics m2 --add-config match=client_id
        configs --bootstrap-server @ --alter --client-metrics m2 --add-config match=[nope=1]
        configs --bootstrap-server @ --alter --client-metrics m2 --add-config metrics=*
        configs --bootstrap-server @ --alter --client-metrics m2 --delete-config interval.ms
        configs --bootstrap-server @ --describe --client-metrics m2
        client-metrics --bootstrap-server @ --delete --name m1
        client-metrics --bootstrap-server @ --describe --name m1
        client-metrics --bootstrap-server @ --list
        configs --bootstrap-server @ --describe --client-metrics none
    """,
    "settings of groups": """
        configs --bootstrap-server @ --describe --group g4
        configs --bootstrap-server @ --describe --group g4 --all
        configs --bootstrap-server @ --alter --group g4 --add-config consumer.session.timeout.ms=46000,share.isolation.level=read_committed
        configs --bootstrap-server @ --describe --group g4
        configs --bootstrap-server @ --describe --group g4 --all
        configs --bootstrap-server @ --alter --group g4 --add-config nope=1
        configs --bootstrap-server @ --alter --group g4 --delete-config share.isolation.level
        configs --bootstrap-server @ --describe --entity-type groups --entity-name g4
        configs --bootstrap-server @ --describe --entity-type groups
        walk group-settings @ DATA
    """,
    "the cluster": """
        cluster cluster-id --bootstrap-server @
        cluster list-endpoints --bootstrap-server @
        cluster list-endpoints --bootstrap-server @ --include-fenced-brokers
        cluster unregister --bootstrap-server @ --id 7
        features --bootstrap-server @ describe
        features --bootstrap-server @ upgrade --feature metadata.version=33
        features --bootstrap-server @ upgrade --feature metadata.version=34
        features --bootstrap-server @ upgrade --feature nope=1
        features --bootstrap-server @ downgrade --feature metadata.version=25
        features --bootstrap-server @ downgrade --feature metadata.version=32
        features --bootstrap-server @ disable --feature metadata.version
        features --bootstrap-server @ version-mapping --release-version 4.4
        features --bootstrap-server @ feature-dependencies --feature metadata.version=33
        metadata-quorum --bootstrap-server @ describe --status
        metadata-quorum --bootstrap-server @ describe --status --human-readable
        metadata-quorum --bootstrap-server @ describe --replication
        metadata-quorum --bootstrap-server @ describe --replication --human-readable
        metadata-quorum --bootstrap-server @ add-controller
        broker-api-versions --bootstrap-server @
    """,
    "logs and leaders": """
        log-dirs --bootstrap-server @ --describe --topic-list settings,none
        log-dirs --bootstrap-server @ --describe --topic-list verified,shared --broker-list 1
        log-dirs --bootstrap-server @ --describe --broker-list 7
        leader-election --bootstrap-server @ --election-type preferred --all-topic-partitions
        leader-election --bootstrap-server @ --election-type unclean --all-topic-partitions
        leader-election --bootstrap-server @ --election-type preferred --topic plain --partition 0
        leader-election --bootstrap-server @ --election-type unclean --topic plain --partition 0
        leader-election --bootstrap-server @ --election-type preferred --topic none --partition 0
        leader-election --bootstrap-server @ --election-type preferred --topic plain --partition 9
        leader-election --bootstrap-server @ --election-type preferred --path-to-json-file FILE(elect.json)
        reassign --bootstrap-server @ --list
        reassign --bootstrap-server @ --generate --topics-to-move-json-file FILE(move.json) --broker-list 1
        reassign --bootstrap-server @ --execute --reassignment-json-file FILE(reassign.json)
        reassign --bootstrap-server @ --execute --reassignment-json-file FILE(reassign-unknown.json)
        reassign --bootstrap-server @ --verify --reassignment-json-file FILE(reassign.json)
        reassign --bootstrap-server @ --cancel --reassignment-json-file FILE(reassign.json)
    """,
    "the admin client": """
        walk topics @ DATA
        walk settings @ DATA
        walk groups @ DATA
        walk cluster @ DATA
    """,
    "transactions": """
        topics --bootstrap-server @ --create --topic once
        transactions --bootstrap-server @ list
        transactions --bootstrap-server @ describe --transactional-id nobody
        transaction start one @ first
        transactions --bootstrap-server @ list
        transactions --bootstrap-server @ describe --transactional-id first
        transaction begin one @
        transaction send one @ once 3
        transaction offsets one @ once-group once 2
        transactions --bootstrap-server @ describe --transactional-id first
        transactions --bootstrap-server @ describe-producers --topic once --partition 0
        transactions --bootstrap-server @ find-hanging --broker-id 1
        transactions --bootstrap-server @ find-hanging --topic once --partition 0 --max-transaction-timeout 0
        console-consumer --bootstrap-server @ --topic once --from-beginning --isolation-level read_committed --timeout-ms 1500
        console-consumer --bootstrap-server @ --topic once --from-beginning --isolation-level read_uncommitted --timeout-ms 1500
        consumer-groups --bootstrap-server @ --describe --group once-group
        transaction commit one @
        console-consumer --bootstrap-server @ --topic once --from-beginning --isolation-level read_committed --timeout-ms 1500
        consumer-groups --bootstrap-server @ --describe --group once-group --offsets
        transactions --bootstrap-server @ describe --transactional-id first
        transactions --bootstrap-server @ describe-producers --topic once --partition 0
        transaction begin one @
        transaction send one @ once 2
        transaction offsets one @ once-group once 4
        transaction abort one @
        transaction begin one @
        transaction commit one @
        transaction begin one @
        transaction abort one @
        transaction begin one @
        transaction send one @ once 1
        transaction commit one @
        console-consumer --bootstrap-server @ --topic once --from-beginning --isolation-level read_committed --timeout-ms 1500
        consumer-groups --bootstrap-server @ --describe --group once-group --offsets
        transactions --bootstrap-server @ describe-producers --topic once --partition 0
        get-offsets --bootstrap-server @ --topic once
    """,
    "transactions that are fenced, hang or are listed": """
        transaction start two @ second
        transaction begin two @
        transaction send two @ once 1
        transaction start again @ second
        transaction commit two @
        transaction close two @
        transaction begin again @
        transaction send again @ once 1
        transaction commit again @
        transactions --bootstrap-server @ describe-producers --topic once --partition 0
        transaction start three @ third
        transaction begin three @
        transaction send three @ once 1
        transactions --bootstrap-server @ list
        transactions --bootstrap-server @ list --duration-filter 0
        transactions --bootstrap-server @ list --duration-filter 100000000
        transactions --bootstrap-server @ list --transactional-id-pattern s.*
        transactions --bootstrap-server @ list --transactional-id-pattern (
        transactions --bootstrap-server @ abort --topic once --partition 0 --start-offset 14
        transactions --bootstrap-server @ abort --topic once --partition 0 --start-offset 9999
        transactions --bootstrap-server @ describe --transactional-id third
        transactions --bootstrap-server @ describe-producers --topic once --partition 0
        transaction send three @ once 1
        transaction commit three @
        transaction close three @
        transaction close again @
        transaction start third-again @ third
        transactions --bootstrap-server @ describe --transactional-id third
        transaction start slow @ slow transaction.timeout.ms=1000000000
        producer-perf --bootstrap-server @ --topic once --num-records 100 --record-size 10 --throughput -1 --transactional-id perf --transaction-duration-ms 1000000
        transactions --bootstrap-server @ describe --transactional-id perf
        get-offsets --bootstrap-server @ --topic once
        console-consumer --bootstrap-server @ --topic once --from-beginning --isolation-level read_committed --timeout-ms 1500
        topics --bootstrap-server @ --describe --topic __transaction_state
    """,
}

# What FILE(name) is.
FILES = {
    "delete.json": '{"partitions":[{"topic":"plain","partition":0,"offset":2},{"topic":"verified","partition":0,"offset":-1}],"version":1}',
    "delete-too-much.json": '{"partitions":[{"topic":"plain","partition":0,"offset":1000000}],"version":1}',
    "reset.csv": '"plain",0,4\n',
    "elect.json": '{"partitions":[{"topic":"plain","partition":0},{"topic":"shared","partition":1}]}',
    "move.json": '{"topics":[{"topic":"shared"}],"version":1}',
    "reassign.json": '{"version":1,"partitions":[{"topic":"plain","partition":0,"replicas":[1],"log_dirs":["any"]}]}',
    "reassign-unknown.json": '{"version":1,"partitions":[{"topic":"plain","partition":0,"replicas":[2],"log_dirs":["any"]}]}',
}

# Calls whose lines come in the order of a hash, or of the broker's partitions.
UNORDERED = r"consumer-groups .*(--list|--all-groups)|groups .*--list|transactions .* list"

# (what matches the call, what matches in lines of either output, what stands there instead or None to leave the line out, the
# reason). One that no run needs is a failure: docs/COMPATIBILITY.md tells users of these.
_ELR = "min.insync.replicas is a setting of the cluster where eligible.leader.replicas.version is finalized"
_OWN = "durability is a setting of Odradek's own"
EXPLAINED = [
    (r"configs .*--all", r"^ durability=sync ", None, _OWN),
    (r"walk topics", r"durability=sync DEFAULT_CONFIG false, ", "", _OWN),
    (r"topics .*with-overrides", r"Configs: min\.insync\.replicas=1$", None, _ELR),
    (r"topics .*--describe", r"Configs: min\.insync\.replicas=1,?", "Configs: ", _ELR),
    (r"walk topics", r"min\.insync\.replicas=1 DYNAMIC_DEFAULT_BROKER_CONFIG", "min.insync.replicas=1 DEFAULT_CONFIG", _ELR),
    (r"walk settings", r"min\.insync\.replicas=1, |(, )?min\.insync\.replicas=1", "", _ELR),
    (r"configs .*--(broker-defaults|entity-default)", r"^ min\.insync\.replicas=1 ", None, _ELR),
    (
        r"configs .*--broker 1 --all", r"^ (advertised\.listeners|controller\.[a-z.]+|listener\.security\.protocol\.map)=", None,
        "the controller has no listener here, and what is advertised is each connection's address unless it is set",
    ),
    (r"configs .*--broker 1 --all", r"DEFAULT_CONFIG:group.initial.rebalance.delay.ms=\d+", "", "its default is 0 here"),
    (r"configs .*--broker 1 --all", r",CONTROLLER", "", "the controller has no listener here"),
    (r"configs .*--all", r"DYNAMIC_DEFAULT_BROKER_CONFIG:min\.insync\.replicas=1, ", "", _ELR),
    (
        r"configs .*--describe .*broker-logger", r"^ (?!root=)[\w.:$]+=[A-Z]+ sensitive=false synonyms=\{\}", None,
        "loggers are called as the modules that log: broker::api::produce, where Apache Kafka has classes",
    ),
    (r"features .*describe", r"Feature: ", None, "the features that come with what they promise"),
    (r"features .*(upgrade|disable)", r"only supports versions \d+", "", "older levels of metadata.version are not written"),
    (r"broker-api-versions", r"\(\d+\): ", None, "the APIs that are not offered yet: docs/COMPATIBILITY.md has the table"),
]
