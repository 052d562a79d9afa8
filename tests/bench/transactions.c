// transactions: transactional producers on librdkafka, and a consumer of what they commit. Prints one line of JSON.
//
//   transactions -b HOST:PORT -t TOPIC -p PRODUCERS -r RECORDS -s BYTES -d SECONDS [-i ID] [-X name=value]...
//
// Each producer has a thread, a partition and a transactional id (ID-0, ID-1, ...) of its own, and goes from one transaction to the
// next for SECONDS: it sends RECORDS records, waits until they are acknowledged, and commits. A consumer of
// read_committed reads all partitions; the last record of each transaction carries its number.
//
//   commit    from the call of commit_transaction to its return
//   whole     from begin_transaction to the return of commit_transaction
//   visible   from the call of commit_transaction until the consumer has the transaction's last record
//
// Exit code 0 only if every transaction was committed and seen whole.
#define _GNU_SOURCE
#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SETTINGS_MAX = 16, PRODUCERS_MAX = 64, TRANSACTIONS_MAX = 1 << 20, VALUE_BYTES_MAX = 1 << 16, MESSAGES_AT_ONCE = 10000 };
enum { CALL_TIMEOUT_MS = 60000 };
static const uint64_t SECOND_NS = 1000000000;
static const uint64_t GIVE_UP_NS = 60 * SECOND_NS;

typedef struct {
    uint32_t *micros;
    atomic_ulong count;
} Latencies;

// What the last record of a transaction begins with; other records have a number of 0.
typedef struct {
    uint64_t number;
    uint64_t is_last;
} Mark;

static const char *bootstrap = "127.0.0.1:9092", *topic = "transactions", *id_prefix = "bench";
static int producer_count = 1, record_count = 1, setting_count;
static size_t value_bytes = 1024;
static double seconds = 10;
static char *settings[SETTINGS_MAX];

static Latencies commits, wholes, visibles;
// When each transaction was told to commit, by its number.
static _Atomic uint64_t *called_ns;
static atomic_ulong transaction_count, committed_count, seen_count, seen_records;
static atomic_int are_done, ready_count;
static _Atomic uint64_t start_ns, end_ns;

static uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * SECOND_NS + (uint64_t)time.tv_nsec;
}

static void die(const char *what, const char *why) {
    fprintf(stderr, "transactions: %s: %s\n", what, why);
    exit(2);
}

static void check(const char *what, rd_kafka_error_t *error) {
    if (error)
        die(what, rd_kafka_error_string(error));
}

static void note(Latencies *latencies, uint64_t since_ns, uint64_t until_ns) {
    uint64_t index = atomic_fetch_add(&latencies->count, 1);
    if (index < TRANSACTIONS_MAX)
        latencies->micros[index] = (uint32_t)((until_ns - since_ns) / 1000);
}

static int compare(const void *left, const void *right) {
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return a < b ? -1 : a > b;
}

static void print_latencies(const char *name, Latencies *latencies) {
    uint64_t count = atomic_load(&latencies->count);
    if (count == 0 || count > TRANSACTIONS_MAX)
        return;
    qsort(latencies->micros, count, sizeof *latencies->micros, compare);
    const struct { const char *name; double part; } shown[] = {{"p50", 0.5}, {"p99", 0.99}};
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        printf(",\"%s_%s_ms\":%.3f", name, shown[i].name,
               latencies->micros[(uint64_t)((double)count * shown[i].part)] / 1e3);
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
    char error[512];
    if (rd_kafka_conf_set(conf, name, value, error, sizeof error) != RD_KAFKA_CONF_OK)
        die(name, error);
}

static rd_kafka_t *client(rd_kafka_type_t type, rd_kafka_conf_t *conf) {
    char error[512];
    set(conf, "bootstrap.servers", bootstrap);
    rd_kafka_t *made = rd_kafka_new(type, conf, error, sizeof error);
    if (!made)
        die("rd_kafka_new", error);
    return made;
}

static rd_kafka_t *producer(int number) {
    char id[128];
    snprintf(id, sizeof id, "%s-%d", id_prefix, number);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "transactional.id", id);
    set(conf, "linger.ms", "0");
    for (int i = 0; i < setting_count; i++) {
        char *name = strdup(settings[i]), *value = strchr(name, '=');
        if (!value)
            die(settings[i], "name=value expected");
        *value = 0;
        set(conf, name, value + 1);
        free(name);
    }
    rd_kafka_t *made = client(RD_KAFKA_PRODUCER, conf);
    check("init_transactions", rd_kafka_init_transactions(made, CALL_TIMEOUT_MS));
    return made;
}

static void transact(rd_kafka_t *made, rd_kafka_topic_t *handle, int partition, char *value) {
    uint64_t number = atomic_fetch_add(&transaction_count, 1);
    if (number >= TRANSACTIONS_MAX)
        die("memory", "too many transactions");
    uint64_t begun = now_ns();
    check("begin_transaction", rd_kafka_begin_transaction(made));
    for (int i = 0; i < record_count; i++) {
        Mark mark = {number, i == record_count - 1};
        memcpy(value, &mark, sizeof mark);
        while (rd_kafka_produce(handle, partition, RD_KAFKA_MSG_F_COPY, value, value_bytes, NULL, 0, NULL) == -1) {
            if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
                die("produce", rd_kafka_err2str(rd_kafka_last_error()));
            rd_kafka_poll(made, 1);
        }
    }
    if (rd_kafka_flush(made, CALL_TIMEOUT_MS))
        die("flush", "records were not acknowledged");
    uint64_t called = now_ns();
    atomic_store(&called_ns[number], called);
    check("commit_transaction", rd_kafka_commit_transaction(made, CALL_TIMEOUT_MS));
    uint64_t done = now_ns();
    note(&commits, called, done);
    note(&wholes, begun, done);
    atomic_fetch_add(&committed_count, 1);
}

