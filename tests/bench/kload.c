// kload: a load generator on librdkafka that loads every broker the same way, and prints one line of JSON.
//
//   kload produce  -b HOST:PORT -t TOPIC -n COUNT -s BYTES [-P PARTITIONS] [-X name=value]...
//   kload consume  -b HOST:PORT -t TOPIC -n COUNT [-P PARTITIONS] [-X name=value]...
//   kload latency  -b HOST:PORT -t TOPIC -n COUNT -s BYTES -r RATE [-X producer name=value]... [-Y consumer name=value]...
//
// produce sends as fast as the broker takes it, and measures from each call of produce() to its acknowledgement.
// It fills one partition after the other with STICKY_RECORDS records (default: partition 0 alone).
// consume assigns the partitions from their beginning and reads COUNT records.
// latency sends at a steady RATE while a consumer of the same process reads. Its records carry the time at which they
// were due, not at which they were sent, so a stall of the broker counts for every record that waited behind it. Above
// 2,000 a second the records of each half millisecond are due together.
//
// Exit code 0 only if every record was acknowledged, or read.
#define _GNU_SOURCE
#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { SETTINGS_MAX = 32, VALUE_BYTES_MAX = 1 << 20, PAYLOAD_SPREAD = 4096, MESSAGES_AT_ONCE = 10000 };
enum { STICKY_RECORDS = 128, PARTITIONS_MAX = 10000, TICKS_PER_SECOND = 2000 };
static const uint64_t SECOND_NS = 1000000000;
static const uint64_t GIVE_UP_NS = 60 * SECOND_NS;

typedef struct {
    uint32_t *micros;
    atomic_ulong count;
} Latencies;

static const char *bootstrap = "127.0.0.1:9092", *topic = "kload";
static uint64_t wanted = 1000000;
static size_t value_bytes = 1024;
static int partitions = 1;
static double rate = 1000;
static char *producer_settings[SETTINGS_MAX], *consumer_settings[SETTINGS_MAX];
static int producer_setting_count, consumer_setting_count;

static Latencies acknowledged, consumed;
static atomic_ulong failed_count;
static _Atomic uint64_t last_acknowledged_ns;
static atomic_int consumer_is_ready, is_over;
static char payload[VALUE_BYTES_MAX + PAYLOAD_SPREAD];

static uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * SECOND_NS + (uint64_t)time.tv_nsec;
}

static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void die(const char *what, const char *why) {
    fprintf(stderr, "kload: %s: %s\n", what, why);
    exit(2);
}

static void note(Latencies *latencies, uint64_t since_ns, uint64_t until_ns) {
    uint64_t micros = (until_ns - since_ns) / 1000;
    uint64_t index = atomic_fetch_add(&latencies->count, 1);
    if (index < wanted)
        latencies->micros[index] = micros > UINT32_MAX ? UINT32_MAX : (uint32_t)micros;
}

static int compare(const void *left, const void *right) {
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return a < b ? -1 : a > b;
}

static void print_latencies(const char *name, Latencies *latencies) {
    uint64_t count = atomic_load(&latencies->count);
    if (count > wanted)
        count = wanted;
    if (count == 0)
        return;
    qsort(latencies->micros, count, sizeof *latencies->micros, compare);
    const struct { const char *name; double part; } shown[] = {{"p50", 0.5}, {"p99", 0.99}, {"p999", 0.999}};
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        printf(",\"%s_%s_ms\":%.3f", name, shown[i].name,
               latencies->micros[(uint64_t)((double)count * shown[i].part)] / 1e3);
    printf(",\"%s_max_ms\":%.3f", name, latencies->micros[count - 1] / 1e3);
}

static void on_delivery(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque) {
    (void)client, (void)opaque;
    if (message->err) {
        if (atomic_fetch_add(&failed_count, 1) == 0)
            fprintf(stderr, "kload: first failure: %s\n", rd_kafka_err2str(message->err));
        return;
    }
    uint64_t now = now_ns();
    note(&acknowledged, (uint64_t)(uintptr_t)message->_private, now);
    atomic_store(&last_acknowledged_ns, now);
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
    char error[512];
    if (rd_kafka_conf_set(conf, name, value, error, sizeof error) != RD_KAFKA_CONF_OK)
        die(name, error);
}

