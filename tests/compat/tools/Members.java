import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Members of groups that live while tools look at them: {@code member start NAME BROKER TOPIC KEY=VALUE...} returns when the
 * member has partitions and has committed (a topic that begins with {@code ~} is an expression), {@code member stop NAME BROKER} when it has left, {@code member rest GROUP BROKER N}
 * when the group has N members and all of them have what they are to have.
 */
final class Members {
    private static final int PATIENCE_S = 60;
    private static final Map<String, Members> RUNNING = new ConcurrentHashMap<>();

    private final AtomicBoolean isOver = new AtomicBoolean();
    private final CountDownLatch isAssigned = new CountDownLatch(1);
    private final Thread thread;

    static void main(String[] arguments) throws InterruptedException {
        String name = arguments[1] + " " + arguments[2];
        if (arguments[0].equals("stop")) {
            RUNNING.remove(name).close();
            return;
        }
        if (arguments[0].equals("rest")) {
            rest(arguments[1], arguments[2], Integer.parseInt(arguments[3]));
            return;
        }
        Properties properties = new Properties();
        properties.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[2]);
        properties.put(ConsumerConfig.KEY_DESERIALIZER_CLASS_CONFIG, StringDeserializer.class.getName());
        properties.put(ConsumerConfig.VALUE_DESERIALIZER_CLASS_CONFIG, StringDeserializer.class.getName());
        properties.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        // What is committed first stays, however long it takes to look at it.
        properties.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, "false");
        for (int at = 4; at < arguments.length; at++) {
            String[] pair = arguments[at].split("=", 2);
            properties.put(pair[0], pair[1]);
        }
        Members member = new Members(arguments[3], properties);
        RUNNING.put(name, member);
        if (!member.isAssigned.await(PATIENCE_S, TimeUnit.SECONDS)) {
            throw new IllegalStateException(name + " got no partitions");
        }
    }

    private static void rest(String group, String broker, int members) throws InterruptedException {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_S);
        try (Admin admin = Admin.create(Map.of(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, broker))) {
            while (true) {
                try {
                    ConsumerGroupDescription told =
                        admin.describeConsumerGroups(List.of(group)).describedGroups().get(group).get();
                    boolean areAll = told.members().stream().noneMatch(one -> one.assignment().topicPartitions().isEmpty());
                    if (told.groupState() == GroupState.STABLE && told.members().size() == members && areAll) {
                        return;
                    }
                } catch (ExecutionException error) {
                    // It may be on its way from one protocol to the other.
                }
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException(group + " does not come to rest");
                }
                Thread.sleep(100);
            }
        }
    }

    static void closeAll() throws InterruptedException {
        for (Members member : new ArrayList<>(RUNNING.values())) {
            member.close();
        }
    }

    private Members(String topic, Properties properties) {
        thread = new Thread(() -> {
            try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(properties)) {
                if (topic.startsWith("~")) {
                    consumer.subscribe(new SubscriptionPattern(topic.substring(1)));
                } else {
                    consumer.subscribe(List.of(topic));
                }
                while (!isOver.get()) {
                    consumer.poll(Duration.ofMillis(100));
                    if (isAssigned.getCount() > 0 && !consumer.assignment().isEmpty()) {
                        Map<org.apache.kafka.common.TopicPartition, org.apache.kafka.clients.consumer.OffsetAndMetadata> first =
                            new HashMap<>();
                        consumer.assignment().forEach(one ->
                            first.put(one, new org.apache.kafka.clients.consumer.OffsetAndMetadata(1L)));
                        consumer.commitSync(first);
                        isAssigned.countDown();
                    }
                }
            }
        });
        thread.setDaemon(true);
        thread.start();
    }

    private void close() throws InterruptedException {
        isOver.set(true);
        thread.join(1000L * PATIENCE_S);
    }
}
