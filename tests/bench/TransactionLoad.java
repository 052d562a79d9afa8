import java.util.Arrays;
import java.util.Map;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * One transactional producer of Java's client, which goes from one transaction to the next: {@code TransactionLoad BOOTSTRAP TOPIC
 * ID RECORDS BYTES SECONDS}. What it measures and prints is told in transactions.c; it has no consumer.
 */
public final class TransactionLoad {
    /** The JIT compiler has seen the loop by then. */
    private static final int WARM = 100;
    private static final int TRANSACTIONS_MAX = 1 << 20;

    private final KafkaProducer<byte[], byte[]> producer;
    private final String topic;
    private final int records;
    private final byte[] value;
    private final long[] commits = new long[TRANSACTIONS_MAX];
    private final long[] wholes = new long[TRANSACTIONS_MAX];

    private TransactionLoad(String[] arguments) {
        Map<String, Object> settings = Map.of("bootstrap.servers", arguments[0], "transactional.id", arguments[2]);
        producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
        topic = arguments[1];
        records = Integer.parseInt(arguments[3]);
        value = new byte[Integer.parseInt(arguments[4])];
    }

    public static void main(String[] arguments) throws Exception {
        TransactionLoad load = new TransactionLoad(arguments);
        load.producer.initTransactions();
        for (int number = 0; number < WARM; number++) {
            load.transact(0);
        }
        System.out.println("{\"ready\":true}");
        if (System.in.read() < 0) {
            throw new IllegalStateException("a line was expected");
        }
        long start = System.nanoTime();
        long length = (long) (Double.parseDouble(arguments[5]) * 1e9);
        int count = 0;
        while (System.nanoTime() - start < length && count < TRANSACTIONS_MAX) {
            load.transact(count++);
        }
        load.print(count, (System.nanoTime() - start) / 1e9);
        load.producer.close();
    }

    private void transact(int number) {
        long begun = System.nanoTime();
        producer.beginTransaction();
        for (int record = 0; record < records; record++) {
            producer.send(new ProducerRecord<>(topic, 0, null, value));
        }
        producer.flush();
        long called = System.nanoTime();
        // It fails if one of the records was refused.
        producer.commitTransaction();
        long done = System.nanoTime();
        commits[number] = done - called;
        wholes[number] = done - begun;
    }

    private void print(int count, double seconds) {
        Arrays.sort(commits, 0, count);
        Arrays.sort(wholes, 0, count);
        System.out.printf(
            "{\"committed\":%d,\"seconds\":%.3f,\"commits_per_s\":%.1f,\"commit_p50_ms\":%.3f,\"commit_p99_ms\":%.3f,\"whole_p50_ms\":%.3f}%n",
            count, seconds, count / seconds, commits[count / 2] / 1e6, commits[count * 99 / 100] / 1e6, wholes[count / 2] / 1e6);
    }
}
