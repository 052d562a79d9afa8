import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The Java client as a client under test: see harness/process.py for the protocol. */
public final class Client {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final PrintStream OUTPUT = new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);
    private static final long TIMEOUT_S = 30;
    /** Whether its consumers are members of KIP-848's groups. */
    static final boolean IS_NEWER = "consumer".equals(System.getenv("GROUP_PROTOCOL"));

    private final BlockingQueue<JsonNode> commands = new LinkedBlockingQueue<>();
    private final String bootstrap;
    private final String topic;

    private Client(String bootstrap, String topic) {
        this.bootstrap = bootstrap;
        this.topic = topic;
    }

    public static void main(String[] arguments) throws Exception {
        Client client = new Client(arguments[1], arguments[2]);
        Thread reader = new Thread(client::readCommands);
        reader.setDaemon(true);
        reader.start();
        switch (arguments[0]) {
            case "produce" -> client.produce();
            case "consume" -> client.consume(arguments[3]);
            case "transact" -> new Transact(client.bootstrap, client.topic, arguments[3]).run(client.commands);
            default -> client.alone(arguments[3]);
        }
        say(event("closed"));
    }

    private void readCommands() {
        try (BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
            for (String line = input.readLine(); line != null; line = input.readLine()) {
                commands.add(JSON.readTree(line));
            }
        } catch (IOException error) {
            System.err.println(error);
        }
        commands.add(JSON.createObjectNode().put("do", "close"));
    }

    static ObjectNode event(String name) {
        return JSON.createObjectNode().put("event", name);
    }

    static void say(ObjectNode event) {
        OUTPUT.println(event);
    }

    private void produce() throws Exception {
        Map<String, KafkaProducer<byte[], byte[]>> producers = new HashMap<>();
        for (JsonNode command = commands.take(); !is(command, "close"); command = commands.take()) {
            if (is(command, "create")) {
                try (Admin admin = Admin.create(Map.<String, Object>of("bootstrap.servers", bootstrap))) {
                    NewTopic created = new NewTopic(topic, command.get("partitions").asInt(), (short) 1);
                    admin.createTopics(List.of(created)).all().get(TIMEOUT_S, TimeUnit.SECONDS);
                }
                say(event("created"));
            } else {
                say(send(producers.computeIfAbsent(command.get("codec").asText(), this::producer), command));
            }
        }
        producers.values().forEach(KafkaProducer::close);
    }

    private KafkaProducer<byte[], byte[]> producer(String codec) {
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "compression.type", codec);
        return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private ObjectNode send(KafkaProducer<byte[], byte[]> producer, JsonNode command) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (JsonNode record : command.get("records")) {
            ProducerRecord<byte[], byte[]> one = new ProducerRecord<>(
                topic, record.get("partition").asInt(), record.get("timestamp").asLong(), bytes(record.get("key")), bytes(record.get("value")));
            for (JsonNode header : record.get("headers")) {
                one.headers().add(header.get(0).asText(), bytes(header.get(1)));
            }
            sent.add(producer.send(one));
        }
        ObjectNode produced = event("produced");
        ArrayNode offsets = produced.putArray("offsets");
        for (Future<RecordMetadata> one : sent) {
            offsets.add(one.get(TIMEOUT_S, TimeUnit.SECONDS).offset());
        }
        return produced;
    }

    private void consume(String group) throws Exception {
        Map<String, Object> settings = new HashMap<>(Map.of(
            "bootstrap.servers", bootstrap, "group.id", group, "auto.offset.reset", "earliest",
            "enable.auto.commit", false));
        if (IS_NEWER) {
            settings.put("group.protocol", "consumer");
        } else {
            // Of KIP-848's groups the broker says how often.
            settings.put("heartbeat.interval.ms", 300);
        }
        Map<Integer, Long> positions = new HashMap<>();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> revoked) {
                    TreeSet<Integer> kept = partitions(consumer.assignment());
                    kept.removeAll(partitions(revoked));
                    sayAssigned(kept);
                }

                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> added) {
                    sayAssigned(partitions(consumer.assignment()));
                }
            });
            while (true) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                    positions.put(record.partition(), record.offset() + 1);
                    sayRecord(record);
                }
                JsonNode command = commands.poll();
                if (command != null && is(command, "close")) {
                    return;
                }
                if (command != null) {
                    commit(consumer, positions);
                }
            }
        }
    }

    private void commit(KafkaConsumer<byte[], byte[]> consumer, Map<Integer, Long> positions) {
        Map<TopicPartition, OffsetAndMetadata> read = new HashMap<>();
        for (TopicPartition partition : consumer.assignment()) {
            if (positions.containsKey(partition.partition())) {
                read.put(partition, new OffsetAndMetadata(positions.get(partition.partition())));
            }
        }
        consumer.commitSync(read);
        ObjectNode committed = event("committed");
        ObjectNode offsets = committed.putObject("offsets");
        consumer.committed(consumer.assignment()).forEach((partition, offset) -> {
            if (offset != null) {
                offsets.put(String.valueOf(partition.partition()), offset.offset());
            }
        });
        say(committed);
    }

    private void alone(String other) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, other);
        try (Admin admin = Admin.create(Map.<String, Object>of("bootstrap.servers", bootstrap))) {
            for (JsonNode command = commands.take(); !is(command, "close"); command = commands.take()) {
                switch (command.get("do").asText()) {
                    case "create" -> {
                        NewTopic created = new NewTopic(other, command.get("partitions").asInt(), (short) 1).configs(settings(command));
                        admin.createTopics(List.of(created)).all().get(TIMEOUT_S, TimeUnit.SECONDS);
                        say(event("created"));
                    }
                    case "list" -> {
                        ObjectNode listed = event("listed");
                        ArrayNode topics = listed.putArray("topics");
                        admin.listTopics().names().get(TIMEOUT_S, TimeUnit.SECONDS).forEach(topics::add);
                        say(listed);
                    }
                    case "describe" -> {
                        ObjectNode described = event("described");
                        TopicDescription description =
                            admin.describeTopics(List.of(other)).allTopicNames().get(TIMEOUT_S, TimeUnit.SECONDS).get(other);
                        Config config = admin.describeConfigs(List.of(resource)).all().get(TIMEOUT_S, TimeUnit.SECONDS).get(resource);
                        described.put("partitions", description.partitions().size());
                        ObjectNode settings = described.putObject("settings");
                        for (JsonNode name : command.get("settings")) {
                            settings.put(name.asText(), config.get(name.asText()).value());
                        }
                        say(described);
                    }
                    case "alter" -> {
                        List<AlterConfigOp> changes = new ArrayList<>();
                        settings(command).forEach((name, value) ->
                            changes.add(new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET)));
                        admin.incrementalAlterConfigs(Map.of(resource, changes)).all().get(TIMEOUT_S, TimeUnit.SECONDS);
                        say(event("altered"));
                    }
                    case "delete" -> {
                        admin.deleteTopics(List.of(other)).all().get(TIMEOUT_S, TimeUnit.SECONDS);
                        say(event("deleted"));
                    }
                    default -> seek(command);
                }
            }
        }
    }

    private static Map<String, String> settings(JsonNode command) {
        Map<String, String> settings = new HashMap<>();
        JsonNode given = command.get("settings");
        given.fieldNames().forEachRemaining(name -> settings.put(name, given.get(name).asText()));
        return settings;
    }

    private void seek(JsonNode command) {
        TopicPartition partition = new TopicPartition(topic, command.get("partition").asInt());
        OffsetAndTimestamp found;
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "enable.auto.commit", false);
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            found = consumer.offsetsForTimes(Map.of(partition, command.get("timestamp").asLong())).get(partition);
            if (found != null) {
                consumer.assign(List.of(partition));
                consumer.seek(partition, found.offset());
                for (int left = command.get("count").asInt(); left > 0; ) {
                    for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                        sayRecord(record);
                        left--;
                    }
                }
            }
        }
        say(event("sought").put("offset", found == null ? null : found.offset()));
    }

    private static TreeSet<Integer> partitions(Collection<TopicPartition> partitions) {
        TreeSet<Integer> numbers = new TreeSet<>();
        partitions.forEach(partition -> numbers.add(partition.partition()));
        return numbers;
    }

    private static void sayAssigned(Collection<Integer> partitions) {
        ObjectNode assigned = event("assigned");
        ArrayNode numbers = assigned.putArray("partitions");
        partitions.forEach(numbers::add);
        say(assigned);
    }

    private static void sayRecord(ConsumerRecord<byte[], byte[]> record) {
        ObjectNode told = event("record");
        told.put("partition", record.partition()).put("offset", record.offset()).put("timestamp", record.timestamp());
        told.put("key", record.key()).put("value", record.value());
        ArrayNode headers = told.putArray("headers");
        for (Header header : record.headers()) {
            headers.addArray().add(header.key()).add(header.value());
        }
        say(told);
    }

    private static byte[] bytes(JsonNode node) throws IOException {
        return node.isNull() ? null : node.binaryValue();
    }

    static boolean is(JsonNode command, String what) {
        return command.get("do").asText().equals(what);
    }
}