static rd_kafka_t *new_client(rd_kafka_type_t type, char **settings, int count) {
    char error[512], group[64];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", bootstrap);
    if (type == RD_KAFKA_PRODUCER) {
        rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
        set(conf, "queue.buffering.max.kbytes", "32768");
        set(conf, "queue.buffering.max.messages", "1000000");
    } else {
        snprintf(group, sizeof group, "kload-%d", getpid());
        set(conf, "group.id", group);
        set(conf, "enable.auto.commit", "false");
        set(conf, "queued.min.messages", "1000000");
    }
    for (int i = 0; i < count; i++) {
        char *value = strchr(settings[i], '=');
        if (!value)
            die(settings[i], "name=value expected");
        *value = 0;
        set(conf, settings[i], value + 1);
        *value = '=';
    }
    rd_kafka_t *client = rd_kafka_new(type, conf, error, sizeof error);
    if (!client)
        die("rd_kafka_new", error);
    return client;
}

static void *poll_until_over(void *producer) {
    while (!atomic_load(&is_over))
        rd_kafka_poll(producer, 10);
    return NULL;
}

// Sends one record that was due at `due_ns`; waits while the producer's queue is full.
static void send_one(rd_kafka_topic_t *handle, int partition, const char *value, uint64_t due_ns) {
    while (rd_kafka_produce(handle, partition, RD_KAFKA_MSG_F_COPY, (void *)(uintptr_t)value, value_bytes, NULL, 0,
                            (void *)(uintptr_t)due_ns) == -1) {
        if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
            die("produce", rd_kafka_err2str(rd_kafka_last_error()));
        usleep(200);
    }
}

static void send_all_at_once(rd_kafka_topic_t *handle) {
    for (uint64_t i = 0; i < wanted; i++)
        send_one(handle, (int)(i / STICKY_RECORDS % (uint64_t)partitions), payload + i * 7 % PAYLOAD_SPREAD, now_ns());
}

static void send_at_rate(rd_kafka_topic_t *handle, uint64_t start_ns) {
    uint64_t at_once = rate > TICKS_PER_SECOND ? (uint64_t)(rate / TICKS_PER_SECOND + 0.5) : 1, due = start_ns;
    for (uint64_t i = 0; i < wanted; i++) {
        if (i % at_once == 0) {
            due = start_ns + (uint64_t)((double)i * 1e9 / rate);
            struct timespec time = {(time_t)(due / SECOND_NS), (long)(due % SECOND_NS)};
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
        }
        memcpy(payload, &due, sizeof due);
        send_one(handle, 0, payload, due);
    }
}

static rd_kafka_t *assigned_consumer(int64_t offset, char **settings, int count) {
    rd_kafka_t *consumer = new_client(RD_KAFKA_CONSUMER, settings, count);
    rd_kafka_poll_set_consumer(consumer);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
    for (int partition = 0; partition < partitions; partition++)
        rd_kafka_topic_partition_list_add(list, topic, partition)->offset = offset;
    rd_kafka_assign(consumer, list);
    rd_kafka_topic_partition_list_destroy(list);
    return consumer;
}

// Reads until everything has come that was acknowledged.
static void *consume_for_latency(void *unused) {
    (void)unused;
    rd_kafka_t *consumer = assigned_consumer(RD_KAFKA_OFFSET_BEGINNING, consumer_settings, consumer_setting_count);
    // The topic's first record comes before the measured ones: once it is here, the consumer is at the end.
    while (!atomic_load(&is_over)) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer, 50);
        if (!message)
            continue;
        uint64_t due;
        if (!message->err && message->len == 1) {
            atomic_store(&consumer_is_ready, 1);
        } else if (!message->err && message->len >= sizeof due) {
            memcpy(&due, message->payload, sizeof due);
            note(&consumed, due, now_ns());
        }
        rd_kafka_message_destroy(message);
    }
    return NULL;
}

static void send_first_record(rd_kafka_t *producer, rd_kafka_topic_t *handle) {
    char value = 'x';
    rd_kafka_produce(handle, 0, RD_KAFKA_MSG_F_COPY, &value, 1, NULL, 0, (void *)(uintptr_t)now_ns());
    rd_kafka_flush(producer, 30000);
    uint64_t limit = now_ns() + GIVE_UP_NS;
    while (!atomic_load(&consumer_is_ready) && now_ns() < limit)
        usleep(1000);
    atomic_store(&acknowledged.count, 0);
}

