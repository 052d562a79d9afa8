// manylimit: what many small producers over many partitions cost at the least, for tests/bench/peers.py.
//
//   manylimit -l PORT -p PARTITIONS [-f FILE]
//
// Under the load of partition_load: one thread receives what its connections have, checks each batch's CRC, writes what came
// for a partition in this turn as one piece to the partition's region of the file, syncs once for all, and then acknowledges. All
// writes of a turn are O_DIRECT and given to the kernel together. Each region is zeroed AHEAD_BYTES ahead, as a broker's
// segments have to be; at its end it begins anew. Without a file nothing is written: the ceiling of the client.
// Prints `ready`. Spoken are Produce 9 with one batch, and CreateTopics 5, whose answer says nothing.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

enum {
    CONNECTIONS = 256, PARTITIONS_MAX = 10000, BLOCK = 4096, REQUEST_BYTES_MAX = 1 << 20, AHEAD_BYTES = 1 << 20,
    PIECE_BYTES = 2 << 20, ANSWER_BYTES_MAX = 512,
};
enum { PRODUCE = 0, CREATE_TOPICS = 19, PRODUCE_VERSION = 9, CREATE_TOPICS_VERSION = 5 };
enum { CRC_POSITION = 17, CHECKED_FROM = 21 };

typedef struct {
    int handle;
    size_t filled;
    unsigned char *bytes;
    size_t answer_bytes;
    unsigned char answer[ANSWER_BYTES_MAX];
} Connection;

// A partition's region of the file. `end` of it is written, `vouched` is zeroed and synced or written; both of this lap.
typedef struct {
    uint64_t end, vouched;
    unsigned char tail[BLOCK];
    int piece;
} Region;

// What one partition gets in this turn.
typedef struct {
    unsigned char *bytes;
    size_t filled;
    int partition;
} Piece;

static Connection connections[CONNECTIONS];
static Region *regions;
static Piece pieces[CONNECTIONS];
static int piece_count, partitions = 1, file = -1;
static uint64_t region_bytes;
static unsigned char *zeros;
static aio_context_t queue;

