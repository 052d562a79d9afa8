import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigsOptions;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreatePartitionsOptions;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.CreateTopicsResult;
import org.apache.kafka.clients.admin.DescribeClusterOptions;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.DescribeConsumerGroupsOptions;
import org.apache.kafka.clients.admin.DescribeTopicsOptions;
import org.apache.kafka.clients.admin.FeatureUpdate;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.admin.UpdateFeaturesOptions;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionReplica;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;

/**
 * The admin client through its calls, with good and bad arguments: {@code walk PART BROKER DIRECTORY} prints a line each, what
 * came back or which exception with which words.
 */
final class Walk {
    private static final int PATIENCE_S = 20;
    private static final Uuid NO_TOPIC = new Uuid(7, 7);

    private final Admin admin;
    private final String directory;

    /** What is asked; its future is waited for. */
    private interface Call {
        Object ask() throws Exception;
    }

    static void main(String[] arguments) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", arguments[1]);
        // What can be tried again is given up within seconds.
        properties.put("default.api.timeout.ms", "4000");
        properties.put("request.timeout.ms", "3000");
        try (Admin admin = Admin.create(properties)) {
            Walk walk = new Walk(admin, arguments[2]);
            switch (arguments[0]) {
                case "topics" -> walk.topics();
                case "settings" -> walk.settings();
                case "groups" -> walk.groups();
                case "group-settings" -> walk.groupSettings();
                case "cluster" -> walk.cluster();
                default -> throw new IllegalArgumentException(arguments[0]);
            }
        }
    }

    private Walk(Admin admin, String directory) {
        this.admin = admin;
        this.directory = directory;
    }

    private void print(String what, Call call) {
        String came;
        try {
            Object result = call.ask();
            came = shown(result instanceof KafkaFuture<?> future ? future.get(PATIENCE_S, TimeUnit.SECONDS) : result);
        } catch (ExecutionException failed) {
            came = shown(failed.getCause());
        } catch (Exception failed) {
            came = shown(failed);
        }
        System.out.println(what + ": " + came);
    }

    /** Maps and sets in an order of their own, what they hold as it prints itself. */
    private static String shown(Object thing) {
        if (thing instanceof Throwable failed) {
            return failed.getClass().getSimpleName() + ": " + failed.getMessage();
        }
        if (thing instanceof KafkaFuture<?> future) {
            try {
                return shown(future.get(PATIENCE_S, TimeUnit.SECONDS));
            } catch (ExecutionException failed) {
                return shown(failed.getCause());
            } catch (Exception failed) {
                return shown(failed);
            }
        }
        if (thing instanceof Map<?, ?> map) {
            TreeMap<String, String> sorted = new TreeMap<>();
            map.forEach((key, value) -> sorted.put(shown(key), shown(value)));
            return sorted.toString();
        }
        if (thing instanceof Set<?> set) {
            return set.stream().map(Walk::shown).collect(Collectors.toCollection(TreeSet::new)).toString();
        }
        if (thing instanceof Collection<?> list) {
            return list.stream().map(Walk::shown).toList().toString();
        }
        return String.valueOf(thing);
    }

    private void topics() {
        CreateTopicsOptions checked = new CreateTopicsOptions().validateOnly(true);
        NewTopic good = new NewTopic("walked", 2, (short) 1).configs(Map.of("retention.ms", "5000000"));
        print("create, checked", () -> created(admin.createTopics(List.of(good), checked), "walked"));
        print("create", () -> created(admin.createTopics(List.of(good)), "walked"));
        print("create again", () -> admin.createTopics(List.of(good)).all());
        print("create with defaults", () -> created(
            admin.createTopics(List.of(new NewTopic("by-default", Optional.empty(), Optional.empty()))), "by-default"));
        Map<String, NewTopic> bad = new TreeMap<>(Map.of(
            "an empty name", new NewTopic("", 1, (short) 1),
            "a name too long", new NewTopic("x".repeat(250), 1, (short) 1),
            "a space", new NewTopic("a b", 1, (short) 1),
            "the metadata log", new NewTopic("__cluster_metadata", 1, (short) 1),
            "no partitions", new NewTopic("w", 0, (short) 1),
            "no replicas", new NewTopic("w", 1, (short) 0),
            "many replicas", new NewTopic("w", 1, (short) 3),
            "a gap", new NewTopic("w", Map.of(0, List.of(1), 2, List.of(1))),
            "an empty assignment", new NewTopic("w", Map.of(0, List.of())),
            "a broker twice", new NewTopic("w", Map.of(0, List.of(1, 1)))));
        bad.putAll(Map.of(
            "an unknown broker", new NewTopic("w", Map.of(0, List.of(5))),
            "an unknown setting", new NewTopic("w", 1, (short) 1).configs(Map.of("nope", "1")),
            "a bad value", new NewTopic("w", 1, (short) 1).configs(Map.of("segment.ms", "0")),
            "bytes of index", new NewTopic("w", 1, (short) 1).configs(Map.of("segment.index.bytes", "3"))));
        bad.forEach((what, topic) -> print("create " + what, () -> admin.createTopics(List.of(topic)).all()));
        print("create two of one name", () -> admin.createTopics(List.of(good, new NewTopic("walked", 3, (short) 1))).all());
        print("list", () -> admin.listTopics().names());
        print("list all", () -> admin.listTopics(new ListTopicsOptions().listInternal(true)).names());
        print("describe", () -> admin.describeTopics(List.of("walked", "none"),
            new DescribeTopicsOptions().includeAuthorizedOperations(true)).topicNameValues());
        print("describe a bad name", () -> admin.describeTopics(List.of("a b")).topicNameValues());
        print("describe an unknown id",
            () -> admin.describeTopics(TopicCollection.ofTopicIds(List.of(NO_TOPIC))).topicIdValues());
        CreatePartitionsOptions only = new CreatePartitionsOptions().validateOnly(true);
        print("grow, checked", () -> admin.createPartitions(Map.of("walked", NewPartitions.increaseTo(4)), only).values());
        print("grow", () -> admin.createPartitions(Map.of("walked", NewPartitions.increaseTo(3))).values());
        print("grow to the same", () -> admin.createPartitions(Map.of("walked", NewPartitions.increaseTo(3))).values());
        print("grow an unknown one", () -> admin.createPartitions(Map.of("none", NewPartitions.increaseTo(3))).values());
        print("grow to a bad place", () -> admin.createPartitions(
            Map.of("walked", NewPartitions.increaseTo(4, List.of(List.of(9))))).values());
        print("grow with too few places", () -> admin.createPartitions(
            Map.of("walked", NewPartitions.increaseTo(5, List.of(List.of(1))))).values());
        print("grow by assignment", () -> admin.createPartitions(
            Map.of("walked", NewPartitions.increaseTo(4, List.of(List.of(1))))).values());
        TopicPartition partition = new TopicPartition("walked", 0);
        print("offsets", () -> List.of(
            offset(partition, OffsetSpec.earliest()), offset(partition, OffsetSpec.latest()),
            offset(partition, OffsetSpec.maxTimestamp()), offset(partition, OffsetSpec.forTimestamp(0))));
        print("delete records beyond", () -> admin.deleteRecords(
            Map.of(partition, RecordsToDelete.beforeOffset(9))).lowWatermarks());
        print("delete", () -> admin.deleteTopics(List.of("walked", "by-default")).topicNameValues());
        print("delete again", () -> admin.deleteTopics(List.of("walked")).topicNameValues());
        print("delete an unknown id",
            () -> admin.deleteTopics(TopicCollection.ofTopicIds(List.of(NO_TOPIC))).topicIdValues());
    }

    private Object offset(TopicPartition partition, OffsetSpec spec) {
        return admin.listOffsets(Map.of(partition, spec)).partitionResult(partition);
    }

    private static Object created(CreateTopicsResult result, String name) throws Exception {
        result.all().get();
        return List.of(result.numPartitions(name), result.replicationFactor(name), result.config(name).get().entries().stream()
            .map(entry -> entry.name() + "=" + entry.value() + " " + entry.source() + " " + entry.isReadOnly()).sorted().toList());
    }

    private void settings() {
        ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, "plain");
        ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER, "1");
        print("describe a topic's", () -> entries(topic));
        print("describe an unknown topic's", () -> entries(new ConfigResource(ConfigResource.Type.TOPIC, "none")));
        print("describe a bad name's", () -> entries(new ConfigResource(ConfigResource.Type.TOPIC, "a b")));
        print("add to a list", () -> alter(topic, "cleanup.policy", "compact", AlterConfigOp.OpType.APPEND));
        print("take from a list", () -> alter(topic, "cleanup.policy", "delete", AlterConfigOp.OpType.SUBTRACT));
        print("what it is now", () -> entries(topic));
        print("default again", () -> alter(topic, "cleanup.policy", "", AlterConfigOp.OpType.DELETE));
        print("add to a number", () -> alter(topic, "retention.ms", "5", AlterConfigOp.OpType.APPEND));
        print("below the bounds", () -> alter(topic, "retention.ms", "-2", AlterConfigOp.OpType.SET));
        print("above the bounds", () -> alter(topic, "min.cleanable.dirty.ratio", "2.0", AlterConfigOp.OpType.SET));
        print("no boolean", () -> alter(topic, "preallocate", "1", AlterConfigOp.OpType.SET));
        print("a word of none", () -> alter(topic, "compression.type", "x", AlterConfigOp.OpType.SET));
        print("an unknown broker's word", () -> alter(broker, "log.cleanup.policy", "x", AlterConfigOp.OpType.SET));
        print("a broker's number", () -> alter(broker, "num.io.threads", "0", AlterConfigOp.OpType.SET));
        print("a broker's id", () -> alter(broker, "node.id", "3", AlterConfigOp.OpType.SET));
        print("only checked", () -> admin.incrementalAlterConfigs(
            Map.of(topic, List.of(new AlterConfigOp(new ConfigEntry("retention.ms", "7000000"), AlterConfigOp.OpType.SET))),
            new AlterConfigsOptions().validateOnly(true)).values());
        print("is as before", () -> entries(topic));
        print("one setting twice", () -> admin.incrementalAlterConfigs(Map.of(topic, List.of(
            new AlterConfigOp(new ConfigEntry("retention.ms", "7000000"), AlterConfigOp.OpType.SET),
            new AlterConfigOp(new ConfigEntry("retention.ms", ""), AlterConfigOp.OpType.DELETE)))).values());
        loggers();
        print("list topics and brokers", () -> admin.listConfigResources(
            Set.of(ConfigResource.Type.BROKER, ConfigResource.Type.BROKER_LOGGER),
            new org.apache.kafka.clients.admin.ListConfigResourcesOptions()).all());
    }

    private void loggers() {
        ConfigResource own = new ConfigResource(ConfigResource.Type.BROKER_LOGGER, "1");
        String[] resources = {"1", "7", "x", ""};
        for (String name : resources) {
            ConfigResource resource = new ConfigResource(ConfigResource.Type.BROKER_LOGGER, name);
            print("the root logger of " + name, () -> admin.describeConfigs(List.of(resource)).all().get().get(resource).get("root"));
            print("set it for " + name, () -> alter(resource, "root", "INFO", AlterConfigOp.OpType.SET));
        }
        for (AlterConfigOp.OpType type : AlterConfigOp.OpType.values()) {
            print("root " + type, () -> alter(own, "root", "FATAL", type));
            print("nope " + type, () -> alter(own, "nope", "FATAL", type));
        }
        print("no level", () -> alter(own, "root", "OFF", AlterConfigOp.OpType.SET));
        print("only checked", () -> admin.incrementalAlterConfigs(
            Map.of(own, List.of(new AlterConfigOp(new ConfigEntry("root", "TRACE"), AlterConfigOp.OpType.SET))),
            new AlterConfigsOptions().validateOnly(true)).values());
        print("as set", () -> admin.describeConfigs(List.of(own)).all().get().get(own).get("root"));
        print("back", () -> alter(own, "root", "INFO", AlterConfigOp.OpType.SET));
    }

    private void groupSettings() {
        ConfigResource group = new ConfigResource(ConfigResource.Type.GROUP, "walked-group");
        ConfigResource none = new ConfigResource(ConfigResource.Type.GROUP, "");
        String[] asked = {
            "nope=1", "consumer.session.timeout.ms=1", "consumer.session.timeout.ms=x", "consumer.session.timeout.ms=45001",
            "consumer.heartbeat.interval.ms=60000", "consumer.heartbeat.interval.ms=0", "consumer.assignment.interval.ms=15001",
            "consumer.assignor.offload.enable=maybe", "share.auto.offset.reset=x", "share.auto.offset.reset=by_duration:PT1H",
            "share.auto.offset.reset=by_duration:-PT1H", "share.isolation.level=READ_COMMITTED", "share.delivery.count.limit=11",
            "share.record.lock.duration.ms=14999", "share.partition.max.record.locks=99", "share.partition.max.record.locks=4001",
            "share.session.timeout.ms=44999", "streams.heartbeat.interval.ms=15001", "streams.num.standby.replicas=3",
            "streams.initial.rebalance.delay.ms=-1", "streams.rack.aware.assignment.tags=a,b", "streams.rack.aware.assignment.tags=a,a",
            "streams.num.warmup.replicas=21", "streams.num.warmup.replicas=3", "streams.acceptable.recovery.lag=-1",
            "streams.assignor.name=x", "streams.assignor.name=sticky", "streams.task.offset.interval.ms=14999",
            "errors.deadletterqueue.topic.name=__x", "errors.deadletterqueue.topic.name=dlq.x", "share.renew.acknowledge.enable=x",
        };
        for (String one : asked) {
            String[] parts = one.split("=", 2);
            print("set " + one, () -> alter(group, parts[0], parts[1], AlterConfigOp.OpType.SET));
        }
        print("add to a list", () -> alter(group, "streams.rack.aware.assignment.tags", "c", AlterConfigOp.OpType.APPEND));
        print("take back what is not there", () -> alter(group, "nope", "", AlterConfigOp.OpType.DELETE));
        print("of no group", () -> alter(none, "consumer.session.timeout.ms", "46000", AlterConfigOp.OpType.SET));
        print("describe no group's", () -> entries(none));
        print("all of them", () -> admin.describeConfigs(List.of(group), new DescribeConfigsOptions().includeSynonyms(true)).all()
            .get().get(group).entries().stream()
            .map(entry -> entry.name() + "=" + entry.value() + " " + entry.source() + " " + entry.type() + " " + entry.synonyms())
            .sorted().toList());
        print("list groups", () -> admin.listConfigResources(
            Set.of(ConfigResource.Type.GROUP), new org.apache.kafka.clients.admin.ListConfigResourcesOptions()).all().get()
            .stream().map(ConfigResource::toString).sorted().toList());
    }

    private Object alter(ConfigResource resource, String name, String value, AlterConfigOp.OpType type) {
        return admin.incrementalAlterConfigs(
            Map.of(resource, List.of(new AlterConfigOp(new ConfigEntry(name, value), type)))).values();
    }

    /** What is not as it is by default. */
    private Object entries(ConfigResource resource) throws Exception {
        return admin.describeConfigs(List.of(resource)).all().get().get(resource).entries().stream()
            .filter(entry -> !entry.isDefault()).map(entry -> entry.name() + "=" + entry.value()).sorted().toList();
    }

    private void groups() {
        Map<TopicPartition, OffsetAndMetadata> offsets =
            Map.of(new TopicPartition("plain", 0), new OffsetAndMetadata(3, Optional.of(0), "note"));
        print("commit", () -> admin.alterConsumerGroupOffsets("walkers", offsets).all());
        print("commit to an unknown topic", () -> admin.alterConsumerGroupOffsets(
            "walkers", Map.of(new TopicPartition("none", 0), new OffsetAndMetadata(3))).all());
        print("commit to an unknown partition", () -> admin.alterConsumerGroupOffsets(
            "walkers", Map.of(new TopicPartition("plain", 9), new OffsetAndMetadata(3))).all());
        print("commit with much to say", () -> admin.alterConsumerGroupOffsets(
            "walkers", Map.of(new TopicPartition("plain", 0), new OffsetAndMetadata(3, "x".repeat(5000)))).all());
        print("committed", () -> admin.listConsumerGroupOffsets("walkers").partitionsToOffsetAndMetadata());
        print("committed of nobody", () -> admin.listConsumerGroupOffsets("nobody").partitionsToOffsetAndMetadata());
        print("describe", () -> admin.describeConsumerGroups(List.of("walkers", "nobody"),
            new DescribeConsumerGroupsOptions().includeAuthorizedOperations(true)).describedGroups());
        print("describe classic ones", () -> admin.describeClassicGroups(List.of("walkers", "nobody")).describedGroups());
        print("remove members of nobody", () -> admin.removeMembersFromConsumerGroup("nobody",
            new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("i")))).all());
        print("remove unknown members", () -> admin.removeMembersFromConsumerGroup("walkers",
            new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("i")))).all());
        print("delete offsets", () -> admin.deleteConsumerGroupOffsets("walkers",
            Set.of(new TopicPartition("plain", 0))).partitionResult(new TopicPartition("plain", 0)));
        print("delete offsets of an unknown partition", () -> admin.deleteConsumerGroupOffsets("walkers",
            Set.of(new TopicPartition("plain", 9))).partitionResult(new TopicPartition("plain", 9)));
        print("delete offsets of nobody", () -> admin.deleteConsumerGroupOffsets("nobody",
            Set.of(new TopicPartition("plain", 0))).all());
        print("delete", () -> admin.deleteConsumerGroups(List.of("walkers", "nobody")).deletedGroups());
    }

    private void cluster() {
        print("operations", () -> admin.describeCluster(
            new DescribeClusterOptions().includeAuthorizedOperations(true)).authorizedOperations());
        print("nodes", () -> admin.describeCluster().nodes());
        print("controller", () -> admin.describeCluster().controller());
        TopicPartition there = new TopicPartition("plain", 0);
        TopicPartition gone = new TopicPartition("plain", 9);
        print("elect", () -> admin.electLeaders(ElectionType.PREFERRED, Set.of(there, gone)).partitions());
        print("elect all", () -> admin.electLeaders(ElectionType.UNCLEAN, null).partitions());
        print("reassign", () -> admin.alterPartitionReassignments(Map.of(
            there, Optional.of(new NewPartitionReassignment(List.of(1))),
            gone, Optional.of(new NewPartitionReassignment(List.of(1))))).values());
        print("reassign elsewhere", () -> admin.alterPartitionReassignments(Map.of(
            there, Optional.of(new NewPartitionReassignment(List.of(2))))).values());
        print("reassign to one twice", () -> admin.alterPartitionReassignments(Map.of(
            there, Optional.of(new NewPartitionReassignment(List.of(1, 1))))).values());
        print("cancel", () -> admin.alterPartitionReassignments(Map.of(there, Optional.empty())).values());
        print("reassignments", () -> admin.listPartitionReassignments().reassignments());
        print("reassignments of one", () -> admin.listPartitionReassignments(Set.of(there, gone)).reassignments());
        print("directories of replicas", () -> Arrays.asList(
            admin.describeReplicaLogDirs(List.of(new TopicPartitionReplica("plain", 0, 1))).all()));
        for (String path : List.of(directory, "/elsewhere")) {
            print("move to " + path, () -> admin.alterReplicaLogDirs(
                Map.of(new TopicPartitionReplica("plain", 0, 1), path)).values());
            print("move an unknown one to " + path, () -> admin.alterReplicaLogDirs(
                Map.of(new TopicPartitionReplica("none", 0, 1), path)).values());
        }
        FeatureUpdate lower = new FeatureUpdate((short) 30, FeatureUpdate.UpgradeType.SAFE_DOWNGRADE);
        print("lower a feature", () -> admin.updateFeatures(Map.of("metadata.version", lower), new UpdateFeaturesOptions()).values());
        FeatureUpdate unsafe = new FeatureUpdate((short) 30, FeatureUpdate.UpgradeType.UNSAFE_DOWNGRADE);
        print("lower it whatever is lost",
            () -> admin.updateFeatures(Map.of("metadata.version", unsafe), new UpdateFeaturesOptions()).values());
        print("unregister", () -> admin.unregisterBroker(9).all());
    }
}
