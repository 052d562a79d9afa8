import java.time.Duration;
import java.util.ArrayList;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Transactional producers that live while tools look at them. {@code transaction start NAME BROKER ID KEY=VALUE...} makes one,
 * and begin, send TOPIC COUNT, offsets GROUP TOPIC OFFSET, commit, abort and close follow it: {@code transaction send NAME
 * BROKER TOPIC COUNT}. What fails is printed by the name of its exception.
 */
final class Transactions {
    private static final Map<String, KafkaProducer<String, String>> RUNNING = new ConcurrentHashMap<>();

    static void main(String[] words) {
        String name = words[1] + " " + words[2];
        try {
            act(name, words);
            System.out.println(words[0] + ": done");
        } catch (KafkaException error) {
            System.out.println(words[0] + ": " + error.getClass().getSimpleName());
        }
    }

    @SuppressWarnings("removal")
    private static void act(String name, String[] words) {
        if (words[0].equals("start")) {
            KafkaProducer<String, String> made = producer(words);
            RUNNING.put(name, made);
            made.initTransactions();
            return;
        }
        KafkaProducer<String, String> producer = RUNNING.get(name);
        switch (words[0]) {
            case "begin" -> producer.beginTransaction();
            case "send" -> send(producer, words[3], Integer.parseInt(words[4]));
            case "offsets" -> producer.sendOffsetsToTransaction(
                Map.of(new TopicPartition(words[4], 0), new OffsetAndMetadata(Long.parseLong(words[5]))),
                new ConsumerGroupMetadata(words[3]));
            case "commit" -> producer.commitTransaction();
            case "abort" -> producer.abortTransaction();
            case "close" -> RUNNING.remove(name).close(Duration.ZERO);
            default -> throw new IllegalArgumentException(words[0]);
        }
    }

    private static KafkaProducer<String, String> producer(String[] words) {
        Properties properties = new Properties();
        properties.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, words[2]);
        properties.put(ProducerConfig.TRANSACTIONAL_ID_CONFIG, words[3]);
        properties.put(ProducerConfig.KEY_SERIALIZER_CLASS_CONFIG, StringSerializer.class.getName());
        properties.put(ProducerConfig.VALUE_SERIALIZER_CLASS_CONFIG, StringSerializer.class.getName());
        for (int at = 4; at < words.length; at++) {
            String[] pair = words[at].split("=", 2);
            properties.put(pair[0], pair[1]);
        }
        return new KafkaProducer<>(properties);
    }

    /** A batch each: offsets, and where markers lie, are the same everywhere. */
    private static void send(KafkaProducer<String, String> producer, String topic, int count) {
        for (int number = 0; number < count; number++) {
            var sent = producer.send(new ProducerRecord<>(topic, 0, "key", "value " + number));
            producer.flush();
            try {
                sent.get();
            } catch (java.util.concurrent.ExecutionException failed) {
                System.out.println("send: " + failed.getCause().getClass().getSimpleName());
            } catch (InterruptedException interrupted) {
                Thread.currentThread().interrupt();
            }
        }
    }

    static void closeAll() {
        for (KafkaProducer<String, String> producer : new ArrayList<>(RUNNING.values())) {
            producer.close(Duration.ZERO);
        }
    }

    private Transactions() { }
}