static void check(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "manylimit: %s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static void *aligned(size_t bytes) {
    void *memory = NULL;
    check(posix_memalign(&memory, BLOCK, bytes) == 0, "memory");
    memset(memory, 0, bytes);
    return memory;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2")))
#endif
static uint32_t crc32c(const unsigned char *bytes, size_t count) {
    uint32_t crc = ~0u;
#if defined(__x86_64__)
    for (; count >= 8; bytes += 8, count -= 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        crc = (uint32_t)_mm_crc32_u64(crc, word);
    }
    for (; count > 0; bytes++, count--)
        crc = _mm_crc32_u8(crc, *bytes);
#else
    for (; count > 0; bytes++, count--) {
        crc ^= *bytes;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (0x82f63b78u & -(crc & 1));
    }
#endif
    return ~crc;
}

// A request that is read.
typedef struct {
    const unsigned char *at, *end;
} Fields;

static const unsigned char *take(Fields *fields, size_t count) {
    check((size_t)(fields->end - fields->at) >= count, "a request is too short");
    fields->at += count;
    return fields->at - count;
}

static uint64_t big_endian(Fields *fields, int count) {
    uint64_t value = 0;
    const unsigned char *bytes = take(fields, count);
    for (int index = 0; index < count; index++)
        value = value << 8 | bytes[index];
    return value;
}

static uint32_t varint(Fields *fields) {
    uint32_t value = 0;
    for (int shift = 0; shift < 35; shift += 7) {
        unsigned char byte = *take(fields, 1);
        value |= (uint32_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return value;
    }
    check(0, "a number is too long");
    return 0;
}

// A compact string or array's length; nothing is 0.
static uint32_t compact(Fields *fields) {
    uint32_t length = varint(fields);
    return length == 0 ? 0 : length - 1;
}

static void put(Connection *to, const void *bytes, size_t count) {
    check(to->answer_bytes + count <= ANSWER_BYTES_MAX, "an answer is too long");
    memcpy(to->answer + to->answer_bytes, bytes, count);
    to->answer_bytes += count;
}

static void put_zeros(Connection *to, size_t count) {
    static const unsigned char none[16];
    put(to, none, count);
}

// Takes a batch for its partition's piece of this turn.
static void append(int partition, const unsigned char *batch, size_t count) {
    check(partition >= 0 && partition < partitions, "no such partition");
    Region *region = &regions[partition];
    size_t tail = region->end % BLOCK;
    if (region->piece < 0) {
        region->piece = piece_count++;
        Piece *piece = &pieces[region->piece];
        if (piece->bytes == NULL)
            piece->bytes = aligned(PIECE_BYTES);
        piece->partition = partition;
        piece->filled = tail;
        memcpy(piece->bytes, region->tail, tail);
    }
    Piece *piece = &pieces[region->piece];
    check(piece->filled + count + BLOCK <= PIECE_BYTES, "a piece is too long");
    memcpy(piece->bytes + piece->filled, batch, count);
    piece->filled += count;
}

static void produce(Connection *from, Fields fields) {
    Fields at = fields;
    take(&at, compact(&at));
    uint64_t acks = big_endian(&at, 2);
    big_endian(&at, 4);
    check(compact(&at) == 1, "a Produce has one topic here");
    uint32_t name_bytes = compact(&at);
    const unsigned char *name = take(&at, name_bytes);
    check(name_bytes < 100, "a topic's name is too long");
    check(compact(&at) == 1, "a Produce has one partition here");
    uint32_t partition = (uint32_t)big_endian(&at, 4);
    uint32_t count = compact(&at);
    const unsigned char *batch = take(&at, count);
    check(count > CHECKED_FROM, "a batch is too short");
    Fields crc = {batch + CRC_POSITION, batch + CHECKED_FROM};
    check(crc32c(batch + CHECKED_FROM, count - CHECKED_FROM) == big_endian(&crc, 4), "a CRC is wrong");
    if (file >= 0)
        append((int)partition, batch, count);
    if (acks == 0)
        return;
    unsigned char topics = 2, length = (unsigned char)(name_bytes + 1), one = 2, none = 1;
    uint32_t index = htobe32(partition);
    put(from, &topics, 1);
    put(from, &length, 1);
    put(from, name, name_bytes);
    put(from, &one, 1);
    put(from, &index, 4);
    put_zeros(from, 2);  // error code
    put_zeros(from, 8);  // base offset
    put_zeros(from, 16); // append time, log start offset
    put(from, &none, 1); // record errors
    put_zeros(from, 3);  // error message, tags of the partition and of the topic
    put_zeros(from, 5);  // throttle time, tags
}

static void request(Connection *from, const unsigned char *bytes, size_t count) {
    Fields fields = {bytes, bytes + count};
    uint64_t key = big_endian(&fields, 2), version = big_endian(&fields, 2);
    uint32_t correlation = htobe32((uint32_t)big_endian(&fields, 4));
    uint16_t client_bytes = (uint16_t)big_endian(&fields, 2);
    take(&fields, client_bytes == UINT16_MAX ? 0 : client_bytes);
    check(varint(&fields) == 0, "a header has tags");
    size_t start = from->answer_bytes;
    put_zeros(from, 4);
    put(from, &correlation, 4);
    put_zeros(from, 1); // tags
    if (key == PRODUCE && version == PRODUCE_VERSION) {
        produce(from, fields);
    } else {
        check(key == CREATE_TOPICS && version == CREATE_TOPICS_VERSION, "a request that is not spoken here");
        unsigned char none = 1;
        put_zeros(from, 4);
        put(from, &none, 1);
        put_zeros(from, 1);
    }
    uint32_t size = htobe32((uint32_t)(from->answer_bytes - start - 4));
    memcpy(from->answer + start, &size, 4);
}

// Reads once. False if the connection is closed.
static int receive(Connection *from) {
    ssize_t got = read(from->handle, from->bytes + from->filled, REQUEST_BYTES_MAX - from->filled);
    if (got <= 0)
        return 0;
    from->filled += (size_t)got;
    size_t at = 0;
    while (from->filled - at >= 4) {
        Fields head = {from->bytes + at, from->bytes + at + 4};
        size_t size = big_endian(&head, 4);
        check(size + 4 <= REQUEST_BYTES_MAX, "a request is too long");
        if (from->filled - at - 4 < size)
            break;
        request(from, from->bytes + at + 4, size);
        at += 4 + size;
    }
    memmove(from->bytes, from->bytes + at, from->filled - at);
    from->filled -= at;
    return 1;
}

// Gives these writes to the kernel and waits for all.
static void write_all(struct iocb *writes, int count) {
    static struct iocb *given[CONNECTIONS];
    static struct io_event events[CONNECTIONS];
    for (int index = 0; index < count; index++)
        given[index] = &writes[index];
    for (int done = 0; done < count;) {
        long more = syscall(SYS_io_submit, queue, count - done, given + done);
        check(more > 0, "io_submit");
        done += (int)more;
    }
    for (int done = 0; done < count;) {
        long more = syscall(SYS_io_getevents, queue, 1, count - done, events, NULL);
        check(more > 0, "io_getevents");
        for (long index = 0; index < more; index++)
            check(events[index].res == (int64_t)writes[events[index].data].aio_nbytes, "a write");
        done += (int)more;
    }
}

static void plan(struct iocb *to, int index, const void *bytes, size_t count, uint64_t position) {
    memset(to, 0, sizeof *to);
    to->aio_data = (uint64_t)index;
    to->aio_lio_opcode = IOCB_CMD_PWRITE;
    to->aio_fildes = (uint32_t)file;
    to->aio_buf = (uint64_t)(uintptr_t)bytes;
    to->aio_nbytes = count;
    to->aio_offset = (int64_t)position;
}

static void end_turn(void) {
    static struct iocb writes[CONNECTIONS];
    if (piece_count == 0)
        return;
    // Zeros in front, so that what follows goes into space that was written before.
    int zeroed = 0;
    for (int index = 0; index < piece_count; index++) {
        Piece *piece = &pieces[index];
        Region *region = &regions[piece->partition];
        uint64_t start = region->end / BLOCK * BLOCK;
        if (start + piece->filled + BLOCK > region_bytes) {
            memmove(piece->bytes, piece->bytes + region->end % BLOCK, piece->filled - region->end % BLOCK);
            piece->filled -= region->end % BLOCK;
            region->end = region->vouched = start = 0;
        }
        while (start + piece->filled > region->vouched) {
            check(zeroed < CONNECTIONS, "more zeros than a turn has");
            uint64_t room = region_bytes - region->vouched, count = room < AHEAD_BYTES ? room : AHEAD_BYTES;
            plan(&writes[zeroed], zeroed, zeros, count, region_bytes * (uint64_t)piece->partition + region->vouched);
            region->vouched += count;
            zeroed++;
        }
    }
    write_all(writes, zeroed);
    for (int index = 0; index < piece_count; index++) {
        Piece *piece = &pieces[index];
        Region *region = &regions[piece->partition];
        uint64_t start = region->end / BLOCK * BLOCK;
        size_t blocks = (piece->filled + BLOCK - 1) / BLOCK * BLOCK;
        memset(piece->bytes + piece->filled, 0, blocks - piece->filled);
        plan(&writes[index], index, piece->bytes, blocks, region_bytes * (uint64_t)piece->partition + start);
        region->end = start + piece->filled;
        memcpy(region->tail, piece->bytes + piece->filled / BLOCK * BLOCK, piece->filled % BLOCK);
        region->piece = -1;
    }
    write_all(writes, piece_count);
    check(fdatasync(file) == 0, "fdatasync");
    piece_count = 0;
}

static void answer_all(const struct epoll_event *ready, int count) {
    for (int index = 0; index < count; index++) {
        Connection *to = ready[index].data.ptr;
        if (to == NULL || to->answer_bytes == 0)
            continue;
        ssize_t sent = send(to->handle, to->answer, to->answer_bytes, MSG_NOSIGNAL);
        check(sent == (ssize_t)to->answer_bytes || errno == EPIPE || errno == ECONNRESET, "an answer");
        to->answer_bytes = 0;
    }
}

static void admit(int listener, int poll) {
    int handle = accept(listener, NULL, NULL), yes = 1;
    check(handle >= 0, "accept");
    for (int index = 0; index < CONNECTIONS; index++) {
        Connection *connection = &connections[index];
        if (connection->handle > 0)
            continue;
        connection->handle = handle;
        connection->filled = connection->answer_bytes = 0;
        if (connection->bytes == NULL)
            connection->bytes = aligned(REQUEST_BYTES_MAX);
        setsockopt(handle, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = connection};
        check(epoll_ctl(poll, EPOLL_CTL_ADD, handle, &wanted) == 0, "epoll_ctl");
        return;
    }
    close(handle);
}

int main(int argc, char **argv) {
    int port = 0, option;
    while ((option = getopt(argc, argv, "l:p:f:")) != -1) {
        if (option == 'l') {
            port = atoi(optarg);
        } else if (option == 'p') {
            partitions = atoi(optarg);
        } else if (option == 'f') {
            file = open(optarg, O_WRONLY | O_DIRECT);
            check(file >= 0, optarg);
        } else {
            return 2;
        }
    }
    check(partitions > 0 && partitions <= PARTITIONS_MAX, "-p");
    regions = calloc((size_t)partitions, sizeof *regions);
    check(regions != NULL, "memory");
    for (int index = 0; index < partitions; index++)
        regions[index].piece = -1;
    if (file >= 0) {
        off_t bytes = lseek(file, 0, SEEK_END);
        region_bytes = (uint64_t)bytes / (uint64_t)partitions / BLOCK * BLOCK;
        check(region_bytes >= PIECE_BYTES, "the file is too small");
        zeros = aligned(AHEAD_BYTES);
        check(syscall(SYS_io_setup, CONNECTIONS, &queue) == 0, "io_setup");
    }
    int listener = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0), yes = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    check(bind(listener, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    check(listen(listener, CONNECTIONS) == 0, "listen");
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = NULL};
    check(epoll_ctl(poll, EPOLL_CTL_ADD, listener, &wanted) == 0, "epoll_ctl");
    printf("ready 127.0.0.1:%d\n", port);
    fflush(stdout);
    for (;;) {
        struct epoll_event ready[CONNECTIONS];
        int count = epoll_wait(poll, ready, CONNECTIONS, -1);
        for (int index = 0; index < count; index++) {
            Connection *connection = ready[index].data.ptr;
            if (connection == NULL) {
                admit(listener, poll);
            } else if (!receive(connection)) {
                close(connection->handle);
                connection->handle = 0;
                connection->answer_bytes = 0;
            }
        }
        end_turn();
        answer_all(ready, count);
    }
}
