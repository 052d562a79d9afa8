import java.time.Duration;
import java.util.Arrays;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.StreamJoined;

/**
 * One instance of a word count and a join, exactly once: {@code ExactlyOnce BOOTSTRAP APPLICATION STATE_DIR INSTANCE}, until it
 * is killed. The words of once-lines are counted in once-counts, every count told; what comes with the same key in once-left and
 * once-right is joined in once-pairs, whichever was first.
 */
public final class ExactlyOnce {
    private static final Duration WINDOW = Duration.ofDays(1);

    public static void main(String[] arguments) {
        KafkaStreams streams = new KafkaStreams(topology().build(), settings(arguments));
        streams.setStateListener((now, before) -> System.out.println(now));
        // A thread that lost its broker for too long, or its place in the group, is replaced by another.
        streams.setUncaughtExceptionHandler(error -> {
            System.out.println(error);
            return StreamThreadExceptionResponse.REPLACE_THREAD;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }

    private static Properties settings(String[] arguments) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[1]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[2]);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        settings.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
        // Without a cache every count of every word is told.
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
        settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        settings.put(StreamsConfig.consumerPrefix("heartbeat.interval.ms"), 300);
        settings.put(StreamsConfig.consumerPrefix("session.timeout.ms"), 6000);
        // An instance that comes back has its partitions at once.
        settings.put(StreamsConfig.consumerPrefix("group.instance.id"), arguments[3]);
        return settings;
    }

    private static StreamsBuilder topology() {
        StreamsBuilder builder = new StreamsBuilder();
        builder.<String, String>stream("once-lines")
            .flatMapValues(line -> Arrays.asList(line.split(" ")))
            .groupBy((key, word) -> word, Grouped.as("by-word"))
            .count(Materialized.as("counts"))
            .toStream()
            .mapValues(String::valueOf)
            .to("once-counts", Produced.with(Serdes.String(), Serdes.String()));
        KStream<String, String> right = builder.stream("once-right");
        builder.<String, String>stream("once-left")
            .join(right, (one, other) -> one + " and " + other, JoinWindows.ofTimeDifferenceWithNoGrace(WINDOW),
                StreamJoined.<String, String, String>as("joined"))
            .to("once-pairs");
        return builder;
    }

    private ExactlyOnce() {}
}