static int produce(int is_latency) {
    acknowledged.micros = calloc(wanted, sizeof(uint32_t));
    consumed.micros = calloc(wanted, sizeof(uint32_t));
    if (!acknowledged.micros || !consumed.micros)
        die("memory", "none left");
    rd_kafka_t *producer = new_client(RD_KAFKA_PRODUCER, producer_settings, producer_setting_count);
    rd_kafka_topic_t *handle = rd_kafka_topic_new(producer, topic, NULL);
    const struct rd_kafka_metadata *metadata;
    if (rd_kafka_metadata(producer, 0, handle, &metadata, 10000) == RD_KAFKA_RESP_ERR_NO_ERROR)
        rd_kafka_metadata_destroy(metadata);
    pthread_t poller, consumer;
    if (is_latency) {
        pthread_create(&consumer, NULL, consume_for_latency, NULL);
        send_first_record(producer, handle);
    }
    pthread_create(&poller, NULL, poll_until_over, producer);
    double cpu = cpu_seconds();
    uint64_t start = now_ns();
    atomic_store(&last_acknowledged_ns, start);
    if (is_latency)
        send_at_rate(handle, start);
    else
        send_all_at_once(handle);
    uint64_t limit = now_ns() + GIVE_UP_NS;
    while (acknowledged.count + failed_count < wanted && now_ns() < limit)
        usleep(500);
    while (is_latency && consumed.count < acknowledged.count && now_ns() < limit)
        usleep(1000);
    double seconds = (double)(atomic_load(&last_acknowledged_ns) - start) / 1e9;
    double bytes = (double)acknowledged.count * (double)value_bytes;
    printf("{\"count\":%lu,\"failed\":%lu,\"bytes\":%.0f,\"seconds\":%.3f,\"mb_per_s\":%.1f,\"client_cpu_s\":%.2f",
           acknowledged.count, failed_count, bytes, seconds, bytes / seconds / 1e6, cpu_seconds() - cpu);
    int is_complete = acknowledged.count == wanted && (!is_latency || consumed.count == wanted);
    print_latencies("ack", &acknowledged);
    print_latencies("end_to_end", &consumed);
    printf("}\n");
    fflush(stdout);
    _exit(is_complete ? 0 : 1);
}

static int consume(void) {
    uint64_t count = 0, bytes = 0, start = now_ns(), last = start;
    rd_kafka_t *consumer = assigned_consumer(RD_KAFKA_OFFSET_BEGINNING, producer_settings, producer_setting_count);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(consumer);
    rd_kafka_message_t **messages = calloc(MESSAGES_AT_ONCE, sizeof *messages);
    while (count < wanted && now_ns() - last < GIVE_UP_NS) {
        ssize_t got = rd_kafka_consume_batch_queue(queue, 100, messages, MESSAGES_AT_ONCE);
        for (ssize_t i = 0; i < got; i++) {
            if (!messages[i]->err) {
                count++;
                bytes += messages[i]->len;
                last = now_ns();
            }
            rd_kafka_message_destroy(messages[i]);
        }
    }
    double seconds = (double)(last - start) / 1e9;
    printf("{\"count\":%lu,\"failed\":0,\"bytes\":%lu,\"seconds\":%.3f,\"mb_per_s\":%.1f,\"client_cpu_s\":%.2f}\n", count,
           bytes, seconds, (double)bytes / seconds / 1e6, cpu_seconds());
    fflush(stdout);
    // Closing would only cost time.
    _exit(count >= wanted ? 0 : 1);
}

int main(int argument_count, char **arguments) {
    int option;
    if (argument_count < 2)
        die("usage", "kload produce|consume|latency -b HOST:PORT -t TOPIC -n COUNT ...");
    optind = 2;
    while ((option = getopt(argument_count, arguments, "b:t:n:s:r:P:X:Y:")) != -1) {
        switch (option) {
        case 'b': bootstrap = optarg; break;
        case 't': topic = optarg; break;
        case 'n': wanted = strtoull(optarg, NULL, 10); break;
        case 's': value_bytes = strtoull(optarg, NULL, 10); break;
        case 'r': rate = atof(optarg); break;
        case 'P': partitions = atoi(optarg); break;
        case 'X':
            if (producer_setting_count == SETTINGS_MAX)
                die("-X", "too many settings");
            producer_settings[producer_setting_count++] = optarg;
            break;
        case 'Y':
            if (consumer_setting_count == SETTINGS_MAX)
                die("-Y", "too many settings");
            consumer_settings[consumer_setting_count++] = optarg;
            break;
        default: return 2;
        }
    }
    if (value_bytes < sizeof(uint64_t) || value_bytes > VALUE_BYTES_MAX || wanted == 0 || rate <= 0)
        die("usage", "a value has 8 bytes to 1 MiB, COUNT and RATE are above 0");
    if (partitions < 1 || partitions > PARTITIONS_MAX)
        die("usage", "there are 1 to 10000 partitions");
    srand(1);
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (char)('A' + rand() % 26);
    if (!strcmp(arguments[1], "consume"))
        return consume();
    if (!strcmp(arguments[1], "produce"))
        return produce(0);
    if (!strcmp(arguments[1], "latency"))
        return produce(1);
    die(arguments[1], "produce, consume or latency expected");
}