static void *produce(void *argument) {
    int number = (int)(intptr_t)argument;
    rd_kafka_t *made = producer(number);
    rd_kafka_topic_t *handle = rd_kafka_topic_new(made, topic, NULL);
    char *value = malloc(value_bytes);
    memset(value, 'v', value_bytes);
    atomic_fetch_add(&ready_count, 1);
    while (!atomic_load(&start_ns))
        usleep(100);
    while (now_ns() - start_ns < (uint64_t)(seconds * 1e9))
        transact(made, handle, number, value);
    atomic_store(&end_ns, now_ns());
    return NULL;
}

static void *consume(void *unused) {
    (void)unused;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "group.id", id_prefix);
    set(conf, "isolation.level", "read_committed");
    set(conf, "enable.auto.commit", "false");
    set(conf, "fetch.wait.max.ms", "100");
    rd_kafka_t *consumer = client(RD_KAFKA_CONSUMER, conf);
    rd_kafka_poll_set_consumer(consumer);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(producer_count);
    for (int i = 0; i < producer_count; i++)
        rd_kafka_topic_partition_list_add(list, topic, i)->offset = RD_KAFKA_OFFSET_END;
    rd_kafka_assign(consumer, list);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(consumer);
    rd_kafka_message_t **messages = calloc(MESSAGES_AT_ONCE, sizeof *messages);
    // Where the end is asks each partition's leader; what was there before does not count.
    rd_kafka_consume_batch_queue(queue, 2000, messages, MESSAGES_AT_ONCE);
    atomic_fetch_add(&ready_count, 1);
    while (!atomic_load(&are_done)) {
        ssize_t got = rd_kafka_consume_batch_queue(queue, 5, messages, MESSAGES_AT_ONCE);
        uint64_t now = now_ns();
        for (ssize_t i = 0; i < got; i++) {
            Mark mark;
            if (!messages[i]->err && messages[i]->len >= sizeof mark) {
                memcpy(&mark, messages[i]->payload, sizeof mark);
                atomic_fetch_add(&seen_records, 1);
                if (mark.is_last) {
                    note(&visibles, atomic_load(&called_ns[mark.number]), now);
                    atomic_fetch_add(&seen_count, 1);
                }
            }
            rd_kafka_message_destroy(messages[i]);
        }
    }
    return NULL;
}

static void parse(int argument_count, char **arguments) {
    int option;
    while ((option = getopt(argument_count, arguments, "b:t:p:r:s:d:i:X:")) != -1) {
        switch (option) {
        case 'b': bootstrap = optarg; break;
        case 't': topic = optarg; break;
        case 'p': producer_count = atoi(optarg); break;
        case 'r': record_count = atoi(optarg); break;
        case 's': value_bytes = strtoull(optarg, NULL, 10); break;
        case 'd': seconds = atof(optarg); break;
        case 'i': id_prefix = optarg; break;
        case 'X':
            if (setting_count == SETTINGS_MAX)
                die("-X", "too many settings");
            settings[setting_count++] = optarg;
            break;
        default: die("usage", "transactions -b HOST:PORT -t TOPIC -p PRODUCERS -r RECORDS -s BYTES -d SECONDS");
        }
    }
    if (producer_count < 1 || producer_count > PRODUCERS_MAX || record_count < 1 || seconds <= 0 ||
        value_bytes < sizeof(Mark) || value_bytes > VALUE_BYTES_MAX)
        die("usage", "1 to 64 producers, records of 16 bytes to 64 KiB");
}

int main(int argument_count, char **arguments) {
    parse(argument_count, arguments);
    called_ns = calloc(TRANSACTIONS_MAX, sizeof *called_ns);
    Latencies *all[] = {&commits, &wholes, &visibles};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        all[i]->micros = calloc(TRANSACTIONS_MAX, sizeof(uint32_t));
    pthread_t consumer, producers[PRODUCERS_MAX];
    pthread_create(&consumer, NULL, consume, NULL);
    for (int i = 0; i < producer_count; i++)
        pthread_create(&producers[i], NULL, produce, (void *)(intptr_t)i);
    while (atomic_load(&ready_count) <= producer_count)
        usleep(1000);
    printf("{\"ready\":true}\n");
    fflush(stdout);
    // Whoever watches the broker's CPU looks now, and says when.
    if (getchar() == EOF)
        die("stdin", "a line was expected");
    atomic_store(&start_ns, now_ns());
    for (int i = 0; i < producer_count; i++)
        pthread_join(producers[i], NULL);
    double took = (double)(end_ns - start_ns) / 1e9;
    uint64_t limit = now_ns() + GIVE_UP_NS, records = committed_count * (uint64_t)record_count;
    while (seen_records < records && now_ns() < limit)
        usleep(1000);
    atomic_store(&are_done, 1);
    pthread_join(consumer, NULL);
    printf("{\"committed\":%lu,\"seen\":%lu,\"records\":%lu,\"seconds\":%.3f,\"commits_per_s\":%.1f", committed_count, seen_count,
           seen_records, took, (double)committed_count / took);
    print_latencies("commit", &commits);
    print_latencies("whole", &wholes);
    print_latencies("visible", &visibles);
    printf("}\n");
    fflush(stdout);
    _exit(seen_count == committed_count && seen_records == records ? 0 : 1);
}
