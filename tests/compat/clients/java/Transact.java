import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** The Java client as a transactional producer: see harness/process.py, role transact. */
final class Transact {
    private static final long TIMEOUT_S = 30;
    private static final Duration POLL = Duration.ofMillis(100);

    private final String bootstrap;
    private final String topic;
    private final KafkaProducer<String, String> producer;
    /** The one that copied in this transaction. */
    private KafkaConsumer<String, String> consumer;

    Transact(String bootstrap, String topic, String id) {
        this.bootstrap = bootstrap;
        this.topic = topic;
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "transactional.id", id);
        producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
    }

    void run(BlockingQueue<JsonNode> commands) throws Exception {
        producer.initTransactions();
        Client.say(Client.event("ready"));
        for (JsonNode command = commands.take(); !Client.is(command, "close"); command = commands.take()) {
            Client.say(obey(command));
        }
        producer.close();
    }

    private ObjectNode obey(JsonNode command) throws Exception {
        switch (command.get("do").asText()) {
            case "begin":
                producer.beginTransaction();
                return Client.event("begun");
            case "send":
                send(command.get("topic").asText(), command.get("values"));
                return Client.event("sent");
            case "copy":
                return copy(command.get("source").asText(), command.get("group").asText(), command.get("count").asInt());
            case "read":
                return read(command.get("level").asText(), command.get("partitions").asInt(), command.get("until").asText());
            default:
                return end(Client.is(command, "commit"));
        }
    }

    private ObjectNode end(boolean isCommit) {
        try {
            if (isCommit) {
                producer.commitTransaction();
            } else {
                producer.abortTransaction();
            }
            return Client.event("ended");
        } catch (ProducerFencedException | InvalidProducerEpochException error) {
            return Client.event("fenced");
        } finally {
            if (consumer != null) {
                consumer.close();
                consumer = null;
            }
        }
    }

    private void send(String to, JsonNode values) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (JsonNode value : values) {
            sent.add(producer.send(new ProducerRecord<>(to, value.get(0).asInt(), null, value.get(1).asText())));
        }
        producer.flush();
        for (Future<RecordMetadata> one : sent) {
            one.get(TIMEOUT_S, TimeUnit.SECONDS);
        }
    }

    private KafkaConsumer<String, String> reader(String level, String group, int recordsMax) {
        Map<String, Object> settings = new HashMap<>(Map.of(
            "bootstrap.servers", bootstrap, "group.id", group, "auto.offset.reset", "earliest", "enable.auto.commit", false,
            "isolation.level", level, "max.poll.records", recordsMax));
        if (Client.IS_NEWER) {
            settings.put("group.protocol", "consumer");
        }
        return new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
    }

    private ObjectNode copy(String source, String group, int count) throws Exception {
        consumer = reader("read_committed", group, count);
        consumer.subscribe(List.of(source));
        ObjectNode copied = Client.event("copied");
        ArrayNode values = copied.putArray("values");
        Map<TopicPartition, OffsetAndMetadata> positions = new HashMap<>();
        while (values.size() < count) {
            for (ConsumerRecord<String, String> record : consumer.poll(POLL)) {
                if (values.size() < count) {
                    values.addArray().add(record.partition()).add(record.value());
                    positions.put(new TopicPartition(source, record.partition()), new OffsetAndMetadata(record.offset() + 1));
                }
            }
        }
        send(topic, values);
        producer.sendOffsetsToTransaction(positions, consumer.groupMetadata());
        return copied;
    }

    private ObjectNode read(String level, int partitions, String until) {
        ObjectNode read = Client.event("read");
        ArrayNode values = read.putArray("values");
        Set<TopicPartition> left = new HashSet<>();
        for (int partition = 0; partition < partitions; partition++) {
            left.add(new TopicPartition(topic, partition));
        }
        try (KafkaConsumer<String, String> reader = reader(level, "reads", 500)) {
            reader.assign(left);
            reader.seekToBeginning(left);
            while (!left.isEmpty()) {
                for (ConsumerRecord<String, String> record : reader.poll(POLL)) {
                    TopicPartition partition = new TopicPartition(topic, record.partition());
                    if (left.contains(partition)) {
                        values.addArray().add(record.partition()).add(record.value());
                        if (record.value().equals(until)) {
                            left.remove(partition);
                        }
                    }
                }
            }
        }
        return read;
    }
}
